"""Busy and idle hours, what hosts offer, and the wire forms of the newer benign kinds."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import pytest

from lab.benign import ACTIVITIES, FURTHER, ORDINARY
from lab.benign.actor import Actor
from lab.benign.hours import slowness
from lab.benign.offers import OFFERS, with_offers
from lab.plan import Activity
from lab.scenario import draw_plan, services_of
from lab.services import SERVICES

DAY = {"day_s": 100.0, "busy_from": 0.8, "busy_until": 0.2, "idle": 9.0}


@pytest.mark.parametrize(("now_s", "factor"), [(79.9, 9.0), (80.0, 1.0), (119.9, 1.0), (120.1, 9.0), (185.0, 1.0)])
def test_a_busy_time_may_run_past_midnight_and_comes_again_every_day(now_s, factor):
    assert slowness(now_s, DAY) == factor


@pytest.fixture
def actor(monkeypatch):
    """An actor whose clock goes on only while it rests, and who notes each rest."""
    clock = SimpleNamespace(now_s=0.0, rests=[])
    monkeypatch.setattr("lab.benign.actor.time", SimpleNamespace(monotonic=lambda: clock.now_s))
    plan = draw_plan(1, attacks=[])
    settings = {"every_s": 10.0, "unsteadiness": 0.0, "hours": None}
    made = Actor(
        network=SimpleNamespace(plan=plan),
        activity=Activity("names", "hub1", (), settings, starts_s=0.0),
        folder=None,
        stop=threading.Event(),
        rng=random.Random(1),
    )

    def rest(seconds):
        clock.rests.append(seconds)
        clock.now_s += seconds
        return True

    monkeypatch.setattr(made, "rest", rest)
    return made, clock, settings


def test_without_hours_a_turn_comes_after_its_pause(actor):
    made, clock, _ = actor

    assert made.next_turn()
    assert clock.rests == [10.0]


def test_in_idle_hours_a_turn_comes_as_much_later_as_the_hours_say(actor):
    made, clock, settings = actor
    settings["hours"] = {"day_s": 1000.0, "busy_from": 0.5, "busy_until": 0.9, "idle": 4.0}

    assert made.next_turn()
    assert clock.now_s == pytest.approx(40.0)


def test_a_pause_that_began_in_idle_hours_goes_on_at_the_pace_of_busy_ones(actor):
    made, clock, settings = actor
    settings["hours"] = {"day_s": 1000.0, "busy_from": 0.02, "busy_until": 0.9, "idle": 4.0}

    assert made.next_turn()
    assert clock.now_s == pytest.approx(
        20.0 + 5.0, abs=0.5
    )  # 20 s at a quarter of the pace, the other half at all of it


def test_kinds_old_and_new_have_each_a_name_of_their_own():
    assert set(ORDINARY) | set(FURTHER) == set(ACTIVITIES)
    assert len(ORDINARY) + len(FURTHER) == len(ACTIVITIES) >= 39


def test_what_hosts_offer_besides_can_be_served_and_is_the_same_every_time():
    plan = draw_plan(5, attacks=[], devices=12)

    offered = with_offers(plan)

    assert offered == with_offers(plan)
    assert {service.kind for _, service in services_of(offered)} <= set(SERVICES)
    for before, after in zip(plan.hosts, offered.hosts, strict=True):
        ports = [(service.port, service.kind in ("mdns", "ssdp", "coap")) for service in after.services]
        assert len(set(ports)) == len(ports)
        assert after.services[: len(before.services)] == before.services
        assert bool(after.services[len(before.services) :]) <= (before.role in OFFERS)


def test_a_tunnels_inner_network_is_none_of_the_home():
    for seed in range(40):
        plan = with_offers(draw_plan(seed, attacks=[], devices=12))
        inner = next(s.settings["inner"] for _, s in services_of(plan) if s.kind == "tunnel_end")
        assert inner.split(".")[:1] != plan.lan.split(".")[:1] or inner.split(".")[1] != plan.lan.split(".")[1]
