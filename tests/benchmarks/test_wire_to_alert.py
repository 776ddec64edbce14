"""The parts of the benchmark that are arithmetic: stages that add up, whose alert it is, what a count allows to say."""

from __future__ import annotations

import math

import pytest

from benchmarks import floods
from benchmarks.alarms import STAGES, Found, Told, ends_of, stages_of
from benchmarks.wire_to_alert import TELNET_10, at_most, is_fast, marked, percentile, plans, summary
from lab.plan import ANY_HOST
from lab.scenario import draw_plan

FIRST_US = 1_000_000
TOLD = Told(
    at_us=FIRST_US + 900_000,
    alert_id="a",
    ends=frozenset({"10.0.0.2", "10.0.0.3"}),
    attack_class="scan",
    severity=2,
    update=0,
)
SIDES = (frozenset({"10.0.0.2"}), frozenset({"10.0.0.3"}))


def pair(one: str, other: str, *, due_us: int) -> dict:
    return {"event": "pair", "ends": [one, other], "due_us": due_us, "at_us": due_us}


def found(technique: str, attack_class: str, seconds: float | None, *, per_s: float = 100.0) -> Found:
    return Found(
        technique=technique,
        attack_class=attack_class,
        label=attack_class,
        packets=100,
        packets_per_s=per_s,
        to_alert_s=seconds,
        said_class=None if seconds is None else attack_class,
        stages_s={} if seconds is None else {"first record": seconds},
        others=0,
        watched_s=36.0,
        resident_mib=120.0,
        ring_mib=32.0,
    )


def test_the_stages_add_up_to_the_whole():
    events = [
        pair("10.0.0.2", "10.0.0.9", due_us=FIRST_US + 10_000),
        pair("10.0.0.3", "10.0.0.2", due_us=FIRST_US + 250_000),
        {"event": "scored", "alert_id": "a", "due_us": FIRST_US + 600_000, "at_us": FIRST_US + 700_000},
        {"event": "committed", "alert_id": "a", "at_us": FIRST_US + 750_000},
        {"event": "committed", "alert_id": "b", "at_us": FIRST_US + 1},
    ]

    stages = stages_of(events, TOLD, first_us=FIRST_US, sides=SIDES)

    assert list(stages) == list(STAGES)
    assert [round(value, 3) for value in stages.values()] == [0.25, 0.35, 0.1, 0.05, 0.15]
    assert math.isclose(sum(stages.values()), 0.9)


def test_a_stage_that_nobody_saw_is_not_known():
    events = [{"event": "committed", "alert_id": "a", "at_us": FIRST_US + 750_000}]

    stages = stages_of(events, TOLD, first_us=FIRST_US, sides=SIDES)

    assert [stages[name] for name in STAGES[:4]] == [None] * 4
    assert stages["broker"] == pytest.approx(0.15)


def test_an_alert_about_a_spoofed_attack_is_known_by_its_victim():
    plan = draw_plan(1, attacks=["spoofed_udp_flood"], devices=12)
    (attack,) = plan.attacks

    attackers, victims = ends_of(plan, attack)

    assert attackers == frozenset()
    assert victims == frozenset(plan.addresses(attack.victim))


def test_an_attack_on_anyone_is_known_by_its_attacker():
    plan = draw_plan(1, attacks=["mirai_search"], devices=12)
    (attack,) = plan.attacks

    assert attack.victim == ANY_HOST
    assert ends_of(plan, attack) == (frozenset({plan.address(attack.attacker)}), frozenset())


def test_the_slow_telnet_scan_is_played_at_ten_a_second():
    (plan,) = plans([TELNET_10], seed=1)
    (attack,) = plan.attacks

    assert attack.argv[attack.argv.index("--rate") + 1] == "10"
    assert attack.ports == (23, 2323)


def test_every_technique_is_asked_for_once():
    names = [
        "port_scan",
        "syn_flood",
        "udp_flood",
        "icmp_flood",
        "upload",
        "beacon",
        "slow_dos",
        "os_scan",
        "slow_scan",
    ]

    drawn = [attack.drawn_as for plan in plans(names, seed=1) for attack in plan.attacks]

    assert drawn == names


@pytest.mark.parametrize(("count", "mean"), [(0, 2.996), (1, 4.744), (5, 10.513)])
def test_the_bound_of_a_count_is_the_textbooks(count: int, mean: float):
    assert at_most(count) == pytest.approx(mean, abs=0.001)


def test_a_percentile_is_one_of_the_values():
    assert percentile([float(number) for number in range(1, 101)], 0.95) == 95.0
    assert percentile([7.0], 0.5) == 7.0


def test_what_was_missed_is_said_and_takes_no_part_in_the_times():
    played = [found("syn_flood", "flood", 0.5), found("udp_flood", "flood", None)]

    told = summary(played)

    assert told["missed"] == ["udp_flood"]
    assert told["to_alert_s"]["95"] == 0.5
    assert told["watched_hours"] == pytest.approx(0.02)


def test_fast_is_a_flood_or_a_scan_of_ten_packets_a_second():
    assert is_fast(found("syn_flood", "flood", 1.0, per_s=5.0))
    assert is_fast(found("port_scan", "scan", 1.0, per_s=10.0))
    assert not is_fast(found("slow_scan", "scan", 1.0, per_s=9.0))
    assert not is_fast(found(TELNET_10, "scan", 1.0, per_s=10.3))


def test_marks_are_given_for_what_was_measured():
    marks = marked([found("syn_flood", "flood", 1.5), found(TELNET_10, "scan", 2.0)], None, [], None)

    assert [(mark.measured, mark.met) for mark in marks] == [(1.5, False), (2.0, True), (120.0, True)]


def test_the_spoofed_frames_are_syns_whose_sources_are_not_at_home():
    frames = floods.spoofed()
    first = bytes(frames[0])

    assert (first[23], first[47], int.from_bytes(first[36:38], "big")) == (6, 2, 80)
    assert bytes(first[30:34]) == bytes(map(int, floods.VICTIM.split(".")))
    assert not ((frames[:, 26] == 192) & (frames[:, 27] == 168)).any()
    assert len({bytes(row[26:36]) for row in frames[:1000]}) > 900
