"""What an operator has answered, asked of a bundle that does not judge: as the detector would have it."""

from __future__ import annotations

import pytest

from detection.answered import Answered
from detection.decide import Thresholds
from detection.rules import FLOW_FACTOR, LEAST_FLOWS, Rules, RulesState
from flowfeatures import HomeNets
from tests.detection.test_rules import TURNED, EmbeddingEngine, benign_rule, detector, mute, opened, window
from tests.detection.windows import CAMERA, PHONE, T0_US, make_bundle

SHA256 = "0" * 64


@pytest.fixture
def marked() -> Rules:
    """Give rules in which the incident of the plain window is marked benign."""
    (update,) = opened(detector(), window())
    return Rules(RulesState(benign=[benign_rule(update)]))


def rows(rules: Rules, *batches: object, sha256: str = SHA256) -> list[set[int]]:
    """Return what is answered of one batch after the other."""
    bundle, engine = make_bundle(), EmbeddingEngine()
    asked = Answered(
        engine,
        manifest_sha256=sha256,
        rules=lambda: rules,
        home=lambda: HomeNets(["192.168.1.0/24"]),
        mac_of=lambda _: None,
    )
    thresholds = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
    found = []
    for batch in batches:
        alone = engine.score(batch.values, batch.mask)
        found.append(asked.rows(batch, alone, thresholds.detections(alone)))
    return found


def test_what_looks_like_the_marked_incident_is_answered_and_nothing_else(marked: Rules):
    others = [window(device=PHONE), window(name="flood"), window(like=TURNED), window(port=80), window(score=0.95)]

    assert rows(marked, window(), *others) == [{0}, set(), set(), set(), set(), set()]


def test_without_rules_nothing_is():
    assert rows(Rules(), window()) == [set()]


def test_a_mute_answers_too():
    assert rows(mute(attack_class="scan"), window(), window(name="flood")) == [{0}, set()]


def test_a_rule_of_another_bundle_answers_nothing(marked: Rules):
    assert rows(marked, window(), sha256="1" * 64) == [set()]


def test_a_home_that_grows_while_it_is_asked_is_home_from_then_on():
    inside = window(device=CAMERA, src=PHONE)
    (update,) = opened(detector(), inside)
    rules, home = Rules(RulesState(benign=[benign_rule(update)])), [HomeNets(["10.0.0.0/8"])]
    engine, manifest = EmbeddingEngine(), make_bundle().manifest
    asked = Answered(engine, manifest_sha256=SHA256, rules=lambda: rules, home=lambda: home[0], mac_of=lambda _: None)
    alone = engine.score(inside.values, inside.mask)
    found = Thresholds(manifest.thresholds, score=manifest.score).detections(alone)
    before = asked.rows(inside, alone, found)

    home[0] = HomeNets(["192.168.1.0/24"])

    assert (before, asked.rows(inside, alone, found)) == (set(), {0})


def test_asking_wears_out_no_rule_of_the_detector(marked: Rules):
    made = detector(marked)
    many = [window(flow_id=number, at_s=0.1 * number) for number in range(max(LEAST_FLOWS, FLOW_FACTOR) + 9)]

    answered = rows(marked, *many)

    assert answered[0] == {0}
    assert answered[-1] == set()  # more an hour than the rule allows
    assert opened(made, many[0]) == []


def test_rules_that_come_while_it_is_asked_hold_from_then_on(marked: Rules):
    told = [Rules()]
    engine = EmbeddingEngine()
    asked = Answered(
        engine,
        manifest_sha256=SHA256,
        rules=lambda: told[0],
        home=lambda: HomeNets(["192.168.1.0/24"]),
        mac_of=lambda _: None,
    )
    manifest = make_bundle().manifest
    thresholds, batch = Thresholds(manifest.thresholds, score=manifest.score), window()
    alone = engine.score(batch.values, batch.mask)
    before = asked.rows(batch, alone, thresholds.detections(alone))

    told[0] = marked

    assert batch.due_us[0] >= T0_US
    assert (before, asked.rows(batch, alone, thresholds.detections(alone))) == (set(), {0})
