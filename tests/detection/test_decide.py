"""Thresholds: which windows are detections, and of which class."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.bundle import Threshold
from contracts.classes import BENIGN, NAMES, UNKNOWN
from detection.decide import Thresholds
from detection.engine import Scores

THRESHOLDS = {"scan": Threshold(open=0.5, severe=0.75), "flood": Threshold(open=0.25, severe=0.875)}


def scores(*rows: dict[str, float], unknown: float = 0.0) -> Scores:
    probabilities = np.zeros((len(rows), UNKNOWN), np.float32)
    for row, values in enumerate(rows):
        for name, value in values.items():
            probabilities[row, NAMES.index(name)] = value
        probabilities[row, BENIGN] += 1 - probabilities[row].sum()
    b = len(rows)
    return Scores(probabilities, np.zeros((b, 1), np.float32), np.full(b, unknown, np.float32), np.zeros((b, 1)))


def test_a_score_equal_to_the_threshold_is_no_detection():
    assert Thresholds(THRESHOLDS, score="not benign").detections(scores({"scan": 0.5})) == []


def test_a_score_just_above_it_is_one():
    above = 0.5 + 2.0**-20

    (detection,) = Thresholds(THRESHOLDS, score="not benign").detections(scores({"scan": 0.4}, {"scan": above}))

    assert (detection.row, NAMES[detection.class_index], detection.severe) == (1, "scan", False)
    assert detection.score == pytest.approx(above)
    assert detection.threshold == 0.5


def test_an_attack_between_two_classes_is_no_less_of_an_attack():
    (detection,) = Thresholds(THRESHOLDS, score="not benign").detections(scores({"scan": 0.45, "flood": 0.30}))

    assert NAMES[detection.class_index] == "scan", "the more probable one gives the name"
    assert detection.score == pytest.approx(0.75)


def test_where_the_bundle_says_so_each_class_is_held_against_its_own_threshold():
    (detection,) = Thresholds(THRESHOLDS).detections(scores({"scan": 0.45, "flood": 0.30}))

    assert NAMES[detection.class_index] == "flood", "scan is more probable, but below its own threshold"


def test_the_threshold_is_that_of_the_most_probable_class():
    assert Thresholds(THRESHOLDS, score="not benign").detections(scores({"scan": 0.26, "flood": 0.22})) == []


def test_benign_is_never_a_detection_however_probable():
    assert (
        Thresholds({**THRESHOLDS, "benign": Threshold(open=0.1, severe=0.1)}).detections(scores({"benign": 1.0})) == []
    )


def test_a_class_without_a_threshold_is_never_a_detection():
    assert Thresholds(THRESHOLDS, score="not benign").detections(scores({"c2": 1.0})) == []


def test_the_second_threshold_must_be_passed_to_be_severe():
    severe = [
        each.severe
        for each in Thresholds(THRESHOLDS, score="not benign").detections(scores({"scan": 0.75}, {"scan": 0.76}))
    ]

    assert severe == [False, True]


def test_unknown_behaviour_counts_only_where_no_known_attack_does():
    thresholds = Thresholds({**THRESHOLDS, "unknown": Threshold(open=0.5, severe=1.0)})

    detections = thresholds.detections(scores({"benign": 1.0}, {"flood": 0.3}, unknown=0.9))

    assert [NAMES[each.class_index] for each in detections] == ["unknown", "flood"]
