"""Suspicion under a benign rule: what it answers for is as if it had never been, and anything else is told as ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from contracts.bundle import Threshold
from detection.detector import Detector
from detection.engine import Scores
from detection.rules import Rules, RulesState
from flowfeatures import WindowBatch
from tests.detection.test_batch_cuts import (
    MARK,
    PLAIN,
    RULES,
    TURNED,
    EmbeddingEngine,
    batches_of,
    detector,
    joined,
    lasting_bundle,
)
from tests.detection.windows import CAMERA, OUTSIDE, PHONE, Row, S, Window, batch_of

MARKED = (CAMERA, 0.97, "scan", PLAIN, 50_000)  # as what the rule was made of
OTHER = (CAMERA, 0.9, "flood", TURNED, 50_000)  # never told alone
ORDINARY = (CAMERA, 0.02, "scan", TURNED, 50_000)
UNDER_A_RULE = Rules(RulesState(benign=[RULES[CAMERA]]))


def opened(windows: list[tuple[Any, ...]], rules: Rules | None = None) -> list[tuple[str, int]]:
    """Return the class of every incident that windows open, and with which of them."""
    made = detector(rules)
    batches = batches_of(windows)
    return [
        (update.class_name, place)
        for place, batch in enumerate(batches)
        for update in made.add(batch)
        if update.update == 0
    ]


def test_a_steady_attack_of_another_kind_is_told_however_often_a_rule_answers():
    for often in (2, 3, 10):
        alone = opened([OTHER] * 40)
        behind = opened([MARKED if place % often == 0 else OTHER for place in range(80)], UNDER_A_RULE)

        ((name, at),) = behind
        others_before = at - (at // often + 1)
        assert (name, others_before) == alone[0], often


def test_a_steady_attack_of_the_same_kind_that_looks_otherwise_is_told_too():
    other = (CAMERA, 0.9, "scan", TURNED, 50_000)

    ((name, _),) = opened([MARKED, *[other] * 9] * 8, UNDER_A_RULE)

    assert name == "scan"


def test_what_was_marked_opens_nothing_however_long_it_goes_on_and_leaves_no_suspicion_behind():
    long = [MARKED] * 600

    assert opened(long)[0][0] == "scan"
    assert opened(long, UNDER_A_RULE) == []
    assert opened([*long, OTHER, *[ORDINARY] * 3, OTHER], UNDER_A_RULE) == []


def test_windows_that_nobody_would_be_told_of_leave_no_suspicion_behind_either():
    few = [MARKED] * 2

    assert opened(few) == []
    assert opened([*few, OTHER]) == [("flood", 2)]
    assert opened([*few, OTHER], UNDER_A_RULE) == []


def test_beyond_what_a_rule_answers_for_in_an_hour_suspicion_is_earned_as_ever():
    allowed = 4 * 1000
    flows = [(CAMERA, 0.97, "scan", PLAIN, 1000) for _ in range(allowed + 40)]
    batch = joined(batches_of(flows))
    batch.flows["flow_id"][:, 0] = np.arange(len(flows))

    updates = detector(UNDER_A_RULE).add(batch)

    assert [each.class_name for each in updates if each.update == 0] == ["scan"]
    flow = next(int(each.parties.flow["flow_id"]) for each in updates if each.update == 0)
    assert allowed <= flow < allowed + 10


def test_a_window_that_owes_its_score_to_old_records_of_what_was_marked_leaves_no_suspicion_behind():
    made = detector(UNDER_A_RULE)
    for place in range(20):
        rows = [
            Row(OUTSIDE, CAMERA, {"scan": 0.97}, flow_id=1, is_new=False),
            Row(OUTSIDE, CAMERA, {"scan": 0.02}, flow_id=2),
        ]
        batch = batch_of(Window(CAMERA, rows, 0.05 * place))
        batch.values[0, :2, MARK : MARK + 2] = PLAIN
        made.add(batch)

    assert made.add(joined(batches_of([(CAMERA, 0.9, "flood", TURNED, 2 * S)]))) == []


def test_a_verdict_takes_what_was_held_against_its_device_by_then_and_nothing_more():
    made = detector()
    first = made.add(joined(batches_of([MARKED] * 16)))
    assert [each.class_name for each in first] == ["scan"]
    made.change(rules=UNDER_A_RULE)
    late = batches_of([(CAMERA, 0.9, "flood", TURNED, 2 * S), *[OTHER] * 40])

    places = [place for place, batch in enumerate(late) if any(each.update == 0 for each in made.add(batch))]

    assert places == [place for _, place in opened([OTHER] * 41)]


def test_rules_taken_back_leave_suspicion_as_if_there_had_been_none():
    made = detector(UNDER_A_RULE)
    made.add(joined(batches_of([MARKED] * 16)))
    made.change(rules=Rules())

    updates = made.add(joined(batches_of([(CAMERA, 0.97, "scan", PLAIN, 2 * S)])))

    assert [each.class_name for each in updates] == ["scan"]


def test_a_rule_taken_back_leaves_suspicion_as_if_there_had_been_none_whatever_rules_of_other_devices_are_left():
    made = detector(Rules(RulesState(benign=[RULES[CAMERA], RULES[PHONE]])))
    made.add(joined(batches_of([MARKED] * 16)))
    made.change(rules=Rules(RulesState(benign=[RULES[PHONE]])))

    updates = made.add(joined(batches_of([(CAMERA, 0.97, "scan", PLAIN, 2 * S)])))

    assert [each.class_name for each in updates] == ["scan"]


UNKNOWN_AT = MARK + 2


class DoubtfulEngine(EmbeddingEngine):
    """Gives the column after the embedding as the unknown score."""

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        unknown = (windows[:, :, UNKNOWN_AT] * mask).max(axis=1)
        return super().score(windows, mask)._replace(unknown_score=unknown)


def doubtful(window: tuple[Any, ...], rules: Rules | None = None, *, before: int = 0) -> list[tuple[str, int]]:
    """Return class and severity of what is opened by a window of a high unknown score, behind some marked ones."""
    bundle = lasting_bundle()
    thresholds = {**bundle.manifest.thresholds, "unknown": Threshold(open=0.95, severe=0.999)}
    manifest = bundle.manifest.model_copy(update={"thresholds": thresholds})
    made = Detector(replace(bundle, manifest=manifest), DoubtfulEngine(), rules=rules)
    if before:
        assert made.add(joined(batches_of([MARKED] * before))) == []
    (batch,) = batches_of([window])
    batch.values[0, 0, UNKNOWN_AT] = 0.97
    return [(each.class_name, each.severity) for each in made.add(batch)]


def test_what_only_windows_that_are_answered_for_make_more_than_unknown_is_told_as_unknown():
    late = (CAMERA, 0.9, "flood", TURNED, 2 * S)

    assert doubtful(late) == doubtful(late, UNDER_A_RULE, before=16) == [("unknown", 3)]
    assert doubtful((CAMERA, 0.97, "scan", PLAIN, 2 * S), UNDER_A_RULE, before=16) == []


def judged_by(made: Detector, batch: WindowBatch) -> NDArray[np.float32]:
    made.add(batch)
    return made.judged.probabilities


_seen = st.lists(
    st.tuples(
        st.sampled_from((MARKED, OTHER, ORDINARY, (CAMERA, 0.7, "flood", TURNED, 50_000), (PHONE, *OTHER[1:]))),
        st.integers(1, 9),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(stretches=_seen)
def test_what_is_told_of_all_else_is_what_is_told_without_the_windows_a_rule_answers_for(
    stretches: list[tuple[tuple[Any, ...], int]],
):
    """As long as what was marked scores no less than all else: a rule makes no alarm."""
    windows = [each for each, times in stretches for _ in range(times)]
    batches = batches_of(windows)
    kept = [batch for window, batch in zip(windows, batches, strict=True) if window is not MARKED]
    behind, without = detector(UNDER_A_RULE), detector()

    judged = [judged_by(behind, batch) for batch in batches]
    others = [judged_by(without, batch) for batch in kept]

    told = [each for window, each in zip(windows, judged, strict=True) if window is not MARKED]
    np.testing.assert_array_equal(np.array(told), np.array(others))
    assert [each.class_name for each in behind.incidents] == [each.class_name for each in without.incidents]


def test_a_rule_of_another_device_costs_a_window_that_is_not_told_nothing():
    scored = []
    for rules in (Rules(), Rules(RulesState(benign=[RULES[PHONE]])), UNDER_A_RULE):
        engine = EmbeddingEngine()
        detector(rules, engine).add(joined(batches_of([(CAMERA, 0.55, "scan", PLAIN, 50_000)] * 20)))
        scored.append(engine.windows_scored)

    assert scored == [20, 20, 40]
