"""What maps a batch of windows to scores, whichever runtime computes it.

B windows in the batch, W records in a window, F features, C classes, E numbers of the embedding before the head.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Scores(NamedTuple):
    """What a network says of a batch; all float32.

    `probabilities` [B, C] in the order of contracts.classes without `unknown`, rows summing to 1; `embedding` [B, E];
    `unknown_score` [B]; `attention` [B, W], how much each record counted.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    unknown_score: NDArray[np.float32]
    attention: NDArray[np.float32]


class Engine(Protocol):
    """Score batches of any B. The same batch gives the same bytes; a window moved to another batch, the same score."""

    @property
    def name(self) -> str:
        """Return the runtime's name, as `onnxruntime`."""

    @property
    def provider(self) -> str:
        """Return what computes inside the runtime, as `CPUExecutionProvider`."""

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        """Return the scores of windows float32[B, W, F] (raw values) under mask float32[B, W] (1 = record)."""
