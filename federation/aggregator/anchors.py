"""Choosing anchors: of the aggregator's own labelled windows so many of each class, spread evenly over what there is.

Attacks the head does not find, or barely, are left out: a gate that holds every anchor would refuse whatever is learnt
for the sake of one on the edge. Trap: windows that judge a release must
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
from federation.at_thresholds import margins

PER_ATTACK: Final = 64
OF_BENIGN: Final = 256
SURE: Final = 1.0  # log-odds above the threshold


def choose(embedding: NDArray[np.float32], label: NDArray[np.int64], *, head: Head, thresholds: Thresholds) -> Anchors:
    """Return at most PER_ATTACK anchors of each attack class that is found, and OF_BENIGN benign ones."""
    above = margins(head, embedding, thresholds)
    parts = []
    for index in np.unique(label[label >= 0]).tolist():
        is_sure = above < 0 if index == BENIGN else above >= SURE
        fitting = np.flatnonzero((label == index) & is_sure)
        most = OF_BENIGN if index == BENIGN else PER_ATTACK
        spread = np.linspace(0, len(fitting) - 1, min(most, len(fitting))).astype(np.int64)
        parts.append(fitting[spread])
    places = np.concatenate(parts)
    return Anchors(np.clip(embedding[places], -1.0, 1.0), label[places])
