"""Who does what at home: the older plans as they were, and every kind that is asked for."""

from __future__ import annotations

import random

import pytest

from contracts.errors import UsageError
from lab import habits
from lab.benign import ACTIVITIES, FURTHER
from lab.benign.offers import with_offers
from lab.benign.rota import PEOPLE, draw_hours
from lab.scenario import draw_plan

COMPLETE_SEED = 0  # its home has a controller and something that speaks FTP


@pytest.fixture(scope="module")
def home():
    return with_offers(draw_plan(COMPLETE_SEED, attacks=[], devices=12))


def test_every_kind_that_is_asked_for_is_done_by_somebody(home):
    drawn = habits.draw_activities(random.Random(1), home, set(ACTIVITIES))

    assert {activity.kind for activity in drawn} == set(ACTIVITIES)


def test_only_kinds_that_are_asked_for_are_done(home):
    asked = {"coap_read", "names", "backup"}

    assert {activity.kind for activity in habits.draw_activities(random.Random(1), home, asked)} == asked


def test_asking_for_one_kind_more_leaves_the_other_new_ones_as_they_are(home):
    few = habits.draw_activities(random.Random(1), home, {"firmware"})
    many = habits.draw_activities(random.Random(1), home, {"firmware", "coap_read", "inventory"})

    assert [each for each in many if each.kind == "firmware"] == few


def test_the_older_plans_have_none_of_the_new_kinds_and_no_hours():
    activities = draw_plan(7, devices=12).activities

    assert not {activity.kind for activity in activities} & set(FURTHER)
    assert not [activity for activity in activities if "hours" in activity.settings]


def test_all_that_a_host_does_has_the_same_hours(home):
    drawn = habits.draw_activities(random.Random(1), home, set(ACTIVITIES))
    hours = {activity.host: set() for activity in drawn}
    for activity in drawn:
        hours[activity.host].add(tuple(activity.settings["hours"].values()))

    assert {len(each) for each in hours.values()} == {1}
    assert len(set.union(*hours.values())) == len(hours)


def test_people_are_idler_than_machines_when_they_are_idle():
    rng = random.Random(1)
    people = [draw_hours(rng, role=role, day_s=600.0)["idle"] for role in PEOPLE for _ in range(50)]
    machines = [draw_hours(rng, role="sensor", day_s=600.0)["idle"] for _ in range(50)]

    assert min(people) > max(machines)


def test_a_kind_nobody_knows_is_named_with_those_there_are(home):
    with pytest.raises(UsageError, match=r"no benign kind named 'tea'; there are mqtt_stay, "):
        habits.draw_activities(random.Random(1), home, {"tea", "names"})


def test_peers_of_the_new_kinds_serve_what_they_are_asked_for(home):
    servers = {"coap_read": "coap", "backup": "rsync", "web_admin": "toy_site", "mqtt_tls": "mqtt_tls"}
    drawn = habits.draw_activities(random.Random(1), home, set(servers))

    assert drawn
    for activity in drawn:
        host = home.host(activity.peers[0])
        ports = {service.port for service in host.services if service.kind == servers[activity.kind]}
        assert activity.settings["port"] in ports
