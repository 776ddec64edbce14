"""What keeps away from which attack, and for how long."""

from __future__ import annotations

import threading
import time

import pytest

from lab.apart import EARLY_S, LATE_S, MOST_AWAY, keep_apart
from lab.benign.actor import Actor, turns
from lab.plan import Activity, Attack
from lab.scenario import draw_plan


@pytest.fixture
def plan():
    return draw_plan(1, attacks=[], devices=6, duration_s=600.0)


def attack(plan, *, starts_s=100.0, limit_s=10.0):
    one, other = plan.devices[:2]
    return Attack(
        "syn_flood", "syn_flood", "T1498.001", one.name, other.name, starts_s, limit_s, ("hping3",), proto="tcp"
    )


def activity(plan, kind="http_poll", *, host=0, peer=1):
    return Activity(kind, plan.devices[host].name, (plan.devices[peer].name,), {"every_s": 5.0, "port": 80}, 0.0)


def test_what_is_brief_keeps_away_while_the_attack_is_near(plan):
    [kept] = keep_apart(plan, [activity(plan)], [attack(plan)])

    assert kept.settings["away"] == [(100.0 - EARLY_S, 110.0 + LATE_S)]


def test_spans_that_touch_are_one(plan):
    [kept] = keep_apart(plan, [activity(plan)], [attack(plan, starts_s=130.0), attack(plan)])

    assert kept.settings["away"] == [(100.0 - EARLY_S, 140.0 + LATE_S)]


def test_what_lasts_is_left_out(plan):
    assert keep_apart(plan, [activity(plan, "mqtt_stay")], [attack(plan)]) == []


def test_what_would_be_away_for_most_of_the_time_is_left_out(plan):
    assert keep_apart(plan, [activity(plan)], [attack(plan, limit_s=MOST_AWAY * 600.0)]) == []


def test_others_are_left_alone(plan):
    other = activity(plan, host=2, peer=3)

    assert keep_apart(plan, [other], [attack(plan)]) == [other]


def test_an_activity_does_nothing_while_it_is_to_be_away():
    stop, deeds = threading.Event(), []
    actor = object.__new__(Actor)
    actor.stop, actor.activity = stop, Activity("ping", "a", ("b",), {"every_s": 0.001, "away": [(-1.0, 3600.0)]}, 0.0)
    actor.began_s = time.monotonic()
    thread = threading.Thread(target=turns(lambda _: deeds.append(1)), args=(actor,))

    thread.start()
    stop.set()
    thread.join(timeout=120)

    assert not thread.is_alive()
    assert deeds == []
