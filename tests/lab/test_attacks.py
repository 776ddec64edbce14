"""What a technique declares holds for every attack it draws, over many seeds."""

from __future__ import annotations

import random

import pytest

from contracts.classes import NAMES, class_of_label
from lab.attacks import ORDINARY, TECHNIQUES, NoVictim
from lab.benign.offers import with_offers
from lab.bots.pace import MOST
from lab.scenario import draw_plan, draw_scene
from lab.services import SERVICES

SEEDS = range(25)
LONGEST_S = 100.0


@pytest.fixture(scope="module")
def drawn():
    """Return technique -> attacks drawn in many homes, each with its plan."""
    attacks = {name: [] for name in TECHNIQUES}
    for seed in SEEDS:
        plan = with_offers(draw_plan(seed, attacks=[], devices=12))
        scene = draw_scene(random.Random(seed), plan)
        for name, technique in TECHNIQUES.items():
            try:
                attacks[name].append((plan, technique(scene)))
            except NoVictim:
                continue
    return attacks


def rate_of(attack):
    """Return how many a second an attack's arguments ask for, where they say so."""
    argv = attack.argv
    if "lab.bots" in argv:
        return float(argv[argv.index("--rate") + 1])
    if argv[0] == "hping3":
        return 1e6 / int(argv[argv.index("-i") + 1].removeprefix("u"))
    if "--max-rate" in argv:
        return float(argv[argv.index("--max-rate") + 1])
    return float(argv[argv.index("-r") + 1]) if argv[0] == "slowhttptest" else None


def test_there_are_techniques_of_every_class_of_the_table_but_benign_and_unknown():
    assert {technique.attack_class for technique in TECHNIQUES.values()} == set(NAMES) - {"benign", "unknown"}
    assert len(TECHNIQUES) >= 50


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_technique_draws_what_it_declares(drawn, name):
    technique = TECHNIQUES[name]

    assert drawn[name]
    for plan, attack in drawn[name]:
        assert attack.label in technique.labels
        assert NAMES[class_of_label(attack.label)] == technique.attack_class
        assert attack.mitre == technique.mitre
        assert ("inside" if plan.host(attack.attacker).is_inside else "outside") in technique.sides
        assert attack.spoofed in {"never": [False], "always": [True], "sometimes": [False, True]}[technique.spoofed]
        assert any(technique.tool in word for word in attack.argv) or technique.tool == "iodine"


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_technique_is_bounded_in_time_and_speed(drawn, name):
    slowest, fastest = TECHNIQUES[name].per_s

    for _, attack in drawn[name]:
        rate = rate_of(attack)
        assert 0 < attack.limit_s <= LONGEST_S
        assert rate is None or slowest * 0.8 <= rate <= fastest * 1.25


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_what_our_own_programs_and_hping_do_is_bounded_in_count(drawn, name):
    for _, attack in drawn[name]:
        if "lab.bots" in attack.argv:
            assert 1 <= int(attack.argv[attack.argv.index("--count") + 1]) <= MOST
        if attack.argv[0] in ("hping3", "slowhttptest"):
            assert 1 <= int(attack.argv[attack.argv.index("-c") + 1]) <= MOST


@pytest.mark.parametrize("name", [name for name, each in TECHNIQUES.items() if len(each.sides) == 2])
def test_a_technique_of_both_sides_is_drawn_from_both(drawn, name):
    sides = {plan.host(attack.attacker).is_inside for plan, attack in drawn[name]}

    assert sides == {True, False}


@pytest.mark.parametrize("name", [name for name, each in TECHNIQUES.items() if each.per_s[1] / each.per_s[0] > 50])
def test_a_technique_of_many_speeds_is_drawn_slow_and_fast(drawn, name):
    rates = [rate for _, attack in drawn[name] if (rate := rate_of(attack))]

    assert not rates or max(rates) > 5 * min(rates)


def test_services_that_techniques_want_are_services_of_the_lab():
    wanted = {need for technique in TECHNIQUES.values() for need in technique.needs}

    assert wanted <= set(SERVICES)


def test_the_ordinary_techniques_are_those_that_older_recordings_were_drawn_from():
    assert len(ORDINARY) == 27
    assert tuple(TECHNIQUES)[:27] == ORDINARY


def test_without_the_service_it_wants_a_technique_has_no_victim():
    plan = draw_plan(3, attacks=[], devices=12)
    scene = draw_scene(random.Random(3), plan)

    with pytest.raises(NoVictim):
        TECHNIQUES["injection"](scene)
    with pytest.raises(NoVictim):
        TECHNIQUES["mirai_life"](scene)
