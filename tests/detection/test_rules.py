"""Mutes and benign rules: what they keep back, what they must let through, and which files are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from contracts.bundle import SustainedRule
from detection.detector import Detector
from detection.engine import Scores
from detection.prints import RADIUS
from detection.rules import (
    FLOW_FACTOR,
    LEAST_FLOWS,
    BenignRule,
    Mute,
    PrintState,
    Rules,
    RulesState,
)
from detection.state import StateRefused
from tests.detection.windows import (
    CAMERA,
    ELSEWHERE,
    OUTSIDE,
    PHONE,
    T0_US,
    C,
    LegibleEngine,
    Row,
    S,
    Window,
    batch_of,
    make_bundle,
)

DAY_US = 86_400 * S
MARK = C  # the first free columns of a row hold its embedding
PLAIN, TURNED = (3.0, 4.0), (-4.0, 3.0)


class EmbeddingEngine(LegibleEngine):
    """Gives the two columns after the scores as the embedding."""

    def score(self, windows, mask) -> Scores:
        embedding = (windows[:, :, MARK : MARK + 2] * mask[:, :, None]).sum(axis=1)
        return super().score(windows, mask)._replace(embedding=embedding.astype(np.float32))


def window(*, device=CAMERA, src=OUTSIDE, name="scan", score=0.8, like=PLAIN, flow_id=1, port=23, at_s=0.0):
    """Return a batch of one window of one record with an embedding."""
    row = Row(src, device, {name: score}, flow_id=flow_id, dst_port=port, end_us=T0_US + round(at_s * S))
    batch = batch_of(Window(device, [row], at_s))
    batch.values[0, 0, MARK : MARK + 2] = like
    return batch


def detector(rules=None, **settings):
    return Detector(make_bundle(), EmbeddingEngine(), rules=rules, **settings)


def opened(made, *batches):
    return [update for batch in batches for update in made.add(batch) if update.update == 0]


def mute(**changes):
    return Rules(
        RulesState(mutes=[Mute(**{"id": "m-00000001", "created_us": T0_US, "expires_us": T0_US + DAY_US, **changes})])
    )


def benign_rule(update, **changes):
    """Return the rule that marking an incident benign makes, a second before T0."""
    fields = {
        "id": "b-00000001",
        "alert_id": update.alert_id,
        "incident_id": update.incident_id,
        "device": update.device.hex(),
        "attack_class": update.class_name,
        "manifest_sha256": "0" * 64,
        "score": update.score,
        "flows": max(1, update.flows),
        "prints": [PrintState.of(each) for each in update.prints],
        "created_us": T0_US - S,
        "expires_us": T0_US + 29 * DAY_US,
    }
    return BenignRule(**{**fields, **changes})


@pytest.fixture
def marked():
    """Return rules in which the incident of the plain window is marked benign."""
    (update,) = opened(detector(), window())
    return Rules(RulesState(benign=[benign_rule(update)]))


def called_benign(update, *, at_us=None, rule=True):
    """Return the rules in which an incident is called benign, with the rule of it unless that was revoked."""
    rules = [benign_rule(update, created_us=at_us or update.at_us)] if rule else []
    return Rules(RulesState(benign=rules, verdicts={update.incident_id: "benign"}))


@pytest.mark.parametrize("has_rule", [True, False])
def test_an_incident_called_benign_closes_at_once_and_says_nothing_more(has_rule):
    made = detector()
    (update,) = opened(made, window())
    made.change(rules=called_benign(update, rule=has_rule))

    said = made.advance(update.at_us + S) + made.advance(update.at_us + 700 * S)

    assert [(each.incident_id, each.reason) for each in said] == [(update.incident_id, "closed: called benign")]
    assert made.open_incidents == 0


def test_what_no_rule_answers_for_after_a_verdict_is_an_incident_of_its_own():
    """Or an attack would hide in an incident that an operator has done with, and be learnt as benign."""
    made = detector()
    (update,) = opened(made, window())
    made.change(rules=called_benign(update))

    (other,) = opened(made, window(like=TURNED, flow_id=2, at_s=5.0), window(flow_id=3, at_s=6.0))

    assert other.incident_id != update.incident_id


def test_what_was_seen_before_the_verdict_and_is_judged_after_it_opens_nothing():
    made = detector()
    (update,) = opened(made, window())
    made.change(rules=called_benign(update, at_us=T0_US + 3 * S))

    late = opened(made, window(flow_id=2, at_s=2.0), window(flow_id=3, at_s=4.0))

    assert late == []
    assert [each.reason for each in made.incidents] == ["closed: called benign"]


def test_other_incidents_stay_open():
    made = detector()
    first, second = opened(made, window(), window(device=PHONE, flow_id=2))
    made.change(rules=called_benign(first))

    made.advance(second.at_us + S)

    assert made.open_incidents == 1


@pytest.mark.parametrize(
    ("what", "is_quiet"),
    [
        ({"device": CAMERA}, True),
        ({"device": "192.168.1.0/24"}, True),
        ({"device": PHONE}, False),
        ({"attack_class": "scan"}, True),
        ({"attack_class": "flood"}, False),
        ({"peer": OUTSIDE}, True),
        ({"peer": ELSEWHERE}, False),
        ({"peer": CAMERA}, False),
        ({"device": CAMERA, "attack_class": "scan", "peer": "203.0.113.0/24"}, True),
        ({"device": CAMERA, "attack_class": "scan", "peer": ELSEWHERE}, False),
    ],
)
def test_a_mute_keeps_back_what_fits_all_it_names(what, is_quiet):
    made = detector(mute(**what))

    assert (opened(made, window()) == []) is is_quiet
    assert made.muted == is_quiet


def test_a_mute_by_mac_follows_the_device_to_another_address():
    rules = mute(device="aa:bb:cc:dd:ee:ff")

    assert opened(detector(rules, mac_of=lambda _: "aa:bb:cc:dd:ee:ff"), window(device=PHONE)) == []
    assert opened(detector(rules, mac_of=lambda _: "aa:bb:cc:dd:ee:00"), window(device=PHONE)) != []
    assert opened(detector(rules), window(device=PHONE)) != []


@pytest.mark.parametrize(("at_s", "is_quiet"), [(0, True), (86_399, True), (86_400, False)])
def test_a_mute_holds_up_to_the_second_it_expires(at_s, is_quiet):
    assert (opened(detector(mute(device=CAMERA)), window(at_s=at_s)) == []) is is_quiet


def test_a_mute_of_one_peer_lets_another_in_the_same_window_through():
    batch = batch_of(
        Window(
            CAMERA, [Row(OUTSIDE, CAMERA, {"scan": 0.8}, flow_id=1), Row(ELSEWHERE, CAMERA, {"scan": 0.8}, flow_id=2)]
        )
    )

    (update,) = opened(detector(mute(peer=OUTSIDE)), batch)

    assert update.parties.flow["flow_id"] == 2
    assert update.flows == 1


def test_what_was_marked_benign_opens_no_incident_when_it_comes_again(marked):
    made = detector(marked)

    assert opened(made, *(window(at_s=600 * n, flow_id=n) for n in range(10))) == []
    assert made.known_benign == 10


@pytest.mark.parametrize(
    "other",
    [
        {"like": TURNED},  # another behaviour
        {"src": ELSEWHERE},  # another peer
        {"port": 22},
        {"device": PHONE},
        {"name": "flood"},
        {"score": 0.97},  # far surer than what was marked
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_attack_than_the_one_marked_is_found(marked, other):
    assert len(opened(detector(marked), window(**other))) == 1


def lasting(rules=None):
    """Return a detector for which many windows tell together: more and more surely, the longer it lasts."""
    bundle = make_bundle(open_at=0.99, severe_at=0.999)
    rule = SustainedRule(weight=0.125, start=-3.0, least=-4.0, most=6.0, fades_s=300.0, open=0.6)
    update = {"score": "not benign", "sustained": rule}
    manifest = bundle.manifest.model_copy(update=update)
    return Detector(replace(bundle, manifest=manifest), EmbeddingEngine(), rules=rules)


def test_suspicion_that_lasts_longer_than_when_it_was_marked_is_not_surer_of_anything_else():
    some = [window(at_s=n, flow_id=n, score=0.95) for n in range(12)]
    more = [window(at_s=n, flow_id=n % 16, score=0.95) for n in range(80)]
    (update,) = opened(lasting(), *some)
    rules = Rules(RulesState(benign=[benign_rule(update)]))

    assert len(opened(lasting(), *more)) == 1
    assert opened(lasting(rules), *more) == []
    assert len(opened(lasting(rules), window(score=0.9995))) == 1  # one that is much surer by itself


def test_a_mute_hides_no_other_patient_attack_on_its_device():
    rounds = [
        batch
        for turn in range(40)
        for batch in (
            *(window(name="flood", score=0.95, at_s=turn + 0.1 * n, flow_id=10 * turn + n, port=80) for n in range(6)),
            window(score=0.9995, at_s=turn + 0.7, flow_id=10 * turn + 9),
        )
    ]

    muted = opened(lasting(mute(device=CAMERA, attack_class="scan")), *rounds)

    assert {update.class_name for update in muted} == {"flood"}


def test_an_attack_in_the_same_window_as_what_was_marked_is_found(marked):
    batch = batch_of(
        Window(CAMERA, [Row(OUTSIDE, CAMERA, {"scan": 0.8}, flow_id=1), Row(OUTSIDE, CAMERA, {"scan": 0.8}, flow_id=2)])
    )
    batch.values[0, 0, MARK : MARK + 2], batch.values[0, 1, MARK : MARK + 2] = PLAIN, TURNED

    (update,) = opened(detector(marked), batch)

    assert update.parties.flow["flow_id"] == 2


def test_the_neighbourhood_ends_at_its_radius(marked):
    length = 5.0  # of PLAIN

    def apart(share):
        return opened(detector(marked), window(like=(3.0 - 0.8 * length * share, 4.0 + 0.6 * length * share)))

    assert apart(RADIUS * 0.99) == []
    assert len(apart(RADIUS * 1.2)) == 1


@pytest.mark.parametrize(
    ("shares", "is_told"),
    [([0.0, 0.4], False), ([0.4], True), ([0.0, 0.4, 0.4], True), ([0.0, 0.0, 0.4, 0.4], False), ([0.0, 0.55], True)],
)
def test_a_straggler_is_kept_back_in_company_alone(marked, shares, is_told):
    """Of records a little farther than the radius, at least as many must be within it."""
    batch = batch_of(Window(CAMERA, [Row(OUTSIDE, CAMERA, {"scan": 0.8}, flow_id=n) for n in range(len(shares))]))
    for place, share in enumerate(shares):
        batch.values[0, place, MARK : MARK + 2] = (3.0 - 0.8 * 5.0 * share, 4.0 + 0.6 * 5.0 * share)

    assert bool(opened(detector(marked), batch)) == is_told


def test_the_same_in_far_greater_number_is_an_attack_again(marked):
    made = detector(marked)
    allowed = max(LEAST_FLOWS, FLOW_FACTOR)

    assert opened(made, *(window(at_s=n, flow_id=n) for n in range(allowed))) == []
    assert len(opened(made, window(at_s=allowed, flow_id=allowed))) == 1


def test_a_flood_folded_into_one_row_is_counted_in_full(marked):
    row = Row(OUTSIDE, CAMERA, {"scan": 0.8}, repeats=1000)
    batch = batch_of(Window(CAMERA, [row]))
    batch.values[0, 0, MARK : MARK + 2] = PLAIN

    assert len(opened(detector(marked), batch)) == 1


def test_an_embedding_that_is_no_number_is_like_nothing(marked):
    assert len(opened(detector(marked), window(like=(np.nan, np.nan)))) == 1


def test_rules_of_another_bundle_rest_and_expired_ones_are_over(marked):
    rule = marked.state.benign[0]
    other = Rules(RulesState(benign=[rule.model_copy(update={"manifest_sha256": "1" * 64})]))
    over = Rules(RulesState(benign=[rule.model_copy(update={"expires_us": T0_US})]))

    assert len(opened(detector(other), window())) == 1
    assert len(opened(detector(over), window())) == 1


def test_a_rule_of_a_device_with_a_mac_follows_it_and_not_its_address():
    (update,) = opened(detector(), window())
    rules = Rules(RulesState(benign=[benign_rule(update, mac="aa:bb:cc:dd:ee:ff")]))

    assert opened(detector(rules, mac_of=lambda _: "aa:bb:cc:dd:ee:ff"), window(device=PHONE)) == []
    assert len(opened(detector(rules, mac_of=lambda _: "aa:bb:cc:dd:ee:00"), window())) == 1
    assert opened(detector(rules), window()) == []


def test_rules_taken_away_in_between_hold_no_more(marked):
    made = detector(marked)
    assert opened(made, window()) == []

    made.change(rules=Rules())

    assert len(opened(made, window(at_s=60, flow_id=2))) == 1


def test_rules_go_through_json(marked):
    again = Rules.restored(json.loads(json.dumps(marked.state.model_dump())))

    assert again.state == marked.state
    assert opened(detector(again), window()) == []


MUTE = {"id": "m-00000001", "device": CAMERA, "created_us": 0, "expires_us": 1}


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"format": 2}, "format"),
        ({"mutes": [{**MUTE, "device": None}]}, "mute of everything"),
        ({"mutes": [{**MUTE, "device": "not an address"}]}, "mutes.0.device"),
        ({"mutes": [{**MUTE, "attack_class": "benign"}]}, "wanted one of"),
        ({"mutes": [{**MUTE, "peer": "aa:bb:cc:dd:ee:ff"}]}, "a peer is an address"),
        ({"mutes": [{**MUTE, "note": "\x1b[2J"}]}, "mutes.0.note"),
        ({"mutes": [MUTE, MUTE]}, "same id"),
        ({"mutes": [MUTE] * 300}, "mutes"),
        ({"verdicts": {"x": "benign"}}, "verdicts"),
        ({"verdicts": {"0" * 36: "maybe"}}, "verdicts"),
        ({"rules": []}, "rules"),
        ([], "valid dictionary"),
    ],
)
def test_a_file_that_is_none_of_rules_is_refused_in_one_line(state, complaint):
    with pytest.raises(StateRefused, match=complaint) as caught:
        Rules.restored(state)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"prints": []},
        {"embedding": "!!!"},
        {"embedding": ""},
        {"embedding": "AHw="},  # infinity
        {"embedding": "AAAA"},  # an odd number of octets
        {"expires_us": T0_US + 31 * DAY_US},
        {"device": "0a"},
        {"score": 1.5},
        {"flows": 0},
    ],
    ids=str,
)
def test_a_benign_rule_that_cannot_be_is_refused(marked, changes):
    state = marked.state.model_dump()
    rule = state["benign"][0]
    target = rule["prints"][0] if "embedding" in changes else rule
    target.update(changes)

    with pytest.raises(StateRefused):
        Rules.restored(state)


def test_verdicts_are_told_apart_by_incident():
    name = "018bcffc-4f48-7000-93dd-7b8cfb3e5df0"

    assert Rules.restored({"verdicts": {name: "malicious"}}).verdicts == {name: "malicious"}


def test_a_mac_that_is_claimed_and_not_proven_fits_no_rule_that_names_one():
    (update,) = opened(detector(), window())
    rules = Rules(RulesState(benign=[benign_rule(update, mac="aa:bb:cc:dd:ee:ff")]))

    assert len(opened(detector(rules, mac_of=lambda _: ""), window())) == 1
    assert len(opened(detector(mute(device="aa:bb:cc:dd:ee:ff"), mac_of=lambda _: ""), window())) == 1
