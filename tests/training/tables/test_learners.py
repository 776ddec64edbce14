"""Learners under one name each: probabilities at the right places, scores without a test row."""

from __future__ import annotations

import numpy as np
import pytest

from training.baselines import CLASSICAL
from training.tables import judge, learners, sides
from training.tables.density import fit_density

from .rows import clouds

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def cut() -> sides.Sides:
    return sides.at_random(clouds(benign=400, kinds={"scan": 150, "flood": 150}), seed=1)


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_classical_learner_tells_clouds_apart(name: str, cut: sides.Sides):
    classes = learners.classes_of(cut.train, by_kind=False)

    fitted = learners.fit_learner(name, cut, classes, seed=1)

    probabilities = fitted.probabilities(cut.test)
    assert probabilities.shape == (len(cut.test), 3)
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert (probabilities.argmax(axis=1) == classes.of(cut.test)).mean() > 0.9


def test_benign_is_the_first_class_and_a_kind_not_taught_is_none():
    cut = sides.without_kinds(clouds(), ["scan"], seed=1)

    classes = learners.classes_of(cut.train, by_kind=True)

    assert classes.names == ("benign", "flood")
    assert set(classes.of(cut.test)[cut.test.kind == "scan"]) == {-1}


def test_log_odds_keep_apart_what_one_minus_p_would_round_together():
    nearly = np.array([[1e-20, 1.0], [1e-30, 1.0], [1.0, 0.0]])

    odds = learners.log_odds(nearly)

    assert odds[1] > odds[0] > odds[2]
    assert np.isfinite(odds).all()


def test_a_judgement_tells_of_kinds_never_taught_apart_from_the_classes():
    cut = sides.without_kinds(clouds(benign=600), ["scan"], seed=1)
    classes = learners.classes_of(cut.train, by_kind=False)

    run, _ = judge.judge("random forest", cut, classes, density=fit_density(cut.train, seed=1), seed=1)

    assert run["unknown"]["kinds"] == {"scan": 100}
    assert run["unknown"]["with_density"]["by_kind"]["scan"]["tpr"] > 0.9
    assert set(run["classes"]["per_class"]) == {"benign", "flood"}
    assert sum(map(sum, run["classes"]["confusion"])) == (cut.test.kind != "scan").sum()
    assert set(run["detection"]) == set(learners.SCORES)


def test_a_split_in_which_every_kind_was_taught_has_no_figures_of_unknown_ones(cut: sides.Sides):
    classes = learners.classes_of(cut.train, by_kind=False)

    run, _ = judge.judge("naive bayes", cut, classes, density=fit_density(cut.train, seed=1), seed=1)

    assert run["unknown"] is None
