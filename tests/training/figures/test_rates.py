"""Bounds and rates, against sums written out and against scipy where it is at hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.figures.rates import (
    auc,
    mean_and_spread,
    poisson_upper_bound,
    quantile,
    threshold_at,
    tpr_at_fpr,
    wilson_bounds,
)


@pytest.mark.parametrize(("seen", "bound"), [(0, 3.0), (1, 4.744), (4, 9.154), (10, 16.96)])
def test_the_bound_on_a_count_is_that_of_the_poisson_distribution(seen, bound):
    assert poisson_upper_bound(seen) == pytest.approx(bound, rel=0.02)


@pytest.mark.parametrize(("hits", "trials", "low", "high"), [(0, 20, 0.0, 0.1611), (19, 20, 0.7639, 0.9911)])
def test_the_interval_of_a_share_is_wilsons(hits, trials, low, high):
    """Values from the table of Newcombe (1998), method 3, worked out by hand for n = 20."""
    assert wilson_bounds(hits, trials) == pytest.approx([low, high], abs=1e-3)


def test_no_trials_have_no_interval():
    assert wilson_bounds(0, 0) is None


def test_the_threshold_lets_no_more_benign_scores_pass_than_asked():
    benign = np.arange(1000) / 1000

    threshold = threshold_at(benign, 1e-2)

    assert (benign > threshold).sum() == 10


def test_ties_at_the_threshold_never_raise_the_false_rate():
    benign = np.array([0.1] * 98 + [0.9] * 2)

    assert (benign > threshold_at(benign, 0.01)).mean() <= 0.01


def test_a_small_sample_gives_a_tpr_and_says_that_it_cannot_tell_the_rate():
    told = tpr_at_fpr(np.array([0.4, 0.6, 0.8]), np.linspace(0, 0.5, 100))

    assert told["0.0001"]["tpr"] == pytest.approx(2 / 3)
    assert told["0.0001"]["is_supported"] is False
    assert told["0.0001"]["fpr_upper_bound"] == pytest.approx(3 / 100)


def test_enough_benign_windows_support_the_rate():
    told = tpr_at_fpr(np.array([2.0]), np.random.default_rng(0).random(3000))

    assert [told[rate]["is_supported"] for rate in ("0.01", "0.001", "0.0001")] == [True, True, False]
    assert told["0.001"]["benign_above"] == 3


def test_without_benign_windows_there_is_no_threshold():
    assert tpr_at_fpr(np.array([1.0]), np.zeros(0))["0.01"]["tpr"] is None


def test_the_area_under_the_curve_is_the_share_of_ordered_pairs_with_ties_as_halves():
    attack, benign = np.array([0.9, 0.4, 0.4]), np.array([0.1, 0.4])

    by_hand = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in attack for b in benign])
    assert auc(attack, benign) == pytest.approx(by_hand)


def test_the_spread_over_seeds_passes_over_what_is_undefined():
    told = mean_and_spread([0.5, None, 0.7])

    assert (told["n"], told["mean"], told["least"], told["most"]) == (2, pytest.approx(0.6), 0.5, 0.7)
    assert told["std"] == pytest.approx(np.std([0.5, 0.7], ddof=1))


def test_a_single_seed_has_no_spread():
    assert mean_and_spread([0.5])["std"] is None


def test_the_quantile_of_nothing_is_none():
    assert quantile([], 0.95) is None
