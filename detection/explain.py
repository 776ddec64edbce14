"""Which columns of a window made its score: each in turn is set to its benign median, and the score scored again.

The fall is a difference of probabilities, so it depends on the columns left alone: two columns that say the same can
both fall little. It says what this network looked at, not why the attack was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, UNKNOWN
from detection.decide import Score
from detection.engine import Engine, Scores
from flowfeatures import WINDOW_COLUMNS

TOP = 3


class ColumnFall(NamedTuple):
    """A column, and by how much the score falls without what it holds (0..1)."""

    column: str
    fall: float


class Explainer:
    """Explain scores of one engine against the benign medians of its bundle (F numbers, raw values)."""

    def __init__(self, engine: Engine, benign_medians: Sequence[float], *, score: Score = "class") -> None:
        self._engine = engine
        self._score = score
        self._medians = np.asarray(benign_medians, dtype=np.float32)

    def top_columns(
        self, window: NDArray[np.float32], mask: NDArray[np.float32], *, class_index: int
    ) -> tuple[ColumnFall, ...]:
        """Return the columns with the largest fall, at most three, largest first; those that raise the score are not.

        `window` float32[W, F], `mask` float32[W]. Scores 1 + F windows.
        """
        columns = len(self._medians)
        variants = np.repeat(window[None], 1 + columns, axis=0)
        records = np.flatnonzero(mask > 0)
        each = np.arange(columns)
        variants[1 + each[:, None], records[None, :], each[:, None]] = self._medians[:, None]
        scores = self._engine.score(variants, np.repeat(mask[None], 1 + columns, axis=0))
        falls = self._falls(scores, class_index)
        largest = np.argsort(-falls, kind="stable")[:TOP].tolist()
        return tuple(ColumnFall(WINDOW_COLUMNS[i], float(falls[i])) for i in largest if falls[i] > 0)

    def _falls(self, scores: Scores, class_index: int) -> NDArray[np.float32]:
        """Return how far each of the other windows lies below the first, by what thresholds are held against."""
        if class_index == UNKNOWN:
            score = scores.unknown_score
        elif self._score == "not benign":
            score = 1 - scores.probabilities[:, BENIGN]
        else:
            score = scores.probabilities[:, class_index]
        return np.asarray(score[0] - score[1:], np.float32)
