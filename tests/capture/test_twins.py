"""A flow on two interfaces: one of them speaks of it, and a sender cannot use that to hide another flow."""

from __future__ import annotations

import numpy as np

from agent.capture.twins import SAME_START_US, SILENT_US, Twins
from flowfeatures import RECORD, address_bytes

LAN, WAN = 0, 1
T0_US = 1_700_000_000_000_000


def record(
    *, port: int = 40_000, start_us: int = T0_US, left_us: int | None = None, packets: int = 4, back: bool = False
) -> np.ndarray:
    """Return one record of 192.168.1.10 asking 203.0.113.5, or as the other end would have begun it."""
    made = np.zeros(1, RECORD)
    ends = [("192.168.1.10", port), ("203.0.113.5", 53)]
    (src, src_port), (dst, dst_port) = reversed(ends) if back else ends
    made["src"], made["dst"] = (np.frombuffer(address_bytes(each), np.uint8) for each in (src, dst))
    made["src_port"], made["dst_port"], made["proto"] = src_port, dst_port, 17
    made["start_us"], made["left_us"] = start_us, start_us + 250_000 if left_us is None else left_us
    made["fwd_packets"] = packets
    return made


def test_the_interface_that_spoke_first_goes_on_speaking():
    twins = Twins()
    first = twins.kept(record(), interface=LAN)

    twin = twins.kept(record(start_us=T0_US + 40), interface=WAN)
    more = twins.kept(record(packets=8, left_us=T0_US + 10**6), interface=LAN)
    its_twin = twins.kept(record(packets=8, left_us=T0_US + 10**6), interface=WAN)

    assert [len(each) for each in (first, twin, more, its_twin)] == [1, 0, 1, 0]
    assert twins.taken_away == 2


def test_a_twin_is_known_whoever_is_taken_for_its_initiator():
    twins = Twins()
    twins.kept(record(), interface=LAN)

    assert len(twins.kept(record(back=True), interface=WAN)) == 0


def test_other_flows_are_not_touched():
    twins = Twins()
    many = np.concatenate([record(port=port) for port in range(1000, 1200)])
    twins.kept(many, interface=LAN)
    others = np.concatenate([record(port=port) for port in range(1100, 1300)])

    kept = twins.kept(others, interface=WAN)

    # Two flows may fall on one slot, where the newer claim wins: then a twin goes through, never another flow lost.
    assert set(range(1200, 1300)) <= set(kept["src_port"].tolist())
    assert twins.taken_away + len(kept) == 200
    assert twins.taken_away >= 97


def test_the_same_ports_at_another_time_are_another_flow():
    twins = Twins()
    twins.kept(record(), interface=LAN)

    assert len(twins.kept(record(start_us=T0_US + SAME_START_US), interface=WAN)) == 0
    assert len(twins.kept(record(start_us=T0_US + SAME_START_US + 1), interface=WAN)) == 1


def test_a_claim_ends_with_silence():
    claim = record()
    said_us = int(claim["left_us"][0])
    twins = Twins()
    twins.kept(claim, interface=LAN)

    assert len(twins.kept(record(left_us=said_us + SILENT_US), interface=WAN)) == 0
    assert len(twins.kept(record(left_us=said_us + SILENT_US + 1), interface=WAN)) == 1


def test_one_packet_on_one_wire_does_not_silence_a_flow_on_another():
    twins = Twins()
    twins.kept(record(packets=1), interface=LAN)

    kept = twins.kept(record(packets=64), interface=WAN)
    decoy = twins.kept(record(packets=2), interface=LAN)

    assert len(kept) == 1
    assert len(decoy) == 0


def test_the_interface_of_a_flow_can_be_asked_for():
    twins = Twins()
    twins.kept(record(), interface=WAN)

    assert twins.interface_of(record()[0]) == WAN
    assert twins.interface_of(record(port=1)[0]) is None

    twins.forget()

    assert twins.interface_of(record()[0]) is None


def test_memory_is_fixed_and_the_newer_claim_wins():
    twins = Twins(slots=1)
    twins.kept(record(port=1), interface=LAN)
    twins.kept(record(port=2), interface=LAN)

    assert len(twins.kept(record(port=1), interface=WAN)) == 1
    assert len(twins.kept(record(port=2), interface=WAN)) == 1
