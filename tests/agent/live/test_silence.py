"""Alarms of silence open once, close once, and do not flutter in between."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from agent.live.silence import InterfaceSight, RecordTally, Silence, SilenceAlarms, SilenceSettings
from flowfeatures import FLOW_META, HomeNets, address_bytes

S = 1_000_000
QUIET_WIRE = SilenceSettings(no_packets_s=30, drop_ratio=0.1, one_way_s=60, home_nets_unseen_s=60)
NOTHING = InterfaceSight(interface="br0", seen=0, dropped=0, one_way=0, two_way=0, sampled=0, strange=0)


class Wire:
    """An interface whose counts grow by so much a second; `said` is what the alarms told, with the second."""

    def __init__(self, settings: SilenceSettings = QUIET_WIRE) -> None:
        self.alarms = SilenceAlarms(settings)
        self.sight = NOTHING
        self.now_s = 0
        self.said: list[tuple[int, str, bool]] = []
        self.texts: list[str] = []

    def go_on(self, seconds: int, **per_s: int) -> Wire:
        for _ in range(seconds):
            self.now_s += 1
            grown = {name: getattr(self.sight, name) + value for name, value in per_s.items()}
            self.sight = dataclasses.replace(self.sight, **grown)
            self.look([self.sight])
        return self

    def look(self, sights: list[InterfaceSight]) -> list[Silence]:
        changes = self.alarms.check(self.now_s * S, sights)
        self.said += [(self.now_s, each.kind, each.is_open) for each in changes]
        self.texts += [each.text for each in changes]
        return changes


HEALTHY = {"seen": 100, "one_way": 1, "two_way": 2, "sampled": 3, "strange": 1}


def test_a_healthy_wire_raises_no_alarm():
    assert Wire().go_on(300, **HEALTHY).said == []


def test_no_packets_is_told_once_after_its_time_and_once_when_they_have_come_for_a_while():
    wire = Wire().go_on(10, **HEALTHY).go_on(100).go_on(100, **HEALTHY)

    assert wire.said == [(40, "no_packets", True), (121, "no_packets", False)]
    assert "no packet for 30 s" in wire.texts[0]


def test_single_packets_in_a_long_silence_neither_close_nor_open_it_again():
    wire = Wire().go_on(10, **HEALTHY).go_on(50)

    for _ in range(10):
        wire.go_on(1, seen=1).go_on(25)

    assert wire.said == [(40, "no_packets", True)]


def test_an_interface_that_never_sees_a_packet_is_silent_too():
    assert Wire().go_on(60).said == [(31, "no_packets", True)]


def test_drops_are_told_at_the_ratio_and_closed_below_half_of_it():
    wire = Wire().go_on(60, **HEALTHY).go_on(60, **HEALTHY, dropped=10)
    opened = list(wire.said)

    wire.go_on(120, **HEALTHY, dropped=6)
    between = list(wire.said)
    wire.go_on(120, **HEALTHY, dropped=4)

    assert [each[1:] for each in opened] == [("drops", True)]
    assert between == opened
    assert [each[1:] for each in wire.said] == [("drops", True), ("drops", False)]
    assert "1" in wire.texts[0]


def test_drops_just_below_the_ratio_are_none():
    assert Wire().go_on(300, seen=1000, dropped=99, two_way=2, sampled=2).said == []


def test_one_direction_only_is_told_after_its_time():
    wire = Wire().go_on(59, seen=10, one_way=5, sampled=5)
    before = list(wire.said)

    wire.go_on(20, seen=10, one_way=5, sampled=5).go_on(60, **HEALTHY)

    assert before == []
    assert [each[1:] for each in wire.said] == [("one_way", True), ("one_way", False)]


def test_a_flood_of_one_direction_beside_a_conversation_is_no_such_alarm():
    assert Wire().go_on(300, seen=10_000, one_way=5_000, two_way=1, sampled=16).said == []


def test_home_networks_that_match_nothing_are_told():
    wire = Wire().go_on(70, seen=10, two_way=5, sampled=5, strange=5)
    opened = list(wire.said)

    wire.go_on(70, seen=10, two_way=5, sampled=5, strange=4)

    assert [each[1:] for each in opened] == [("home_nets", True)]
    assert [each[1:] for each in wire.said[1:]] == [("home_nets", False)]


def test_a_kind_set_to_zero_is_off():
    settings = SilenceSettings(no_packets_s=0, drop_ratio=0, one_way_s=0, home_nets_unseen_s=0)
    wire = Wire(settings).go_on(100, seen=100, dropped=90, one_way=5, sampled=5, strange=5).go_on(1000)

    assert wire.said == []
    assert wire.alarms.open == ()


def test_counts_that_begin_anew_are_no_negative_traffic():
    wire = Wire().go_on(100, **HEALTHY)
    wire.sight = NOTHING

    assert wire.go_on(25, **HEALTHY).said == []


def test_an_interface_no_longer_watched_closes_its_alarms():
    wire = Wire().go_on(60)

    changes = wire.look([])

    assert [(each.kind, each.is_open) for each in changes] == [("no_packets", False)]
    assert wire.alarms.open == ()


def test_interfaces_have_alarms_of_their_own_and_open_ones_are_listed():
    alarms = SilenceAlarms(QUIET_WIRE)
    for now_s in range(60):
        busy = dataclasses.replace(NOTHING, interface="eth1", seen=100 * now_s)
        alarms.check(now_s * S, [NOTHING, busy])

    assert [(each.interface, each.kind) for each in alarms.open] == [("br0", "no_packets")]


def test_memory_does_not_grow_with_time():
    wire = Wire().go_on(5_000, **HEALTHY)

    assert len(wire.alarms._watched["br0"].sights) <= 256


@pytest.mark.parametrize("name", ["no_packets_s", "one_way_s", "home_nets_unseen_s", "drop_ratio"])
def test_settings_out_of_range_are_refused(name: str):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(QUIET_WIRE, **{name: -1})


def test_records_are_tallied_by_direction_and_a_few_by_home():
    records = np.zeros(40, FLOW_META)
    records["src"], records["dst"] = list(address_bytes("203.0.113.5")), list(address_bytes("198.51.100.1"))
    records["fwd_packets"] = 1
    records["bwd_packets"][:10] = 1
    records["group"][30:] = 1
    records["src"][3] = list(address_bytes("192.168.1.5"))
    tally = RecordTally(HomeNets())

    tally.add(records)
    tally.add(records[:0])

    assert tally.sight("br0", seen=7, dropped=1) == InterfaceSight(
        interface="br0", seen=7, dropped=1, one_way=20, two_way=10, sampled=16, strange=15
    )
