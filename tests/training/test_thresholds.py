"""Thresholds from benign scores."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import BENIGN, HEAD_NAMES, NAMES
from training.thresholds import ThresholdSettings, choose, upper_bound

STRICT = ThresholdSettings(tolerated={"lab": 1e-3}, tolerated_elsewhere=0.0)


def benign_scores(count: int, *, highest_scan: float) -> np.ndarray:
    scores = np.zeros((count, len(HEAD_NAMES)), np.float32)
    scores[:, NAMES.index("scan")] = 0.001
    scores[0, NAMES.index("scan")] = highest_scan
    scores[:, BENIGN] = 1 - scores[:, NAMES.index("scan")]
    return scores


def test_a_threshold_lies_a_margin_in_log_odds_above_the_highest_benign_score():
    low, _ = choose({"home": benign_scores(1000, highest_scan=0.9)}, settings=STRICT).by_class["scan"]

    margin = np.log(low / (1 - low)) - np.log(0.9 / 0.1)
    assert margin == pytest.approx(ThresholdSettings().open_margin, abs=0.01)


def test_a_class_that_benign_traffic_never_resembles_gets_the_floor():
    assert (
        choose({"home": benign_scores(1000, highest_scan=0.9)}, settings=STRICT).by_class["flood"][0]
        == ThresholdSettings().floor
    )


def test_benign_windows_torn_between_two_attack_classes_raise_the_threshold_of_the_likelier_one():
    scores = benign_scores(1000, highest_scan=0.5)
    scores[0, NAMES.index("flood")], scores[0, BENIGN] = 0.4, 0.1

    chosen = choose({"home": scores}, settings=STRICT).by_class

    assert chosen["scan"][0] > 0.9
    assert chosen["flood"][0] == ThresholdSettings().floor


def test_every_attack_class_has_an_open_and_no_smaller_severe_threshold():
    chosen = choose({"home": benign_scores(10, highest_scan=0.9999)}).by_class

    assert set(chosen) == set(HEAD_NAMES) - {"benign"}
    assert all(low <= high <= 1 for low, high in chosen.values())


def test_no_benign_window_at_all_still_gives_thresholds_and_supports_nothing():
    chosen = choose({"home": np.zeros((0, len(HEAD_NAMES)), np.float32)})

    assert chosen.fpr_bound is None
    assert chosen.by_class["scan"][0] == ThresholdSettings().floor


def test_three_in_a_thousand_windows_of_the_lab_may_lie_above():
    scores = benign_scores(2000, highest_scan=0.95)

    assert choose({"lab": scores}).by_class["scan"][0] == ThresholdSettings().floor
    assert choose({"lab": scores, "home": scores}).by_class["scan"][0] > 0.95


def test_nothing_seen_in_n_windows_bounds_the_rate_at_three_over_n():
    assert choose({"home": benign_scores(3000, highest_scan=0.2)}).fpr_bound == pytest.approx(1e-3)


def test_the_bound_lies_above_the_observed_rate_and_falls_with_more_trials():
    assert 0.01 < upper_bound(100, 10_000) < upper_bound(1, 100)


def test_the_benign_tail_is_what_numpy_counts_above_it():
    scores = np.full((4000, len(HEAD_NAMES)), 0.0, np.float32)
    scan = NAMES.index("scan")
    scores[:, scan] = np.random.default_rng(1).permutation(4000) / 4000
    scores[:, BENIGN] = 1 - scores[:, scan]

    told = choose({"home": scores}, settings=STRICT).facts()["benign_scores"]

    assert told["windows"] == 4000
    for share, score in zip(told["shares"], told["quantiles"]["scan"], strict=True):
        assert (scores[:, scan] >= score).mean() == pytest.approx(share, abs=1 / 4000 + 1e-9)
    assert told["quantiles"]["scan"][-1] == pytest.approx(scores[:, scan].max())


def test_what_is_tolerated_of_the_lab_is_left_out_of_its_tail_and_a_larger_source_does_not_drown_a_smaller():
    home, lab = benign_scores(1000, highest_scan=0.4), benign_scores(100_000, highest_scan=0.95)

    tail = choose({"lab": lab, "home": home}, settings=STRICT).facts()["benign_scores"]["quantiles"]["scan"]

    assert tail[-1] == pytest.approx(0.4)


def test_without_benign_windows_there_is_no_tail():
    assert "benign_scores" not in choose({"home": np.zeros((0, len(HEAD_NAMES)), np.float32)}).facts()
