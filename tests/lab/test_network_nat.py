"""What outside hosts reach of a hidden home: exposed devices and forwarded ports, under public addresses."""

from __future__ import annotations

import dataclasses
import random

import pytest

from lab.attacks import NoVictim
from lab.nat import HomeScene, activities_through, at_home, attack_through, draw_nat, ruleset, seen_from_outside
from lab.plan import Activity, Attack, Forward
from lab.scenario import draw_plan, draw_scene


@pytest.fixture
def plan():
    """A home with one exposed device (the first) and one forwarded port (of the second)."""
    plan = draw_plan(3, attacks=[], devices=11)
    first, second = plan.devices[0], plan.host("hub1")
    assert first != second
    forward = Forward(8080, second.name, second.port_of("web"))
    public = plan.internet.replace(".0/24", ".77").replace(".0/15", ".77")
    return dataclasses.replace(plan, has_nat=True, exposed=((first.address, public),), forwards=(forward,))


def attack_of(plan, *, attacker="stranger1", victim, argv, ports=()):
    return Attack("x", "port_scan", "T1046", attacker, victim, 0.0, 10.0, tuple(argv), "tcp", ports)


def test_a_home_that_is_not_hidden_has_no_rules_and_is_seen_as_it_is():
    plan = draw_plan(3)

    assert ruleset(plan) == ""
    assert seen_from_outside(plan) is plan


def test_from_outside_an_exposed_device_has_its_public_address_and_the_others_the_gateways(plan):
    seen = seen_from_outside(plan)

    assert seen.devices[0].address == plan.exposed[0][1]
    assert {device.address for device in seen.devices[1:]} == {plan.wan_address}
    assert [h.address for h in seen.hosts if not h.is_inside] == [h.address for h in plan.hosts if not h.is_inside]


def test_a_public_address_leads_home_with_every_port_and_the_gateways_with_those_forwarded(plan):
    home, public = plan.exposed[0]
    forward = plan.forwards[0]

    assert at_home(plan, public, 4321) == (home, 4321)
    assert at_home(plan, plan.wan_address, 8080) == (plan.address(forward.host), forward.port)
    assert at_home(plan, plan.wan_address, 8081) == (plan.wan_address, 8081)
    assert at_home(plan, "9.9.9.9", 8080) == ("9.9.9.9", 8080)


def test_an_attack_from_outside_is_aimed_at_public_addresses(plan):
    home, public = plan.exposed[0]
    hidden = plan.devices[2].address

    aimed = attack_through(plan, attack_of(plan, victim="lan", argv=["nmap", "-p", "23", home, hidden, "9.9.9.9"]))

    assert aimed.argv == ("nmap", "-p", "23", public, "9.9.9.9")


def test_an_attack_from_inside_stays_as_it_is(plan):
    attack = attack_of(plan, attacker=plan.devices[0].name, victim="lan", argv=["nmap", plan.devices[2].address])

    assert attack_through(plan, attack) == attack


@pytest.mark.parametrize("argv", [["nmap", "HIDDEN"], ["nmap", "LAN"]])
def test_an_attack_that_cannot_get_in_is_not_drawn(plan, argv):
    words = [word.replace("HIDDEN", plan.devices[2].address).replace("LAN", plan.lan) for word in argv]

    with pytest.raises(NoVictim):
        attack_through(plan, attack_of(plan, victim="lan", argv=words))


def test_ground_truth_speaks_of_the_port_behind_a_forwarded_one(plan):
    forward = plan.forwards[0]
    attack = attack_of(plan, victim=forward.host, argv=["x", plan.wan_address, "8080"], ports=(8080,))

    assert attack_through(plan, attack).ports == (forward.port,)
    with pytest.raises(NoVictim):
        attack_through(plan, dataclasses.replace(attack, ports=()))
    with pytest.raises(NoVictim):
        attack_through(plan, dataclasses.replace(attack, ports=(9999,)))


def test_an_outside_attacker_is_shown_what_it_can_reach_and_no_more(plan):
    scene = draw_scene(random.Random(1), plan)
    fields = {each.name: getattr(scene, each.name) for each in dataclasses.fields(scene)}
    home = HomeScene(**fields, plan=plan)
    outside = plan.host("stranger1")

    host, service = home.victim("web", attacker=outside)
    assert (host.name, host.address, service.port) == ("hub1", plan.wan_address, 8080)
    assert home.device(attacker=outside).address == plan.exposed[0][1]
    with pytest.raises(NoVictim):
        home.victim("modbus", attacker=outside)


def test_a_visit_from_outside_takes_the_forwarded_port_or_is_left_out(plan):
    forward = plan.forwards[0]

    def visit(host, peer, port):
        return Activity("http_poll", host, (peer,), {"every_s": 5.0, "port": port}, 0.0)

    kept = activities_through(
        plan,
        [
            visit("remote", forward.host, forward.port),
            visit("remote", forward.host, 22),
            visit("remote", plan.devices[0].name, 22),
            visit("remote", "cloud", 80),
            visit(plan.devices[2].name, forward.host, 22),
        ],
    )

    assert [(a.host, a.peers[0], a.settings["port"]) for a in kept] == [
        ("remote", forward.host, 8080),
        ("remote", plan.devices[0].name, 22),
        ("remote", "cloud", 80),
        (plan.devices[2].name, forward.host, 22),
    ]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_let_in_is_drawn_without_two_meanings(seed):
    plan = draw_plan(seed, attacks=[], devices=12)
    plan = draw_nat(random.Random(seed), plan)
    homes, publics = zip(*plan.exposed, strict=True)
    ports = [forward.public_port for forward in plan.forwards]

    assert len(set(ports)) == len(ports)
    assert len(set(homes)) == len(set(publics)) == len(plan.exposed) >= 4
    assert not {plan.wan_address, plan.internet_gateway, *(h.address for h in plan.hosts)} & set(publics)
    assert not {plan.address(forward.host) for forward in plan.forwards} & set(homes)
