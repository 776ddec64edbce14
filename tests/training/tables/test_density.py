"""Scores learned from benign rows: what they rank high, and that attacks teach them nothing."""

from __future__ import annotations

import numpy as np
import pytest

from training.tables.density import NAMES, Rarity, fit_density

from .rows import clouds

pytest.importorskip("sklearn")


def test_rows_far_from_benign_ones_are_rare_by_every_score():
    density = fit_density(clouds(benign=600), seed=1)
    test = clouds(seed=8)

    scores = density.scores(test)

    benign, attack = scores[~test.attack], scores[test.attack]
    above = {name: (attack[:, place] > np.quantile(benign[:, place], 0.99)).mean() for place, name in enumerate(NAMES)}
    assert above["neighbours"] > 0.95
    assert above["mixture"] > 0.95
    assert above["local"] > 0.95


def test_which_attacks_stand_in_training_does_not_change_the_scores_on_ranks():
    few, many = (fit_density(clouds(kinds=kinds), seed=1) for kinds in ({"flood": 10}, {"flood": 10, "scan": 90}))
    test = clouds(seed=8)

    local = [density.scores(test)[:, 2] for density in (few, many)]

    assert np.array_equal(*local)


def test_rarity_is_minus_the_log_of_the_share_of_benign_rows_above():
    rarity = Rarity.of(np.arange(99.0))

    found = rarity(np.array([-1.0, 49.0, 98.0, 1000.0]))

    assert found == pytest.approx(-np.log([99.5 / 100, 50.5 / 100, 1.5 / 100, 0.5 / 100]))
