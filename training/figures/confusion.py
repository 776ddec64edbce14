"""What was called what: a confusion matrix over windows, and precision, recall, F1 and MCC from it.

K classes of the table, `benign` being "no detection". Rows are labels, columns what windows were called. A class
that was never seen has no recall, one never called has no precision; both are None and take no part in a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, NAMES

Counts = NDArray[np.int64]


def confusion(label: NDArray[Any], called: NDArray[Any], *, classes: int = len(NAMES)) -> Counts:
    """Return int64[K, K]: windows by label (row) and what they were called (column)."""
    flat = np.bincount(label.astype(np.int64) * classes + called.astype(np.int64), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def of_class(table: Counts, index: int) -> dict[str, float | None]:
    """Return precision, recall, F1 and MCC of one class against all others.

    >>> told = of_class(np.array([[90, 10], [0, 20]]), 1)
    >>> {name: round(value, 3) for name, value in told.items()}
    {'precision': 0.667, 'recall': 1.0, 'f1': 0.8, 'mcc': 0.775}
    """
    hit = int(table[index, index])
    missed, wrong = int(table[index].sum()) - hit, int(table[:, index].sum()) - hit
    rest = int(table.sum()) - hit - missed - wrong
    return _scores(hit=hit, missed=missed, wrong=wrong, rest=rest)


def of_attacks(table: Counts) -> dict[str, float | None]:
    """Return the same for attack against benign, whichever attack it was called."""
    hit, missed = int(table[1:, 1:].sum()), int(table[1:, BENIGN].sum())
    return _scores(hit=hit, missed=missed, wrong=int(table[BENIGN, 1:].sum()), rest=int(table[BENIGN, BENIGN]))


def over_classes(table: Counts) -> dict[str, float | None]:
    """Return accuracy, macro F1 over the classes that were seen, and the MCC of all classes (Gorodkin 2004)."""
    total = float(table.sum())
    seen = np.flatnonzero(table.sum(axis=1) > 0)
    f1 = [of_class(table, int(index))["f1"] for index in seen]
    return {
        "accuracy": float(np.trace(table)) / total if total else None,
        "macro_f1": _mean([value or 0.0 for value in f1]),
        "mcc": _mcc(table),
    }


def named(table: Counts, names: Sequence[str] = NAMES) -> dict[str, dict[str, int]]:
    """Return the matrix by names, without what never occurred."""
    return {
        names[row]: {names[column]: int(table[row, column]) for column in np.flatnonzero(table[row]).tolist()}
        for row in np.flatnonzero(table.sum(axis=1)).tolist()
    }


def _scores(*, hit: int, missed: int, wrong: int, rest: int) -> dict[str, float | None]:
    precision = hit / (hit + wrong) if hit + wrong else None
    recall = hit / (hit + missed) if hit + missed else None
    f1 = None if recall is None else 2 * hit / (2 * hit + missed + wrong)
    two = np.array([[rest, wrong], [missed, hit]], dtype=np.int64)
    return {"precision": precision, "recall": recall, "f1": f1, "mcc": _mcc(two)}


def _mcc(table: Counts) -> float | None:
    """Return the correlation of label and call; None where either is always the same."""
    counts = table.astype(np.float64)
    total, right = counts.sum(), np.trace(counts)
    labels, calls = counts.sum(axis=1), counts.sum(axis=0)
    spread = np.sqrt((total**2 - (labels**2).sum()) * (total**2 - (calls**2).sum()))
    return float((right * total - labels @ calls) / spread) if spread > 0 else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
