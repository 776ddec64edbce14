"""Choosing anchors: of the aggregator's own labelled windows so many of each class, spread evenly over what there is.

Attacks the head does not find are left out: no gateway's gate could hold them. Trap: windows that judge a release must
not be among those chosen from, or the release gate judges what was taught.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.anchors import Anchors
from contracts.classes import BENIGN
from contracts.head import Head
from detection.decide import Thresholds
from federation.verdict import is_over

PER_ATTACK: Final = 64
OF_BENIGN: Final = 256


def choose(embedding: NDArray[np.float32], label: NDArray[np.int64], *, head: Head, thresholds: Thresholds) -> Anchors:
    """Return at most PER_ATTACK anchors of each attack class that is found, and OF_BENIGN benign ones."""
    over = is_over(head, embedding, thresholds)
    parts = []
    for index in np.unique(label[label >= 0]).tolist():
        fitting = np.flatnonzero((label == index) & (over == (index != BENIGN)))
        most = OF_BENIGN if index == BENIGN else PER_ATTACK
        spread = np.linspace(0, len(fitting) - 1, min(most, len(fitting))).astype(np.int64)
        parts.append(fitting[spread])
    places = np.concatenate(parts)
    return Anchors(np.clip(embedding[places], -1.0, 1.0), label[places])
