"""Who attacks in one flow: its initiator, unless the flow can only be an answer."""

from __future__ import annotations

import pytest

from contracts.classes import NAMES
from detection.orientation import attackers_and_victims
from flowfeatures import WINDOW_COLUMNS, address_text
from tests.detection.windows import CAMERA, OUTSIDE, Row, Window, batch_of


def attacker_of(name: str, *, proto: int = 6, packets: tuple[int, int] = (1, 0), resets: int = 0) -> str:
    """Return who attacks whom in a flow from the camera to an outside address."""
    batch = batch_of(Window(CAMERA, [Row(CAMERA, OUTSIDE)]))
    flow = batch.flows[0, 0]
    flow["proto"], (flow["fwd_packets"], flow["bwd_packets"]) = proto, packets
    batch.values[0, 0, WINDOW_COLUMNS.index("rst_packets")] = resets
    attackers, victims = attackers_and_victims(batch, 0, class_index=NAMES.index(name))
    assert {address_text(attackers[0]), address_text(victims[0])} == {CAMERA, OUTSIDE}
    return address_text(attackers[0])


@pytest.mark.parametrize("name", NAMES[1:])
def test_it_is_the_initiator_of_an_ordinary_flow(name: str):
    assert attacker_of(name, packets=(3, 2)) == CAMERA


def test_a_lone_rst_in_a_scan_answers_the_scanner():
    assert attacker_of("scan", packets=(2, 0), resets=2) == OUTSIDE


@pytest.mark.parametrize(
    ("name", "flow"),
    [
        ("scan", {"packets": (2, 0), "resets": 1}),
        ("scan", {"packets": (1, 1), "resets": 1}),
        ("scan", {"proto": 1, "packets": (1, 0)}),
        ("flood", {"packets": (2, 0), "resets": 2}),
        ("flood", {"proto": 1, "packets": (9, 0)}),
    ],
    ids=["a SYN before the RST", "an answer to it", "a ping sweep", "a flood of RST", "a flood of pings"],
)
def test_it_is_no_answer_where_there_is(name: str, flow: dict):
    assert attacker_of(name, **flow) == CAMERA


@pytest.mark.parametrize("proto", [1, 58])
def test_a_lone_icmp_message_in_a_reflection_complains_to_the_reflector(proto: int):
    assert attacker_of("reflection", proto=proto) == OUTSIDE
