"""Scores to detections: the bundle's thresholds, per class.

How suspicious a window is, is what the network does not call benign: an attack it cannot place between two classes is
no less of an attack. The most probable attack class gives its name and its threshold (decision 0025). A detection is a
score above its threshold and nothing more; whether it opens an incident is `incidents`' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, NAMES, UNKNOWN
from detection.engine import Scores


def class_scores(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return float64[B, C]: 1 - benign at each window's most probable attack class, 0 elsewhere.

    `probabilities` [B, C] are those of the head, benign first.

    >>> class_scores(np.array([[0.1, 0.4, 0.5], [0.75, 0.25, 0.0]])).tolist()
    [[0.0, 0.0, 0.9], [0.0, 0.25, 0.0]]
    """
    scores = np.zeros(probabilities.shape)
    if len(probabilities):
        rows, named = np.arange(len(probabilities)), 1 + probabilities[:, BENIGN + 1 :].argmax(axis=1)
        scores[rows, named] = 1.0 - probabilities[:, BENIGN].astype(np.float64)
    return scores


class Threshold(Protocol):
    """Two scores of a class: above `open` it is a detection, above `severe` it may earn severity 1."""

    @property
    def open(self) -> float: ...

    @property
    def severe(self) -> float: ...


@dataclass(frozen=True)
class Detection:
    """One window over a threshold. `row` is its place in the batch."""

    row: int
    class_index: int
    score: float
    threshold: float
    severe: bool


class Thresholds:
    """The thresholds of a bundle as one vector per purpose, indexed by class; a class without one is never detected."""

    def __init__(self, by_class: Mapping[str, Threshold]) -> None:
        self._open = np.full(len(NAMES), np.inf)
        self._severe = np.full(len(NAMES), np.inf)
        for name, threshold in by_class.items():
            self._open[NAMES.index(name)] = threshold.open
            self._severe[NAMES.index(name)] = threshold.severe
        self._open[BENIGN] = np.inf

    def detections(self, scores: Scores) -> list[Detection]:
        """Return at most one detection per window, in the order of the batch.

        `unknown` counts only where the window's most probable attack class is not over its `open` threshold.
        """
        table = np.column_stack([class_scores(scores.probabilities[:, :UNKNOWN]), scores.unknown_score])
        over: NDArray[np.bool_] = table > self._open
        return [self._strongest(row, table[row], over[row]) for row in np.flatnonzero(over.any(axis=1)).tolist()]

    def _strongest(self, row: int, scores: NDArray[np.float64], over: NDArray[np.bool_]) -> Detection:
        known = over.copy()
        known[UNKNOWN] = False
        index = int(np.where(known, scores, -1.0).argmax()) if known.any() else UNKNOWN
        return Detection(
            row=row,
            class_index=index,
            score=float(scores[index]),
            threshold=float(self._open[index]),
            severe=bool(scores[index] > self._severe[index]),
        )
