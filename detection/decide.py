"""Scores to detections: the bundle's thresholds, per class, and how far a score lies from them.

What a threshold is held against, the bundle says: each class's own probability, or what the network does not call
benign, under the name and the threshold of the most probable attack class (decision 0030). A detection is a score above
its threshold and nothing more; whether it opens an incident is `incidents`' business.
Distances are in log-odds: there a step means the same at 0.6 and at 0.99, so that one number moves all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

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


class Interval(Protocol):
    """Between which two scores a threshold may be moved."""

    @property
    def lo(self) -> float: ...

    @property
    def hi(self) -> float: ...


Score = Literal["class", "not benign"]


def score_table(scores: Scores, score: Score) -> NDArray[np.floating[Any]]:
    """Return what thresholds are held against, by class: [B, C + 1], the unknown score last."""
    known: NDArray[np.floating[Any]] = scores.probabilities[:, :UNKNOWN]
    if score == "not benign":
        known = class_scores(known)
    return np.column_stack([known, scores.unknown_score])


class Margins(NamedTuple):
    """How far above its threshold the surest class of each window is, in log-odds; -LARGEST where there is none.

    `known` float64[B] over the attack classes, `unknown` float64[B] of the unknown score.
    """

    known: NDArray[np.float64]
    unknown: NDArray[np.float64]


LARGEST: Final = 40.0  # of a margin; float32 tells no probability apart from 1 beyond a log-odds of 17
_NEAREST_TO_ONE: Final = 1e-7


def log_odds(probability: NDArray[Any] | float) -> NDArray[np.float64]:
    """Return the log-odds of probabilities, those of 0 and 1 kept finite.

    >>> round(float(log_odds(0.9)), 3)
    2.197
    """
    p = np.clip(np.asarray(probability, np.float64), _NEAREST_TO_ONE, 1.0 - _NEAREST_TO_ONE)
    odds: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return odds


def probability_of(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of log-odds."""
    probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-odds))
    return probability


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

    def __init__(self, by_class: Mapping[str, Threshold], *, score: Score = "class") -> None:
        self._score: Score = score
        self._open: NDArray[np.float64] = np.full(len(NAMES), np.inf)
        self._severe: NDArray[np.float64] = np.full(len(NAMES), np.inf)
        for name, threshold in by_class.items():
            self._open[NAMES.index(name)] = threshold.open
            self._severe[NAMES.index(name)] = threshold.severe
        self._open[BENIGN] = np.inf

    @property
    def open(self) -> NDArray[np.float64]:
        """Return the score each class opens above, infinite where it never does."""
        return np.array(self._open, dtype=np.float64)

    @property
    def severe(self) -> NDArray[np.float64]:
        """Return each class's second threshold."""
        return np.array(self._severe, dtype=np.float64)

    def moved(self, open_at: NDArray[np.float64]) -> Thresholds:
        """Return thresholds that open at other scores; the second threshold never lies below the first."""
        other = Thresholds({}, score=self._score)
        other._open = np.where(np.isfinite(self._open), open_at, np.inf)
        other._severe = np.maximum(self._severe, other._open)
        return other

    def margins(self, scores: Scores) -> Margins:
        """Return how far above its threshold the surest class of each window is."""
        table = log_odds(score_table(scores, self._score))
        able = np.isfinite(self._open) & (self._open < 1.0)
        above = np.where(able, table - log_odds(np.where(able, self._open, 0.5)), -LARGEST)
        return Margins(above[:, :UNKNOWN].max(axis=1), above[:, UNKNOWN])

    def margin(self, class_index: int, score: float) -> float:
        """Return how far above its class's threshold one score is."""
        return float(log_odds(score) - log_odds(min(1.0, float(self._open[class_index]))))

    def detections(self, scores: Scores) -> list[Detection]:
        """Return at most one detection per window, in the order of the batch.

        Of the attack classes over their `open` threshold the one with the highest score counts; `unknown` only where
        none is.
        """
        table = score_table(scores, self._score)
        over: NDArray[np.bool_] = table > self._open
        return [self._strongest(row, table[row], over[row]) for row in np.flatnonzero(over.any(axis=1)).tolist()]

    def _strongest(self, row: int, scores: NDArray[np.floating[Any]], over: NDArray[np.bool_]) -> Detection:
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
