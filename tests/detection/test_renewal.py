"""What a benign rule learns of an incident that was still open when it was called benign."""

from __future__ import annotations

import numpy as np
import pytest

from detection.renewal import flows_an_hour, renewed, renewed_rule, renewed_rules
from detection.rules import Rules, RulesState
from tests.detection.test_rules import TURNED, EmbeddingEngine, benign_rule, called_benign, detector, opened, window
from tests.detection.windows import ELSEWHERE, S, make_bundle


def grown(made, *, flows: int = 40):
    """Return the opening message of an incident that went on, surer and in another way too."""
    (update,) = opened(made, window(score=0.75))
    for number in range(2, flows + 2):
        made.add(window(flow_id=number, score=0.85, like=TURNED if number % 2 else (3.0, 4.0), at_s=0.1 * number))
    return update


def test_a_verdict_on_the_first_message_answers_for_what_the_incident_was_by_then():
    made = detector()
    update = grown(made)
    made.change(rules=called_benign(update, at_us=update.at_us + 5 * S))

    later = opened(
        made,
        *(window(flow_id=100 + number, score=0.85, like=TURNED, at_s=6.0 + 0.1 * number) for number in range(40)),
    )

    assert later == []


def test_and_for_no_more_than_that():
    made = detector()
    update = grown(made)
    made.change(rules=called_benign(update, at_us=update.at_us + 5 * S))

    assert len(opened(made, window(flow_id=200, port=80, like=TURNED, at_s=7.0))) == 1
    assert len(opened(made, window(flow_id=201, score=0.99, like=TURNED, at_s=400.0))) == 1


def test_an_incident_that_closed_long_ago_is_known_as_it_was_told():
    rules = called_benign(opened(detector(), window())[0])

    assert renewed_rules(rules, {}) is rules


def test_a_renewed_rule_keeps_its_name_and_its_time_and_forgets_no_flow():
    made = detector()
    update = grown(made)
    rule = benign_rule(update, flows=1_000_000)
    state = RulesState(benign=[rule], verdicts={update.incident_id: "benign"})
    (whole,) = made.incidents

    (after,) = renewed(state, {update.incident_id: whole}).benign

    assert (after.id, after.expires_us, after.flows) == (rule.id, rule.expires_us, 1_000_000)
    assert after.score > rule.score
    assert len(after.prints) > len(rule.prints)
    assert len(Rules(state).benign) == 1


@pytest.mark.parametrize(
    ("flows", "span_s", "wanted"), [(1, 0, 60), (60, 60, 3600), (60, 3600, 60), (60, 36_000, 60), (0, 60, 1)]
)
def test_a_pace_is_taken_from_a_minute_at_least_and_is_never_below_what_was_seen(flows, span_s, wanted):
    assert flows_an_hour(flows, first_us=0, last_us=span_s * S) == wanted


def test_rules_that_are_read_again_know_the_incident_whole_too():
    """The file learns it later, or never where the disk takes nothing; another mute rewrites it meanwhile."""
    made = detector()
    update = grown(made)
    rules = called_benign(update, at_us=update.at_us + 5 * S)
    made.change(rules=rules)
    made.change(rules=Rules(rules.state))
    while_open = opened(made, window(flow_id=100, score=0.85, like=TURNED, at_s=6.0))
    made.change(rules=Rules(rules.state))

    assert while_open == []
    assert opened(made, window(flow_id=101, score=0.85, like=TURNED, at_s=7.0)) == []


def test_what_a_rule_knows_already_is_not_forgotten():
    made = detector()
    (update,) = opened(made, window(score=0.75))
    (before,) = made.incidents
    made.add(window(flow_id=90, score=0.8, like=TURNED, at_s=5.0))
    (whole,) = made.incidents

    later = renewed_rule(benign_rule(update), whole)

    assert len(later.prints) > len(before.prints)
    assert renewed_rule(later, before) == later


@pytest.mark.parametrize("other", [{"port": 80}, {"src": ELSEWHERE}])
def test_an_attack_that_joined_the_incident_before_the_verdict_is_not_answered_for(other):
    made = detector()
    (update,) = opened(made, window(score=0.75))
    for number in range(2, 12):
        made.add(window(flow_id=number, score=0.95, like=TURNED, at_s=0.1 * number, **other))
    (whole,) = made.incidents
    rule = benign_rule(update)
    made.change(rules=called_benign(update, at_us=update.at_us + 5 * S))

    assert renewed_rule(rule, whole) == rule
    assert len(opened(made, window(flow_id=50, score=0.95, like=TURNED, at_s=7.0, **other))) == 1


def test_an_incident_goes_on_and_can_be_called_benign_under_a_bundle_of_other_embeddings():
    class Wide(EmbeddingEngine):
        def score(self, windows, mask):
            scores = super().score(windows, mask)
            return scores._replace(embedding=np.tile(scores.embedding, (1, 4)))

    made = detector()
    (update,) = opened(made, window())
    made.use(make_bundle(), Wide())
    made.add(window(flow_id=2, at_s=1.0))
    (whole,) = made.incidents
    made.change(rules=called_benign(update, at_us=update.at_us + 5 * S))

    assert {len(each.embedding) for each in whole.prints} == {8}
    assert renewed_rule(benign_rule(update), whole).prints == benign_rule(update).prints
