"""Suspicion that adds up over the windows of a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from contracts.bundle import SustainedRule, Threshold, default_bundle
from contracts.classes import BENIGN, HEAD_NAMES, NAMES
from detection.decide import Thresholds, log_odds
from detection.engine import Scores
from detection.sustained import MAX_DEVICES, Averages, Sustained, quiet_below
from flowfeatures import WindowBatch, address_bytes
from tests.detection.windows import CAMERA, PHONE, Row, Window, batch_of, make_manifest

RULE = SustainedRule(weight=0.25, start=-3.0, least=-4.0, most=6.0, fades_s=300.0, open=0.8)
THRESHOLDS = Thresholds(
    {name: Threshold(open=0.99, severe=0.999) for name in HEAD_NAMES if name != "benign"}, score="not benign"
)
SCAN = NAMES.index("scan")


def windows_at(times_s: Sequence[float], device: str = CAMERA) -> WindowBatch:
    return batch_of(*(Window(device, [Row(device, PHONE)], at_s=at_s) for at_s in times_s))


def scores_of(attack: Sequence[float], class_index: int = SCAN) -> Scores:
    """Return scores of windows whose probability of being no benign one is given."""
    probabilities = np.zeros((len(attack), len(HEAD_NAMES)), np.float32)
    probabilities[:, class_index] = attack
    probabilities[:, BENIGN] = 1 - probabilities[:, class_index]
    none = np.zeros(len(attack), np.float32)
    return Scores(probabilities, np.zeros((len(attack), 4), np.float32), none, np.zeros((len(attack), 16), np.float32))


def detected(scores: Scores) -> list[int]:
    return [each.row for each in THRESHOLDS.detections(scores)]


def told(attack: Sequence[float], times_s: Sequence[float] | None = None, device: str = CAMERA) -> Scores:
    batch = windows_at(times_s or [0.05 * place for place in range(len(attack))], device)
    return Sustained(RULE, THRESHOLDS).told(batch, scores_of(attack))


def test_one_window_below_its_threshold_is_no_detection_but_many_are():
    many = told([0.95] * 12)

    assert detected(scores_of([0.95] * 12)) == []
    assert detected(many)[0] > 3
    assert detected(many)[-1] == 11


def test_scores_told_are_probabilities_still_and_name_the_class_the_window_named():
    probabilities = told([0.95] * 12).probabilities

    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (probabilities.argmax(axis=1) == SCAN).all()


def test_a_busy_sensor_that_scores_as_high_now_and_then_stays_quiet():
    assert detected(told([0.95, 0.05, 0.02, 0.95, 0.1] * 10)) == []


def test_a_window_that_looks_benign_is_never_told_as_an_attack():
    assert detected(told([0.97] * 20 + [0.4] * 3))[-1] == 19


def test_a_window_already_above_its_threshold_is_told_no_lower():
    sure = told([0.9999])

    assert sure.probabilities[0, SCAN] == pytest.approx(0.9999)


def test_how_far_above_the_average_is_is_how_far_above_the_window_is_told():
    scores = told([0.95] * 40)
    odds = float(np.log(0.95 / 0.05))

    margin = THRESHOLDS.margins(scores).known[-1]

    assert margin == pytest.approx(odds - np.log(0.8 / 0.2), abs=0.01)


def test_moved_thresholds_move_both_alike():
    scores = told([0.95] * 12)
    stricter = THRESHOLDS.moved(np.full(len(NAMES), 0.9999))

    assert stricter.detections(scores) == []


def test_lowered_thresholds_are_those_of_single_windows_alone():
    lower = THRESHOLDS.moved(np.full(len(NAMES), 0.9))
    just_below, one_high = told([0.79] * 40), told([0.01] * 8 + [0.95] + [0.01] * 8)

    assert lower.detections(just_below) == []  # its average comes within a hair of .8, and no nearer
    assert [each.row for each in lower.detections(one_high)] == [8]
    assert [each.row for each in lower.detections(told([0.89] * 40))] == detected(told([0.89] * 40)) != []


def test_the_shipped_thresholds_of_single_windows_may_fall_and_by_as_much_the_averages_would_tell_of_benign_ones():
    manifest = default_bundle().manifest
    assert manifest.sustained is not None
    assert manifest.benign_scores is not None
    named = [name for name in HEAD_NAMES if name != "benign"]
    highest = max(manifest.benign_scores.quantiles[name][-1] for name in named)

    room = log_odds(highest) - log_odds(manifest.thresholds["scan"].open)

    assert room < -2
    assert log_odds(manifest.sustained.open) + room < 0  # where windows look benign themselves


def test_suspicion_fades_in_silence():
    at_once = told([0.95] * 8 + [0.95])
    after_an_hour = told([0.95] * 8 + [0.95], [0.05 * place for place in range(8)] + [3600.0])

    assert detected(at_once)[-1] == 8
    assert 8 not in detected(after_an_hour)


def test_a_clock_set_back_fades_nothing():
    assert 8 in detected(told([0.95] * 9, [100.0 + 0.05 * place for place in range(8)] + [0.0]))


def test_devices_do_not_share_suspicion():
    sustained = Sustained(RULE, THRESHOLDS)
    sustained.told(windows_at([0.05 * place for place in range(12)]), scores_of([0.95] * 12))

    assert detected(sustained.told(windows_at([1.0], PHONE), scores_of([0.95]))) == []


def test_a_device_that_changed_its_address_keeps_its_suspicion():
    sustained = Sustained(RULE, THRESHOLDS)
    sustained.told(windows_at([0.05 * place for place in range(12)]), scores_of([0.95] * 12))

    sustained.moved(address_bytes(CAMERA), address_bytes(PHONE))

    assert detected(sustained.told(windows_at([1.0], PHONE), scores_of([0.95]))) == [0]


def test_batches_cut_anywhere_are_told_alike():
    attack = [0.6, 0.95, 0.9, 0.97, 0.95, 0.99, 0.3, 0.95, 0.95, 0.95]
    sustained, times_s = Sustained(RULE, THRESHOLDS), [0.05 * place for place in range(10)]
    parts = [
        sustained.told(windows_at(times_s[first:last]), scores_of(attack[first:last])).probabilities
        for first, last in ((0, 3), (3, 4), (4, 10))
    ]

    np.testing.assert_array_equal(np.concatenate(parts), told(attack).probabilities)


def test_without_a_rule_scores_stay_what_they_are():
    scores = scores_of([0.95] * 12)

    assert Sustained(None, THRESHOLDS).told(windows_at(range(12)), scores) is scores


def test_the_scores_given_are_left_as_they_were():
    scores = scores_of([0.95] * 12)
    before: NDArray[np.float32] = scores.probabilities.copy()

    Sustained(RULE, THRESHOLDS).told(windows_at(range(12)), scores)

    np.testing.assert_array_equal(scores.probabilities, before)


def test_no_more_devices_are_held_than_have_windows():
    averages = Averages(RULE)
    for number in range(MAX_DEVICES + 100):
        averages.add(windows_at([float(number)], f"10.0.{number // 256}.{number % 256}"), np.array([2.0]))

    assert len(averages._held) == MAX_DEVICES


def test_a_class_without_a_threshold_is_not_told():
    without = Thresholds({"flood": Threshold(open=0.99, severe=0.999)}, score="not benign")
    sustained = Sustained(RULE, without)

    assert sustained.told(windows_at(range(12)), scores_of([0.95] * 12)).probabilities[-1, SCAN] < 0.96


def test_a_rule_that_cannot_be_is_refused():
    never, at_once = {"most": 1.0, "open": 0.9}, {"start": 5.0, "open": 0.6}
    for change in ({"weight": 0.0}, {"start": -5.0}, {"most": -3.5}, {"open": 1.0}, {"fades_s": 0.0}, never, at_once):
        with pytest.raises(ValidationError):
            SustainedRule.model_validate(RULE.model_dump() | change)


def test_what_stays_quiet_however_often_it_comes_lies_below_both_thresholds():
    manifest = make_manifest(open_at=0.99, severe_at=0.999).model_copy(update={"score": "not benign"})
    lasting = manifest.model_copy(update={"sustained": RULE})

    assert quiet_below(manifest).open[SCAN] == pytest.approx(0.99)
    assert quiet_below(lasting).open[SCAN] == pytest.approx(RULE.open)
    assert quiet_below(lasting).severe[SCAN] == pytest.approx(0.999)


def test_a_device_heard_at_its_new_address_before_it_moved_keeps_the_higher_average_and_leaves_none_behind():
    averages = Averages(RULE)
    for place in range(12):
        averages.add(windows_at([0.05 * place]), np.array([4.0]))
    averages.add(windows_at([0.7], PHONE), np.array([-3.0]))

    averages.moved(address_bytes(CAMERA), address_bytes(PHONE))

    assert averages.add(windows_at([0.75], PHONE), np.array([4.0]))[0] > 3.5
    assert averages.add(windows_at([0.75], CAMERA), np.array([0.0]))[0] < -2


def test_addresses_made_up_by_the_thousand_push_no_suspect_out():
    averages = Averages(RULE)
    for place in range(12):
        averages.add(windows_at([0.05 * place]), np.array([4.0]))

    for number in range(2 * MAX_DEVICES):
        averages.add(windows_at([1.0], f"10.0.{number // 256}.{number % 256}"), np.array([4.0]))

    assert averages.add(windows_at([1.1]), np.array([4.0]))[0] > 3.5
