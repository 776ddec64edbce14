"""What a bundle looks at, and what a capture gives away: probes beside the figures of a report.

    importance   how much AUC falls when one column is shuffled between windows (permutation importance)
    attention    how the graph's attention is spread over a window's records, newest first, by class
    columns      how much a class's own score falls when a column is set to its benign median (occlusion), by class
    leakage      what a classifier learns from things that only tell the capture; it should learn nothing
Everything goes through an `Engine`, so it is asked of the bundle that ships. Trap: shuffling one of two columns that
say the same costs nothing, so a column without importance may still matter. `leakage` needs scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, HEAD_NAMES
from detection.engine import Engine, Scores
from flowfeatures import WINDOW_COLUMNS
from training.datasets import WindowSet
from training.figures.rates import auc, threshold_at
from training.scaling import HIDDEN_COLUMNS

OCCLUDED = 40  # windows of a class; each is scored once per column
TREES = 100

Floats = NDArray[np.float32]


def few_of(windows: WindowSet, most: int) -> WindowSet:
    """Return at most so many windows of each class the head knows, drawn evenly."""
    rng = np.random.default_rng(1)
    places = [rng.permutation(np.flatnonzero(windows.label == c))[:most] for c in range(len(HEAD_NAMES))]
    return windows.where(np.sort(np.concatenate(places)))


def score(engine: Engine, windows: WindowSet) -> Scores:
    """Return the scores of all windows."""
    return engine.score(windows.values, windows.mask)


def attack_score(scores: Scores) -> Floats:
    """Return 1 - p(benign), float32[N]."""
    return np.asarray(1 - scores.probabilities[:, BENIGN], np.float32)


def importance(engine: Engine, windows: WindowSet, *, seed: int = 1) -> dict[str, float]:
    """Return by column how much AUC of attack against benign falls without it, the most important first."""
    whole = _auc(attack_score(score(engine, windows)), windows.label) or 0.0
    rng = np.random.default_rng(seed)
    values, falls = windows.values.copy(), {}
    for column, name in enumerate(WINDOW_COLUMNS):
        own = values[:, :, column].copy()
        values[:, :, column] = _shuffled(windows, column, rng)
        found = attack_score(engine.score(values, windows.mask))
        falls[name] = whole - (_auc(found, windows.label) or 0.0)
        values[:, :, column] = own
    return dict(sorted(falls.items(), key=lambda pair: -pair[1]))


def attention(engine: Engine, windows: WindowSet) -> dict[str, list[float]]:
    """Return by class the mean attention on each record of full windows, the newest first."""
    full = windows.where(windows.lengths == windows.values.shape[1])
    spread = score(engine, full).attention[:, ::-1]
    return {HEAD_NAMES[c]: spread[full.label == c].mean(axis=0).tolist() for c in np.unique(full.label).tolist()}


def columns(engine: Engine, windows: WindowSet, benign_medians: list[float]) -> dict[str, dict[str, float]]:
    """Return by attack class how much its mean score falls when a column is at its benign median."""
    medians = np.asarray(benign_medians, np.float32)
    told = {}
    for index in np.unique(windows.label[windows.label != BENIGN]).tolist():
        own = windows.where(np.flatnonzero(windows.label == index)[:OCCLUDED])
        before = score(engine, own).probabilities[:, index].mean()
        rows = own.mask[:, :, None] > 0
        falls = {}
        for column, name in enumerate(WINDOW_COLUMNS):
            values = own.values.copy()
            values[:, :, column] = np.where(rows[:, :, 0], medians[column], values[:, :, column])
            falls[name] = float(before - engine.score(values, own.mask).probabilities[:, index].mean())
        told[HEAD_NAMES[index]] = falls
    return told


def leakage(
    train: WindowSet, test: WindowSet, *, is_lab: Mapping[str, bool], engine: Engine, seed: int = 1
) -> dict[str, Any]:
    """Return what only the capture tells, and how much of what is found could rest on it.

    `hidden_columns`: AUC of a forest that sees nothing but the columns the network must not see. `which_source`: AUC
    of a forest that tells benign windows of the lab from those of real devices. `bundle_auc`: of the bundle over all
    windows and over the lab's alone, where the source cannot help. `split`: AUC and TPR at FPR 1e-2 of a forest judged
    on windows of the captures it was taught on, and of others: what a split by row would have claimed.
    """
    names_train, names_test = (np.array([is_lab[name] for name in each.groups])[each.group] for each in (train, test))
    hidden = [WINDOW_COLUMNS.index(name) for name in HIDDEN_COLUMNS]
    attack_train, attack_test = train.label != BENIGN, test.label != BENIGN
    own = attack_score(score(engine, test))
    half = np.random.default_rng(seed).random(len(train)) < 0.5
    seen = _newest(train)
    by_row = _forest(seen[half], attack_train[half], seen[~half], seed)
    by_capture = _forest(seen[half], attack_train[half], _newest(test), seed)
    quiet_train, quiet_test = ~attack_train, ~attack_test
    which = _forest(seen[quiet_train], names_train[quiet_train], _newest(test)[quiet_test], seed)
    stack = _forest(_newest(train)[:, hidden], attack_train, _newest(test)[:, hidden], seed)
    return {
        "hidden_columns": {"columns": list(HIDDEN_COLUMNS), "auc": _of(stack, attack_test)["auc"]},
        "which_source": {"auc": _of(which, names_test[quiet_test])["auc"]},
        "bundle_auc": {
            "all": _of(own, attack_test)["auc"],
            "lab alone": _of(own[names_test], attack_test[names_test])["auc"],
        },
        "split": {"by row": _of(by_row, attack_train[~half]), "by capture": _of(by_capture, attack_test)},
        "windows": {"train": len(train), "test": len(test)},
    }


def _forest(inputs: Floats, is_one: NDArray[np.bool_], asked: Floats, seed: int) -> Floats | None:
    """Return the forest's share of trees for True, float32[N]; None where there is nothing to tell apart or to ask."""
    from sklearn.ensemble import RandomForestClassifier

    if not len(asked) or is_one.all() or not is_one.any():
        return None
    forest = RandomForestClassifier(TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=1)
    forest.fit(inputs, is_one)
    return np.asarray(forest.predict_proba(asked)[:, list(forest.classes_).index(True)], np.float32)


def _of(scores: Floats | None, is_one: NDArray[np.bool_]) -> dict[str, float | None]:
    if scores is None:
        return {"auc": None, "tpr": None}
    ones, rest = scores[is_one], scores[~is_one]
    at = threshold_at(rest, 1e-2)
    return {"auc": auc(ones, rest), "tpr": None if at is None or not len(ones) else float((ones > at).mean())}


def _newest(windows: WindowSet) -> Floats:
    return np.asarray(windows.values[np.arange(len(windows)), windows.lengths - 1], np.float32)


def _shuffled(windows: WindowSet, column: int, rng: np.random.Generator) -> Floats:
    """Return the column float32[N, W] with all its real values dealt anew among all real records."""
    values = windows.values[:, :, column].copy()
    real = windows.mask > 0
    values[real] = rng.permutation(values[real])
    return np.asarray(values, np.float32)


def _auc(scores: Floats, label: NDArray[np.int64]) -> float | None:
    return auc(scores[label != BENIGN], scores[label == BENIGN])
