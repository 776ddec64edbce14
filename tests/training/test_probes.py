"""Probes on windows made up so that the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.classes import HEAD_NAMES, NAMES
from detection.engine import Scores
from flowfeatures import WINDOW_COLUMNS
from tests.training.windows import WINDOW, made_up_windows
from training.probes import attention, columns, few_of, importance, leakage
from training.scaling import HIDDEN_COLUMNS

FAILED, SCAN = WINDOW_COLUMNS.index("failed_10s"), NAMES.index("scan")


class FailedFlowsEngine:
    """Calls it a scan by the newest record's failed flows; attention falls from the newest record to the oldest."""

    name = provider = "by hand"

    def score(self, windows, mask):
        lengths = mask.sum(axis=1).astype(int)
        newest = windows[np.arange(len(windows)), np.maximum(lengths - 1, 0), FAILED]
        probabilities = np.zeros((len(windows), len(HEAD_NAMES)), np.float32)
        probabilities[:, SCAN] = newest / (newest + 10)
        probabilities[:, 0] = 1 - probabilities[:, SCAN]
        weight = np.arange(1, WINDOW + 1, dtype=np.float32) * mask
        spread = weight / weight.sum(axis=1, keepdims=True)
        return Scores(probabilities, np.zeros((len(windows), 2), "f4"), np.zeros(len(windows), "f4"), spread)


@pytest.fixture(scope="module")
def windows():
    return made_up_windows(400, seed=1)


def test_the_only_column_looked_at_is_the_only_important_one(windows):
    falls = importance(FailedFlowsEngine(), windows)

    assert next(iter(falls)) == "failed_10s"
    assert falls["failed_10s"] > 0.2
    assert all(fall == 0 for name, fall in falls.items() if name != "failed_10s")


def test_a_probe_leaves_the_windows_as_they_were(windows):
    before = windows.values.copy()

    importance(FailedFlowsEngine(), windows)

    assert np.array_equal(before, windows.values)


def test_attention_is_told_from_the_newest_record_on_and_sums_to_one(windows):
    told = attention(FailedFlowsEngine(), windows)

    assert set(told) == {"benign", "scan"}
    assert sum(told["scan"]) == pytest.approx(1.0)
    assert told["scan"] == sorted(told["scan"], reverse=True)


def test_a_class_falls_by_the_column_it_rests_on(windows):
    falls = columns(FailedFlowsEngine(), windows, [0.0] * len(WINDOW_COLUMNS))["scan"]

    assert max(falls, key=falls.get) == "failed_10s"
    assert falls["failed_10s"] > 0.5


def test_few_are_drawn_of_every_class(windows):
    few = few_of(windows, 7)

    assert np.bincount(few.label)[[0, SCAN]].tolist() == [7, 7]


def test_a_capture_that_names_itself_is_found_out():
    pytest.importorskip("sklearn")
    train, test = made_up_windows(300, seed=1), made_up_windows(300, seed=2)
    stack = WINDOW_COLUMNS.index(HIDDEN_COLUMNS[0])
    for each in (train, test):
        each.values[:, :, stack] = (each.label == SCAN)[:, None] * 1000  # every attacker has one machine
    is_lab = {name: name in ("capture-0", "capture-1") for name in train.groups}

    told = leakage(train, test, is_lab=is_lab, engine=FailedFlowsEngine())

    assert told["hidden_columns"]["auc"] > 0.99
    assert told["split"]["by capture"]["auc"] > 0.99
    assert 0.3 < told["which_source"]["auc"] < 0.7


def test_with_one_source_only_there_is_nothing_to_tell_apart():
    pytest.importorskip("sklearn")
    train = made_up_windows(200, seed=1)

    told = leakage(train, train, is_lab=dict.fromkeys(train.groups, True), engine=FailedFlowsEngine())

    assert told["which_source"]["auc"] is None
