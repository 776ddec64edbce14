"""Which records of a window are evidence, and whose incident they belong to."""

from __future__ import annotations

import numpy as np

from contracts.classes import NAMES
from detection.decide import Detection
from detection.evidence import Evidence, find_evidence, sightings
from flowfeatures import DEFAULT_HOME_NETS, WINDOW_COLUMNS, HomeNets, address_text
from tests.detection.windows import CAMERA, ELSEWHERE, OUTSIDE, PHONE, LegibleEngine, Row, Window, batch_of

HOME = HomeNets(DEFAULT_HOME_NETS)
SCAN = {"scan": 0.8}


def detection(name: str = "scan", row: int = 0) -> Detection:
    return Detection(row=row, class_index=NAMES.index(name), score=0.8, threshold=0.5, severe=False)


def everything_of(batch) -> Evidence:
    """Return every record of the first window as evidence."""
    return Evidence(batch.mask[0] > 0, np.zeros((batch.mask.shape[1], 4), np.float32), batch.mask[0])


def evidence_of(*rows: Row) -> list[bool]:
    batch = batch_of(Window(CAMERA, rows))
    return find_evidence(LegibleEngine(), batch, [detection()])[0].made_it.tolist()[: len(rows)]


def seen(window: Window) -> dict[str, list[int]]:
    """Return owner -> flow ids of the sightings of one window."""
    batch = batch_of(window)
    (evidence,) = find_evidence(LegibleEngine(), batch, [detection()])
    found = sightings(batch, detection(), evidence, home=HOME)
    return {address_text(each.owner): each.records["flow_id"].tolist() for each in found}


def test_a_record_with_half_of_the_best_score_is_evidence_and_one_with_less_is_not():
    rows = [Row(OUTSIDE, CAMERA, {"scan": score}) for score in (0.8, 0.4, 0.39)]

    assert evidence_of(*rows) == [True, True, False]


def test_a_record_that_alone_is_benign_is_no_evidence_though_it_is_the_best_of_its_window():
    assert evidence_of(Row(OUTSIDE, CAMERA, {"scan": 0.29}), Row(OUTSIDE, CAMERA, {"scan": 0.25})) == [False, False]
    assert evidence_of(Row(OUTSIDE, CAMERA, {"scan": 0.31}), Row(OUTSIDE, CAMERA, {"scan": 0.25})) == [True, False]


def test_evidence_is_of_the_class_detected_not_of_another():
    assert evidence_of(Row(OUTSIDE, CAMERA, {"scan": 0.8}), Row(OUTSIDE, CAMERA, {"flood": 0.9})) == [True, False]


def test_places_without_a_record_are_never_evidence():
    batch = batch_of(Window(CAMERA, [Row(OUTSIDE, CAMERA, SCAN)]))

    (evidence,) = find_evidence(LegibleEngine(), batch, [detection()])

    assert evidence.made_it.tolist() == [True] + [False] * 15


def test_each_record_is_scored_alone_and_once():
    engine = LegibleEngine()
    batch = batch_of(Window(CAMERA, [Row(OUTSIDE, CAMERA, SCAN)] * 5), Window(PHONE, [Row(OUTSIDE, PHONE, SCAN)] * 3))

    find_evidence(engine, batch, [detection(row=0), detection(row=1)])

    assert engine.windows_scored == 8


def test_old_evidence_with_only_benign_new_records_is_no_sighting():
    old = Row(OUTSIDE, CAMERA, SCAN, is_new=False)

    assert seen(Window(CAMERA, [old, old, Row(CAMERA, ELSEWHERE)])) == {}


def test_only_the_new_records_among_the_evidence_are_sighted():
    old = Row(OUTSIDE, CAMERA, SCAN, flow_id=1, is_new=False)
    new = Row(OUTSIDE, CAMERA, SCAN, flow_id=2)

    assert seen(Window(CAMERA, [old, new, Row(CAMERA, ELSEWHERE, flow_id=3)])) == {CAMERA: [2]}


def test_an_attack_from_outside_belongs_to_the_device_attacked():
    assert seen(Window(CAMERA, [Row(OUTSIDE, CAMERA, SCAN)])) == {CAMERA: [1]}


def test_an_attack_by_another_home_device_belongs_to_the_attacker():
    assert seen(Window(CAMERA, [Row(PHONE, CAMERA, SCAN)])) == {PHONE: [1]}


def test_an_attack_by_the_device_itself_belongs_to_it():
    assert seen(Window(CAMERA, [Row(CAMERA, PHONE, SCAN)])) == {CAMERA: [1]}


def test_two_home_attackers_own_what_each_of_them_did():
    rows = [Row(PHONE, CAMERA, SCAN, flow_id=1), Row("192.168.1.99", CAMERA, SCAN, flow_id=2)]

    assert seen(Window(CAMERA, rows)) == {PHONE: [1], "192.168.1.99": [2]}


def test_a_flood_from_made_up_home_addresses_blames_none_of_them():
    rows = [Row(f"192.168.1.{100 + i}", CAMERA, SCAN, flow_id=i) for i in range(3)]

    assert seen(Window(CAMERA, rows)) == {CAMERA: [0, 1, 2]}


def test_a_flood_folded_into_one_row_tells_how_many_flows_it_stands_for():
    rows = [Row(OUTSIDE, CAMERA, SCAN, repeats=n, flow_id=n) for n in (1, 1, 97)] + [Row(ELSEWHERE, CAMERA, repeats=5)]
    batch = batch_of(Window(CAMERA, rows))

    (sighting,) = sightings(batch, detection(), everything_of(batch), home=HOME)

    assert sighting.group_flows.tolist() == [99, 99, 99, 5]


def test_a_victim_that_only_answers_is_not_blamed():
    batch = batch_of(Window(CAMERA, [Row(CAMERA, PHONE, SCAN, flow_id=4)]))
    batch.flows["fwd_packets"] = 1
    batch.values[0, 0, WINDOW_COLUMNS.index("rst_packets")] = 1

    (sighting,) = sightings(batch, detection(), everything_of(batch), home=HOME)

    assert address_text(sighting.owner) == PHONE
    assert [address_text(each) for each in sighting.attackers + sighting.victims] == [PHONE, CAMERA]
