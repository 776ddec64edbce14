"""A plan is what its seed says, and never says two things at once."""

from __future__ import annotations

import ipaddress

import pytest

from lab.attacks import TECHNIQUES
from lab.benign import ACTIVITIES
from lab.demo_plan import DEMO_SEED, draw_demo_plan
from lab.plan import ANY_HOST, EVERY_HOME_HOST
from lab.scenario import draw_plan, services_of
from lab.services import SERVICES

SEEDS = range(40)


def test_the_same_seed_gives_the_same_plan():
    assert draw_plan(7) == draw_plan(7)


def test_another_seed_gives_another_plan():
    assert draw_plan(7) != draw_plan(8)


def test_the_home_network_is_drawn_from_all_three_private_ranges():
    ranges = {draw_plan(seed).lan.split(".")[0] for seed in SEEDS}

    assert ranges == {"10", "172", "192"}


@pytest.mark.parametrize("seed", SEEDS)
def test_addresses_are_distinct_and_stand_in_their_network(seed):
    plan = draw_plan(seed)
    used = [plan.gateway_address, *plan.silent, *(host.address for host in plan.devices)]
    outside = [plan.internet_gateway, plan.wan_address, *(host.address for host in plan.hosts if not host.is_inside)]

    assert len(set(used)) == len(used)
    assert len(set(outside)) == len(outside)
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network(plan.lan) for address in used)
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network(plan.internet) for address in outside)


@pytest.mark.parametrize("seed", SEEDS)
def test_there_are_six_devices_at_least_and_names_and_macs_are_distinct(seed):
    plan = draw_plan(seed)

    assert len(plan.devices) >= 6
    assert len({host.name for host in plan.hosts}) == len(plan.hosts)
    assert len({host.mac for host in plan.hosts}) == len(plan.hosts)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_plan_names_can_be_played(seed):
    plan = draw_plan(seed)
    hosts = {host.name for host in plan.hosts} | {"gateway"}

    assert {activity.kind for activity in plan.activities} <= set(ACTIVITIES)
    assert {service.kind for _, service in services_of(plan)} <= set(SERVICES)
    assert {peer for activity in plan.activities for peer in activity.peers} <= hosts
    assert {attack.attacker for attack in plan.attacks} <= hosts


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_talks_kindly_to_the_one_they_attack(seed):
    plan = draw_plan(seed)

    for attack in plan.attacks:
        for activity in plan.activities:
            ends = {activity.host, *activity.peers}
            assert not (attack.attacker in ends and attack.victim in ends - {attack.attacker}), (attack, activity)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_attack_ends_before_the_recording_does(seed):
    plan = draw_plan(seed)

    assert max(attack.starts_s + attack.limit_s for attack in plan.attacks) < plan.duration_s


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_each_technique_can_be_asked_for_by_name(name):
    plan = draw_plan(3, attacks=[name], devices=11)

    assert len(plan.attacks) == 1
    victim = plan.attacks[0].victim
    assert victim in {ANY_HOST, EVERY_HOME_HOST, *plan.silent} or plan.address(victim)


def test_no_attacks_are_a_benign_plan():
    plan = draw_plan(5, attacks=[], duration_s=300)

    assert plan.attacks == ()
    assert plan.duration_s == 300


def test_a_plan_does_not_name_the_machine_it_was_drawn_on():
    words = [word for seed in SEEDS for attack in draw_plan(seed).attacks for word in attack.argv]

    assert not [word for word in words if word.startswith("/") and word != "/private/"]


def test_the_demo_shows_three_attacks_by_different_hosts_and_leaves_three_devices_in_peace():
    plan = draw_demo_plan()
    attackers = [attack.attacker for attack in plan.attacks]
    involved = {*attackers, *(attack.victim for attack in plan.attacks)}

    assert plan == draw_demo_plan()
    assert plan.seed == DEMO_SEED
    assert [attack.label for attack in plan.attacks] == ["brute_force", "syn_flood", "port_scan"]
    assert len(involved) == 6
    assert {plan.host(name).is_inside for name in attackers} == {True, False}
    assert len([host for host in plan.devices if host.name not in involved]) >= 3
