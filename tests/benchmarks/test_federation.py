"""The octets of a fleet: counted off real messages, so that the sums can be held against single ones."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")

from benchmarks import federation
from benchmarks.federation_bytes import next_release, plain_of, rounds_of
from contracts.bundle import default_bundle
from contracts.bundle_change import changed
from contracts.head import read_head
from contracts.rollout import pack_archive


@pytest.mark.parametrize(
    ("mode", "up"), [("robust", {"update"}), ("private", {"keys", "shares", "masked", "consent", "unmask"})]
)
def test_every_message_of_a_mode_is_counted_as_often_as_it_travels(mode: str, up: set[str]):
    weighed = rounds_of(default_bundle(), mode=mode, gateways=4, rounds=2)

    assert set(weighed.up) == up
    assert {weighed.messages[kind] for kind in up} == {8}
    assert weighed.messages["call with the head"] == 8
    assert weighed.messages["bundle"] == 4
    archive, change = next_release(default_bundle())
    assert weighed.down["bundle"] == 4 * len(change)
    assert changed(change, base=pack_archive(default_bundle())) == archive
    assert weighed.total == sum(weighed.up.values()) + sum(weighed.down.values()) + sum(weighed.around.values())
    assert 60 * sum(weighed.messages.values()) < sum(weighed.around.values()) < 150 * sum(weighed.messages.values())


def test_numbers_in_float32_weigh_at_least_four_octets_each():
    numbers = read_head(default_bundle().model).flat.size
    head = plain_of(default_bundle(), gateways=3, rounds=2)
    network = plain_of(default_bundle(), gateways=3, rounds=2, numbers=10_000)

    assert 4 * numbers * 6 < head.up["weights"] < 8 * numbers * 6
    assert 4 * 10_000 * 6 < network.up["weights"] < 4.2 * 10_000 * 6
    assert "anchors" not in head.down


def test_the_page_holds_what_the_result_says():
    result = federation.measure(gateways=3, rounds=1, runs=0)

    told, page = "\n".join(federation.lines(result)), federation.page(result)

    for name, way in result["ways"].items():
        assert f"{way['total_bytes'] / 1e6:.2f} MB" in told
        assert f"| {name} |" in page
    assert len(result["marks"]) == 4
    assert all(each["met"] for each in result["marks"])
