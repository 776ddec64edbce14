"""Figures against scikit-learn's and against hand calculations."""

from __future__ import annotations

import numpy as np
import pytest

from training.figures.rates import auc
from training.tables import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.fixture
def judged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    attack = rng.random(2000) < 0.3
    score = np.round(rng.normal(attack * 1.5, 1.0), 1)  # ties
    return attack, score, score > 1.0


def test_the_figures_of_attack_against_benign_are_scikit_learns(judged: tuple[np.ndarray, np.ndarray, np.ndarray]):
    attack, score, called = judged

    found = metrics.detection(attack, score, called=called)

    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(attack, score))
    assert found["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(attack, called))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(attack, called))
    assert found["precision"] == pytest.approx(sklearn_metrics.precision_score(attack, called))
    assert found["confusion"] == sklearn_metrics.confusion_matrix(attack, called).tolist()


def test_the_figures_of_classes_are_scikit_learns():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 500)
    called = np.where(rng.random(500) < 0.8, label, rng.integers(0, 4, 500))

    found = metrics.classes(label, called, names=("benign", "a", "b", "c"))

    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(label, called, average="macro"))
    assert found["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(label, called))
    assert found["per_class"]["b"]["recall"] == pytest.approx(
        sklearn_metrics.recall_score(label, called, average=None)[2]
    )
    assert found["per_class"]["b"]["accuracy"] == pytest.approx(((label == 2) == (called == 2)).mean())


def test_a_class_without_rows_counts_in_no_mean():
    found = metrics.classes(np.array([0, 0, 1]), np.array([0, 0, 1]), names=("benign", "a", "b"))

    assert found["macro_f1"] == 1.0
    assert found["per_class"]["b"]["recall"] is None


def test_the_threshold_for_a_rate_lets_no_more_benign_rows_pass_even_among_ties():
    benign = np.array([0.0] * 90 + [1.0] * 10)

    assert metrics.threshold_for(benign, 0.05) == 1.0
    assert metrics.threshold_for(benign, 0.10) == 0.0


def test_a_rate_the_sample_cannot_show_is_said_to_be_unsupported():
    found = metrics.tpr_at_fpr(np.array([2.0, 0.0]), np.zeros(1000), 1e-3)

    assert found == {"tpr": 0.5, "fpr": 0.0, "fpr_bound": 0.003, "supported": False}


def test_bounds_of_a_share_are_wilsons():
    statsmodels_value = (0.2366, 0.7634)  # Wilson's interval of 5 in 10, from tables

    assert metrics.interval(5, 10) == pytest.approx(statsmodels_value, abs=1e-4)
    assert metrics.rate_bound(0, 300) == 0.01


def test_the_interval_over_three_seeds_is_students():
    # mean 2, sd 1, half width 4.303 / sqrt(3) = 2.484
    found = metrics.spread([1.0, 2.0, 3.0])

    assert (found["low"], found["high"]) == pytest.approx((-0.4844, 4.4844), abs=1e-3)


def test_a_tree_of_figures_becomes_a_tree_of_spreads():
    runs = [{"a": {"x": 1.0, "texts": ["no"]}, "ok": True}, {"a": {"x": 3.0, "texts": ["no"]}, "ok": False}]

    found = metrics.over_seeds(runs)

    assert found["a"]["x"]["mean"] == 2.0
    assert found["ok"] is False
    assert "texts" not in found["a"]


def test_the_thinned_roc_curve_has_the_area_of_the_whole(judged: tuple[np.ndarray, np.ndarray, np.ndarray]):
    attack, score, _ = judged

    fpr, tpr = metrics.roc(attack, score)

    area = np.trapezoid([0, *tpr], [0, *fpr])
    assert area == pytest.approx(auc(score[attack], score[~attack]), abs=1e-9)
