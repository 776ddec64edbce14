"""What a head says of embeddings at the bundle's thresholds; gateway and aggregator judge heads by the same rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.classes import UNKNOWN
from contracts.head import Head
from detection.decide import Thresholds, class_scores, log_odds


def is_over(head: Head, embedding: NDArray[np.float32], thresholds: Thresholds) -> NDArray[np.bool_]:
    """Return bool[N]: which windows are over the threshold of their most probable attack class."""
    if not len(embedding):
        return np.zeros(0, np.bool_)
    scores = class_scores(head.probabilities(embedding))
    over: NDArray[np.bool_] = np.any(scores > thresholds.open[:UNKNOWN], axis=1)
    return over


def margins(head: Head, embedding: NDArray[np.float32], thresholds: Thresholds) -> NDArray[np.float64]:
    """Return float64[N]: how far above its threshold each window is, in log-odds; most negative where it is benign."""
    open_at = np.minimum(thresholds.open[:UNKNOWN], 1.0)
    above: NDArray[np.float64] = log_odds(class_scores(head.probabilities(embedding))) - log_odds(open_at)
    highest: NDArray[np.float64] = above.max(axis=1)
    return highest
