"""Figures of evaluate, on outcomes made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from contracts.classes import NAMES
from training.evaluate import CaptureOutcome, JudgedIncident, auc, figures

SCAN, FLOOD = NAMES.index("scan"), NAMES.index("flood")


def outcome(label, detected, *, score=None, incidents=(), first_attack_us=None, days=1.0, outside=False):
    truth = SimpleNamespace(path=Path("x.pcap"), attack="mixed", class_index=SCAN, outside_observation=outside)
    return CaptureOutcome(
        truth=truth,
        label=np.array(label, np.int64),
        detected=np.array(detected, np.int64),
        attack_score=np.array(score if score is not None else [0.5] * len(label), np.float32),
        incidents=tuple(incidents),
        first_attack_us=first_attack_us or {},
        days=days,
        truncated=None,
    )


def incident(class_index=SCAN, *, opened_us=0, meets=(SCAN,)):
    return JudgedIncident("192.0.2.1", class_index, opened_us, frozenset(meets))


def test_an_attack_window_counts_as_detected_under_any_attack_class():
    told = figures([outcome([SCAN, SCAN, SCAN, 0], [SCAN, FLOOD, 0, 0])])

    assert told["tpr"] == pytest.approx(2 / 3)
    assert (told["windows_attack"], told["windows_benign"], told["fpr"]) == (3, 1, 0.0)


def test_what_is_undefined_is_none():
    told = figures([outcome([0, 0], [0, SCAN], days=0.0)])

    assert told["tpr"] is None
    assert told["auc"] is None
    assert told["false_incidents_per_day"] is None
    assert told["first_alert_s"] is None
    assert told["fpr"] == 0.5


def test_a_class_has_its_own_attack_windows_and_the_false_calls_made_in_its_name():
    both = outcome([SCAN, FLOOD, 0, 0], [SCAN, SCAN, SCAN, 0], incidents=[incident(SCAN, meets=()), incident(FLOOD)])
    told = figures([both], class_index=FLOOD)

    assert (told["windows_attack"], told["tpr"], told["fpr"]) == (1, 1.0, 0.0)
    assert (told["incidents"], told["false_incidents"]) == (1, 0)
    assert figures([both], class_index=SCAN)["fpr"] == 0.5


def test_false_incidents_are_told_per_day_of_packet_time():
    told = figures([outcome([0], [0], incidents=[incident(meets=())] * 3, days=2.0), outcome([0], [0], days=4.0)])

    assert (told["false_incidents"], told["days"], told["false_incidents_per_day"]) == (3, 6.0, 0.5)


def test_the_first_alert_is_counted_from_the_first_attack_packet_and_passes_over_false_incidents():
    early = incident(opened_us=1_000_000, meets=())
    right = incident(opened_us=4_500_000)
    told = figures([outcome([SCAN], [SCAN], incidents=[early, right], first_attack_us={SCAN: 4_000_000})])

    assert told["first_alert_s"] == pytest.approx(0.5)


def test_a_capture_outside_our_observation_counts_in_no_rate():
    told = figures([outcome([SCAN], [0], outside=True), outcome([SCAN], [SCAN])])

    assert (told["windows_attack"], told["tpr"]) == (1, 1.0)


def test_the_area_under_the_curve_is_the_share_of_ordered_pairs_with_ties_as_halves():
    attack, benign = np.array([0.9, 0.4, 0.4]), np.array([0.1, 0.4])

    by_hand = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in attack for b in benign])
    assert auc(attack, benign) == pytest.approx(by_hand)
