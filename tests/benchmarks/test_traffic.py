"""The generated captures: what they hold, and that every machine gets the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks import traffic
from benchmarks.extractors import penstock
from flowfeatures import FlowMeter, open_capture


@pytest.mark.parametrize("kind", traffic.KINDS)
def test_a_capture_is_the_same_bytes_wherever_it_is_made(kind: str, tmp_path: Path):
    first = traffic.capture(kind, packets=500, folder=tmp_path / "a")
    second = traffic.capture(kind, packets=500, folder=tmp_path / "b")

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", traffic.KINDS)
def test_every_packet_of_a_capture_is_decoded(kind: str, tmp_path: Path):
    meter = FlowMeter()
    with open_capture(traffic.capture(kind, packets=2_000, folder=tmp_path)) as capture:
        for _ in meter.read(capture):
            pass

    assert meter.counters["packets"] == meter.counters["decoded"] == 2_000


def test_every_second_packet_of_the_flood_is_a_new_flow(tmp_path: Path):
    capture = traffic.capture("flood", packets=10_000, folder=tmp_path)

    counts = penstock(str(capture))()

    assert (counts["flows"], counts["packets"], counts["evicted"]) == (5_000, 10_000, 0)


def test_the_mixed_capture_has_some_fifteen_packets_to_a_flow(tmp_path: Path):
    capture = traffic.capture("mixed", packets=50_000, folder=tmp_path)

    counts = penstock(str(capture))()

    assert counts["packets"] == counts["decoded"] == 50_000
    assert 13 < counts["packets"] / counts["flows"] < 18


def test_the_flood_is_what_its_list_of_flows_says():
    events = list(traffic.flood(10))

    flows = list(traffic.flood_flows(10))

    assert [now_us for now_us, _ in events[::2]] == [now_us for now_us, *_ in flows]
    for (_, source, port, sequence), (_, syn), (_, answer) in zip(flows, events[::2], events[1::2], strict=True):
        assert syn[26:30] == answer[30:34] == source.to_bytes(4, "big")
        assert syn[34:36] == answer[36:38] == port.to_bytes(2, "big")
        assert syn[38:42] == sequence.to_bytes(4, "big")


def test_the_flood_that_was_measured_before_its_flows_had_a_list_is_the_same(tmp_path: Path):
    """A changed generator would make old and new results incomparable without a word; so it says one here."""
    octets = traffic.capture("flood", packets=1_000, folder=tmp_path).read_bytes()

    assert hashlib.sha256(octets).hexdigest() == "45f507f4912551fb261a15250169a42b5f577fd5770ff7f040a54546a6ef6531"
