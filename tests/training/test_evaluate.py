"""Figures of evaluate, on outcomes made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from contracts.classes import NAMES
from training.figures.outcomes import CaptureOutcome, JudgedIncident, figures, whole

SCAN, FLOOD, UNKNOWN = (NAMES.index(name) for name in ("scan", "flood", "unknown"))


def outcome(label, detected, *, score=None, unknown=None, incidents=(), first_attack_us=None, days=1.0, outside=False):
    truth = SimpleNamespace(path=Path("x.pcap"), attack="mixed", class_index=SCAN, outside_observation=outside)
    return CaptureOutcome(
        truth=truth,
        label=np.array(label, np.int64),
        detected=np.array(detected, np.int64),
        attack_score=np.array(score if score is not None else [0.5] * len(label), np.float32),
        incidents=tuple(incidents),
        first_attack_us=first_attack_us or {},
        days=days,
        broken=None,
        unknown_score=None if unknown is None else np.array(unknown, np.float32),
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


def test_every_key_that_the_report_had_is_still_there():
    told = figures([outcome([SCAN, 0], [SCAN, 0])])

    assert {
        "windows_benign", "windows_attack", "tpr", "fpr", "auc", "incidents", "false_incidents", "days",
        "false_incidents_per_day", "first_alert_s",
    } <= set(told)  # fmt: skip


def test_no_false_incident_in_two_days_bounds_their_rate_by_the_rule_of_three():
    told = figures([outcome([0], [0], days=2.0)])

    assert (told["false_incidents_per_day"], told["false_incidents_per_day_upper_bound"]) == (0.0, 1.5)


def test_an_attack_that_no_incident_met_is_counted_beside_those_alerted():
    seen = outcome([SCAN], [SCAN], incidents=[incident(opened_us=2_000_000)], first_attack_us={SCAN: 0, FLOOD: 0})
    missed = outcome([SCAN], [0], first_attack_us={SCAN: 0})
    told = figures([seen, missed])

    assert (told["attacks"], told["attacks_alerted"]) == (3, 1)
    assert told["first_alert_s"] == told["first_alert_s_p95"] == 2.0


def test_the_95th_percentile_of_the_first_alert_is_over_captures():
    each = [
        outcome([SCAN], [SCAN], incidents=[incident(opened_us=s * 1_000_000)], first_attack_us={SCAN: 0})
        for s in range(21)
    ]

    assert figures(each)["first_alert_s_p95"] == pytest.approx(19.0)


def test_a_constant_unknown_score_has_no_figures():
    assert figures([outcome([SCAN, 0], [SCAN, 0], unknown=[0.0, 0.0])])["unknown"] is None


def test_unknown_behaviour_is_told_apart_from_what_a_class_claimed():
    each = outcome([SCAN, SCAN, FLOOD, 0, 0], [SCAN, UNKNOWN, 0, 0, UNKNOWN], unknown=[0.1, 0.9, 0.2, 0.0, 0.8])
    told = figures([each])["unknown"]

    assert told["tpr"] == pytest.approx(1 / 3)
    assert told["fpr"] == 0.5
    assert told["share_of_missed"] == 0.5
    assert told["auc"] == pytest.approx(4 / 6)


def test_quiet_captures_have_a_median_of_their_own():
    quiet = [
        outcome([0], [0], days=1.0),
        outcome([0], [0], days=1.0),
        outcome([0], [SCAN], incidents=[incident(meets=())]),
    ]
    told = whole([*quiet, outcome([SCAN], [SCAN])])["benign_captures"]

    assert (told["captures"], told["with_false_incidents"], told["false_incidents_per_day_median"]) == (3, 1, 0.0)


def test_the_confusion_is_over_all_counted_windows():
    told = whole([outcome([SCAN, 0], [FLOOD, 0]), outcome([SCAN], [SCAN], outside=True)])

    assert told["confusion"] == {"benign": {"benign": 1}, "scan": {"flood": 1}}
    assert told["over_classes"]["accuracy"] == 0.5
