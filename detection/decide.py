"""Scores to detections: the bundle's thresholds, per class.

A detection is a score above its threshold and nothing more; whether it opens an incident is `incidents`' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, NAMES, UNKNOWN
from detection.engine import Scores


class Threshold(Protocol):
    """Two probabilities of a class: above `open` it is a detection, above `severe` it may earn severity 1."""

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

        Of the attack classes over their `open` threshold the most probable counts; `unknown` only where none is.
        """
        table = np.column_stack([scores.probabilities[:, :UNKNOWN], scores.unknown_score])
        over: NDArray[np.bool_] = table > self._open
        return [self._strongest(row, table[row], over[row]) for row in np.flatnonzero(over.any(axis=1)).tolist()]

    def _strongest(self, row: int, scores: NDArray[np.float32], over: NDArray[np.bool_]) -> Detection:
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
