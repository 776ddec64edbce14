"""Confusion, precision, recall, F1 and MCC, against scikit-learn where it is installed and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import NAMES
from training.figures.confusion import confusion, named, of_attacks, of_class, over_classes

SCAN, FLOOD = NAMES.index("scan"), NAMES.index("flood")


@pytest.fixture
def judged():
    rng = np.random.default_rng(5)
    label = rng.choice([0, 0, 0, SCAN, FLOOD], 400)
    called = np.where(rng.random(400) < 0.8, label, rng.choice([0, SCAN, FLOOD], 400))
    return label, called


def test_rows_are_labels_and_columns_what_was_called():
    table = confusion(np.array([SCAN, SCAN, 0]), np.array([FLOOD, SCAN, 0]))

    assert (table[SCAN, FLOOD], table[SCAN, SCAN], table[0, 0], table.sum()) == (1, 1, 1, 3)


def test_an_attack_called_by_another_name_counts_for_attacks_and_not_for_its_class():
    table = confusion(np.array([SCAN, 0]), np.array([FLOOD, 0]))

    assert of_attacks(table)["recall"] == 1.0
    assert of_class(table, SCAN)["recall"] == 0.0
    assert of_class(table, FLOOD)["precision"] == 0.0


def test_what_never_occurred_has_no_figure():
    table = confusion(np.array([0, 0]), np.array([0, 0]))

    assert of_class(table, SCAN) == {"precision": None, "recall": None, "f1": None, "mcc": None}


def test_the_figures_are_those_of_scikit_learn(judged):
    metrics = pytest.importorskip("sklearn.metrics")
    label, called = judged
    table = confusion(label, called)

    told = of_class(table, SCAN)
    assert told["precision"] == pytest.approx(metrics.precision_score(label == SCAN, called == SCAN))
    assert told["recall"] == pytest.approx(metrics.recall_score(label == SCAN, called == SCAN))
    assert told["f1"] == pytest.approx(metrics.f1_score(label == SCAN, called == SCAN))
    assert told["mcc"] == pytest.approx(metrics.matthews_corrcoef(label == SCAN, called == SCAN))
    whole = over_classes(table)
    assert whole["macro_f1"] == pytest.approx(metrics.f1_score(label, called, average="macro"))
    assert whole["mcc"] == pytest.approx(metrics.matthews_corrcoef(label, called))
    assert whole["accuracy"] == pytest.approx(metrics.accuracy_score(label, called))


def test_the_matrix_by_name_holds_what_occurred_only():
    assert named(confusion(np.array([SCAN, 0]), np.array([0, 0]))) == {"benign": {"benign": 1}, "scan": {"benign": 1}}
