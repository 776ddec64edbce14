"""The benign windows that thresholds are held against: every one of the validation captures, and of the demo's.

Teaching works on samples, at most some hundred windows of a class and capture. A threshold is about the highest
scores, which a sample mostly misses; so here captures are read to their end, a batch at a time. Variants take no part:
no gateway ever saw them. The demo's capture stands beside the validation side: what it raises in vain, everybody sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, HEAD_NAMES
from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from training.captures import CapturesBySide
from training.progress import Progress
from training.stream import LabelledStream

DEMO = Path(__file__).resolve().parents[1] / "lab" / "demo" / "ground_truth.json"

Predict = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""From windows float32[B, W, F] and their mask float32[B, W] to class probabilities float32[B, C]."""


def benign_probabilities(
    predict: Predict, captures: CapturesBySide, *, demo: Path = DEMO
) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities float32[N, C] of every benign window that chooses, by source, in the order read."""
    chosen = list(choosing(captures, demo=demo))
    parts: dict[str, list[NDArray[np.float32]]] = {source: [] for source, _ in chosen}
    with Progress("benign windows", len(chosen)) as progress:
        for source, truth in chosen:
            for batch in LabelledStream(truth):
                benign = batch.label == BENIGN
                if benign.any():
                    parts[source].append(predict(batch.values[benign], batch.mask[benign]))
            progress.step(note=truth.path.name)
    none = np.zeros((0, len(HEAD_NAMES)), np.float32)
    return {source: np.concatenate([none, *found]) for source, found in parts.items()}


def choosing(captures: CapturesBySide, *, demo: Path = DEMO) -> Iterator[tuple[str, GroundTruth]]:
    """Give source and ground truth of each capture that chooses thresholds."""
    for capture in captures.sides["validation"]:
        if "~" not in capture.name:
            yield capture.source, capture.truth
    if demo.is_file():
        for truth in load_ground_truth(demo):
            yield "demo", truth
