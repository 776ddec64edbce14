"""Who attacks whom, by all evidence of an incident."""

from __future__ import annotations

import dataclasses

import numpy as np

from detection.evidence import Sighting
from detection.tally import MAX_ADDRESSES, MAX_FLOWS, Parties, Tally
from flowfeatures import address_bytes, address_text
from tests.detection.windows import CAMERA, ELSEWHERE, OUTSIDE, PHONE, T0_US, Row, Window, batch_of


def sighting(*rows: Row, severe: bool = False, device: str = CAMERA, group_flows: int = 1) -> Sighting:
    """Return a sighting of at most W rows."""
    batch = batch_of(Window(device, rows))
    return Sighting(
        owner=address_bytes(CAMERA),
        device=address_bytes(device),
        class_index=1,
        score=0.8,
        own_score=0.8,
        threshold=0.5,
        severe=severe,
        due_us=T0_US,
        records=batch.flows[0][: len(rows)],
        attackers=tuple(address_bytes(row.src) for row in rows),
        victims=tuple(address_bytes(row.dst) for row in rows),
        group_flows=np.full(len(rows), group_flows, np.uint32),
        embeddings=np.zeros((len(rows), 4), np.float32),
    )


def parties_of(*sightings_: Sighting) -> Parties:
    tally = Tally()
    for each in sightings_:
        tally.add(each)
    return tally.parties()


def flood(records: int, *, victim: str = CAMERA) -> list[Sighting]:
    """Return sightings of records from as many made-up addresses."""
    return [sighting(Row(f"198.18.{n // 256}.{n % 256}", victim, flow_id=n)) for n in range(records)]


def test_an_address_with_exactly_half_of_the_evidence_is_named():
    parties = parties_of(sighting(Row(OUTSIDE, CAMERA), Row(ELSEWHERE, CAMERA)))

    assert parties.attacker_named
    assert address_text(parties.attacker) == OUTSIDE
    assert parties.attackers == 2


def test_with_less_than_half_the_newest_source_stands_for_many():
    parties = parties_of(sighting(Row(OUTSIDE, CAMERA), Row(ELSEWHERE, CAMERA), Row(PHONE, CAMERA)))

    assert not parties.attacker_named
    assert address_text(parties.attacker) == PHONE
    assert (parties.attackers, parties.victim_named, address_text(parties.victim)) == (3, True, CAMERA)


def test_a_horizontal_scan_names_the_scanner_and_the_newest_target():
    parties = parties_of(sighting(*(Row(CAMERA, f"203.0.113.{n}", flow_id=n) for n in range(5))))

    assert (address_text(parties.attacker), parties.attacker_named) == (CAMERA, True)
    assert (address_text(parties.victim), parties.victim_named, parties.victims) == ("203.0.113.4", False, 5)


def test_the_victim_of_a_flood_from_countless_addresses_stays_named():
    parties = parties_of(*flood(2_000))

    assert (address_text(parties.victim), parties.victim_named) == (CAMERA, True)
    assert (parties.attacker_named, parties.attackers) == (False, MAX_ADDRESSES)


def test_an_attacker_that_comes_late_into_a_flood_is_named_once_it_made_half_of_it():
    late = [sighting(Row(OUTSIDE, CAMERA, flow_id=10_000 + n)) for n in range(1_000)]

    assert not parties_of(*flood(1_000), *late[:-1]).attacker_named
    assert address_text(parties_of(*flood(1_000), *late).attacker) == OUTSIDE


def test_a_source_that_never_finished_a_handshake_is_spoofable():
    assert parties_of(sighting(Row(OUTSIDE, CAMERA))).spoofable
    assert not parties_of(sighting(Row(OUTSIDE, CAMERA)), sighting(Row(OUTSIDE, CAMERA, handshake=True))).spoofable


def test_another_sources_handshake_proves_nothing():
    rows = [Row(OUTSIDE, CAMERA), Row(OUTSIDE, CAMERA), Row(ELSEWHERE, CAMERA, handshake=True)]

    assert parties_of(sighting(*rows, severe=True)).spoofable
    assert not parties_of(sighting(*rows, severe=True)).severe


def test_the_flow_shown_is_the_newest_between_the_two_named():
    rows = [Row(OUTSIDE, CAMERA, flow_id=1), Row(OUTSIDE, CAMERA, flow_id=2), Row(ELSEWHERE, CAMERA, flow_id=3)]

    assert parties_of(sighting(*rows)).flow["flow_id"] == 2


def test_a_flow_counts_once_however_many_records_it_leaves():
    tally = Tally()

    for _ in range(3):
        tally.add(sighting(Row(OUTSIDE, CAMERA, flow_id=1), Row(OUTSIDE, CAMERA, flow_id=2)))

    assert (tally.flows, tally.records) == (2, 6)


def test_flows_folded_between_two_windows_are_counted():
    tally = Tally()

    tally.add(sighting(Row(OUTSIDE, CAMERA, flow_id=1), group_flows=40))  # 39 of them came before the attack was seen
    tally.add(sighting(Row(OUTSIDE, CAMERA, flow_id=2), group_flows=90))

    assert tally.flows == 1 + 50


def test_the_other_ends_window_does_not_count_the_same_flows_again():
    tally = Tally()

    tally.add(sighting(Row(PHONE, CAMERA, flow_id=1), group_flows=1))
    tally.add(sighting(Row(PHONE, CAMERA, flow_id=1), group_flows=1, device=PHONE))
    tally.add(sighting(Row(PHONE, CAMERA, flow_id=2), group_flows=11))
    tally.add(sighting(Row(PHONE, CAMERA, flow_id=2), group_flows=11, device=PHONE))

    assert tally.flows == 11


def test_times_span_all_records():
    tally = Tally()

    tally.add(sighting(Row(OUTSIDE, CAMERA, end_us=T0_US)))
    tally.add(sighting(Row(OUTSIDE, CAMERA, end_us=T0_US - 5_000_000)))

    assert (tally.first_us, tally.last_us) == (T0_US - 5_250_000, T0_US)


def test_an_attacker_silent_for_long_is_shown_with_its_own_flow():
    mine = [sighting(Row(OUTSIDE, CAMERA, flow_id=50_000 + n)) for n in range(600)]

    parties = parties_of(*mine, *flood(500))

    assert (address_text(parties.attacker), parties.attacker_named) == (OUTSIDE, True)
    assert parties.flow["flow_id"] == 50_599


def test_who_answered_has_proved_nothing_by_the_others_handshake():
    answered = sighting(Row(CAMERA, OUTSIDE, handshake=True), severe=True)
    swapped = dataclasses.replace(answered, attackers=answered.victims, victims=answered.attackers)

    parties = parties_of(swapped)

    assert address_text(parties.attacker) == OUTSIDE
    assert parties.spoofable


def test_once_flows_were_forgotten_only_a_first_record_is_a_new_flow():
    tally = Tally()
    for each in flood(MAX_FLOWS + 1):
        tally.add(each)
    returning = sighting(Row(OUTSIDE, CAMERA, flow_id=0))
    returning.records["segment"] = 1

    tally.add(returning)
    assert tally.flows == MAX_FLOWS + 1

    tally.add(sighting(Row(OUTSIDE, CAMERA, flow_id=99_999)))
    assert tally.flows == MAX_FLOWS + 2
    assert type(tally.flows) is int
