"""A plan drawn from a file: the same for the same seed, another for another, and never in doubt who attacked."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections import Counter

import pytest

from lab.benign import ACTIVITIES
from lab.plan import ANY_HOST, EVERY_HOME_HOST, GATEWAY
from lab.plan_file import read_plan
from lab.scenario import AFTER_S, services_of
from lab.services import SERVICES
from lab.timetable import draw

pytest.importorskip("tomllib")
SEEDS = range(12)
DRAWN = ("train", "rest", "validate", "unseen", "soak")


@pytest.fixture(scope="module", params=DRAWN)
def plans(request):
    return [draw(read_plan(request.param), seed) for seed in SEEDS]


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_seed_gives_the_same_plan(name):
    assert draw(read_plan(name), 5) == draw(read_plan(name), 5)


def test_another_seed_gives_other_addresses_times_and_another_order():
    one, other = (draw(read_plan("train"), seed) for seed in (1, 2))

    assert not {host.address for host in one.hosts} & {host.address for host in other.hosts}
    assert not {host.mac for host in one.hosts} & {host.mac for host in other.hosts}
    assert [a.drawn_as for a in one.attacks] != [a.drawn_as for a in other.attacks]
    assert [a.starts_s for a in one.attacks] != [a.starts_s for a in other.attacks]


def test_it_lasts_as_long_as_asked(plans):
    file = read_plan(plans[0].name)

    assert {plan.duration_s for plan in plans} == {60 * file.minutes}
    assert draw(file, 1, minutes=3).duration_s == 180


def test_every_attack_ends_before_the_recording_does(plans):
    ends = [attack.starts_s + attack.limit_s + AFTER_S - plan.duration_s for plan in plans for attack in plan.attacks]

    assert max(ends, default=0.0) <= 0.1


def test_there_are_twelve_devices_at_least_with_names_macs_and_addresses_of_their_own(plans):
    for plan in plans:
        addresses = [plan.gateway_address, *plan.silent, *(a for host in plan.hosts for a in plan.addresses(host.name))]
        assert len(plan.devices) >= 12
        assert len({host.mac for host in plan.hosts}) == len({host.name for host in plan.hosts}) == len(plan.hosts)
        assert len(set(addresses)) == len(addresses)


def test_the_outside_hosts_come_from_far_apart(plans):
    for plan in plans:
        beyond = [ipaddress.ip_network(prefix) for prefix in plan.beyond]
        outside = [ipaddress.ip_address(a) for h in plan.hosts if not h.is_inside for a in plan.addresses(h.name)]
        assert all(network.is_global for network in beyond)
        assert all(any(address in network for network in beyond) for address in outside)


def test_fifteen_minutes_of_train_hold_twenty_techniques_and_twelve_benign_kinds():
    for seed in SEEDS:
        plan = draw(read_plan("train"), seed, minutes=15)
        assert len({attack.drawn_as for attack in plan.attacks}) >= 20
        assert len({activity.kind for activity in plan.activities}) >= 12


def test_only_what_the_file_gives_a_weight_is_drawn(plans):
    file = read_plan(plans[0].name)

    techniques = {attack.drawn_as for plan in plans for attack in plan.attacks}
    roles = {device.role for plan in plans for device in plan.devices}
    assert {name for name in techniques if not file.attacks[name]} == set()
    assert {role for role in roles if not file.roles[role]} - {"hub"} == set()


def test_a_kind_without_weight_is_left_out_and_one_with_twice_the_weight_comes_twice_as_often():
    file = read_plan("soak")
    often = dataclasses.replace(file, benign={**file.benign, "names": 2.0, "ping": 0.0})

    before = [a.settings["every_s"] for a in draw(file, 3).activities if a.kind == "names"]
    after = [a.settings["every_s"] for a in draw(often, 3).activities if a.kind == "names"]
    assert after == [every_s / 2 for every_s in before]
    assert "ping" not in {activity.kind for activity in draw(often, 3).activities}


def test_every_attacker_leads_a_benign_life_too(plans):
    for plan in plans:
        assert {attack.attacker for attack in plan.attacks} <= {activity.host for activity in plan.activities}


def test_attackers_take_turns_inside_and_outside():
    for seed in SEEDS:
        plan = draw(read_plan("train"), seed)
        attackers = {attack.attacker for attack in plan.attacks}
        assert len(attackers) >= 12
        assert {plan.host(name).is_inside for name in attackers} == {True, False}


def test_nobody_talks_kindly_to_the_one_they_are_attacking(plans):
    for plan in plans:
        for attack in plan.attacks:
            for activity in plan.activities:
                ends = {activity.host, *activity.peers}
                meet = attack.attacker in ends and attack.victim in ends - {attack.attacker}
                port = activity.settings.get("port")
                # The gateway may be asked for names meanwhile by who attacks another of its ports.
                if not meet or (attack.victim == GATEWAY and attack.ports and port and port not in attack.ports):
                    continue
                away = activity.settings.get("away", ())
                assert any(start < attack.starts_s and attack.starts_s + attack.limit_s < end for start, end in away)


def test_whoever_attacks_a_host_also_deals_with_it(plans):
    for plan in plans:
        named = {GATEWAY, *(host.name for host in plan.hosts)}
        attacked = {(attack.attacker, attack.victim) for attack in plan.attacks if attack.victim in named}
        kindly = {(activity.host, peer) for activity in plan.activities for peer in activity.peers}
        assert len(attacked & kindly) >= 0.8 * len(attacked)


def test_attacks_that_could_be_taken_for_each_other_lie_apart(plans):
    for plan in plans:
        by_time = plan.attacks
        for at, first in enumerate(by_time):
            for second in by_time[at + 1 :]:
                near = second.starts_s < first.starts_s + first.limit_s + 20
                same = first.attacker == second.attacker or (first.spoofed and second.spoofed)
                wide = {first.victim, second.victim} & {ANY_HOST, EVERY_HOME_HOST}
                assert not (near and same and (wide or first.victim == second.victim)), (first, second)


def test_what_a_plan_names_can_be_played(plans):
    for plan in plans:
        hosts = {host.name for host in plan.hosts} | {GATEWAY}
        assert {activity.kind for activity in plan.activities} <= set(ACTIVITIES)
        assert {service.kind for _, service in services_of(plan)} <= set(SERVICES)
        assert {peer for activity in plan.activities for peer in activity.peers} <= hosts


def test_gateway_and_devices_are_attacked_and_the_hosts_outside_have_benign_company_too():
    attacked, visited = set(), set()
    for seed in SEEDS:
        plan = draw(read_plan("train"), seed)
        attacked |= {attack.victim.rstrip("0123456789") for attack in plan.attacks}
        visited |= {peer for activity in plan.activities for peer in activity.peers}
        strangers = {host.name for host in plan.hosts if host.role.startswith("stranger")}
        assert strangers <= {activity.host for activity in plan.activities}

    assert {GATEWAY, "hub", "camera", "cloud", "command", "target"} <= attacked
    assert {GATEWAY, "command", "target"} <= visited


def test_a_visit_to_a_forwarded_port_is_in_doubt_by_the_port_behind_it():
    for seed in range(40):
        plan = draw(read_plan("train"), seed)
        behind = {(forward.host, forward.public_port): forward.port for forward in plan.forwards}
        exposed = {home for home, _ in plan.exposed}
        wide = {a.attacker: set(a.ports) for a in plan.attacks if a.victim == EVERY_HOME_HOST}
        for activity in plan.activities:
            for peer in activity.peers if activity.host in wide else ():
                device = next((each for each in plan.devices if each.name == peer), None)
                if device and device.address not in exposed and not plan.host(activity.host).is_inside:
                    port = behind[peer, activity.settings["port"]]
                    assert port not in wide[activity.host] or activity.settings["away"]
                    assert wide[activity.host]


def test_no_host_is_met_by_attacks_far_more_often_than_by_benign_activities():
    for seed in SEEDS:
        plan = draw(read_plan("train"), seed)
        met = Counter(attack.victim for attack in plan.attacks)
        peers = Counter(peer for activity in plan.activities for peer in activity.peers[:1])
        shares = {name: count / met.total() - peers[name] / peers.total() for name, count in met.items()}
        hosts = {name: share for name, share in shares.items() if name == GATEWAY or name in _names(plan)}
        assert max(hosts.values()) < 0.25, hosts


def test_a_lie_about_addresses_is_told_at_home():
    victims = [
        (plan, attack.victim)
        for plan in (draw(read_plan("train"), seed) for seed in range(20))
        for attack in plan.attacks
        if attack.proto == "arp"
    ]

    assert len(victims) >= 5
    assert all(name == GATEWAY or plan.host(name).is_inside for plan, name in victims)


def _names(plan):
    return {host.name for host in plan.hosts}
