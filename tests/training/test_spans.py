"""When home devices had a part in an attack."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import NAMES
from flowfeatures.addresses import address_bytes
from flowfeatures.records import FLOW_META
from training import spans
from training.spans import AttackSpans

DEVICE, NEIGHBOUR, PEER = (address_bytes(text) for text in ("192.168.1.10", "192.168.1.11", "198.51.100.7"))
SCAN, FLOOD = NAMES.index("scan"), NAMES.index("flood")
HOME = ["192.168.0.0/16"]


def attacks(*flows, src=PEER, dst=DEVICE, label=FLOOD):
    """Records of (start, end) in microseconds."""
    records = np.zeros(len(flows), FLOW_META)
    records["src"], records["dst"] = (np.frombuffer(end, np.uint8) for end in (src, dst))
    records["start_us"], records["end_us"] = np.array(flows).T
    records["label"] = label
    return records


def test_a_device_meets_an_attack_in_either_part_to_the_microsecond():
    met = AttackSpans(HOME)
    met.add(attacks((1_000, 2_000)))
    met.add(attacks((5_000, 6_000), src=DEVICE, dst=PEER, label=SCAN))

    assert met.classes_met(DEVICE, first_us=2_000, last_us=3_000) == {FLOOD}
    assert met.classes_met(DEVICE, first_us=2_001, last_us=4_999) == frozenset()
    assert met.classes_met(DEVICE, first_us=0, last_us=5_000) == {FLOOD, SCAN}
    assert met.classes_met(NEIGHBOUR, first_us=0, last_us=9_000) == frozenset()
    assert met.first_us == {FLOOD: 1_000, SCAN: 5_000}


def test_an_attack_between_two_devices_at_home_is_met_by_both():
    met = AttackSpans(HOME)
    met.add(attacks((1_000, 2_000), src=NEIGHBOUR))

    assert met.classes_met(DEVICE, first_us=0, last_us=9_000) == {FLOOD}
    assert met.classes_met(NEIGHBOUR, first_us=0, last_us=9_000) == {FLOOD}


@pytest.mark.parametrize("merged_from", [100, 1 << 18])
def test_a_flood_fills_no_memory_and_is_met_wherever_a_record_was(monkeypatch, merged_from):
    monkeypatch.setattr(spans, "MERGED_FROM", merged_from)
    at_us = np.sort(np.random.default_rng(1).integers(0, 2_000_000, 20_000))
    met = AttackSpans(HOME)
    for part in np.split(at_us, 20):
        met.add(attacks(*zip(part.tolist(), part.tolist(), strict=True)))

    assert len(met) <= 40
    assert all(met.classes_met(DEVICE, first_us=int(us), last_us=int(us)) for us in at_us[::500])
    assert not met.classes_met(DEVICE, first_us=int(at_us[-1]) + 1, last_us=3_000_000)


def test_of_an_attack_far_from_home_nothing_is_held_but_when_it_began():
    met = AttackSpans(HOME)
    for at_us in range(1_000, 9_000, 1_000):
        met.add(attacks((at_us, at_us), dst=PEER))

    assert met._waiting == []
    assert met.first_us == {FLOOD: 1_000}
