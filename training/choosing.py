"""The benign windows that thresholds are held against: every one of the validation captures, and of the demo's.

Teaching works on samples, at most some hundred windows of a class and capture. A threshold is about the highest
scores, which a sample mostly misses; so here captures are read to their end, a batch at a time. Variants take no part:
no gateway ever saw them. The demo's capture stands beside the validation side: what it raises in vain, everybody sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import SustainedRule
from contracts.classes import BENIGN, HEAD_NAMES
from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from detection.decide import log_odds
from detection.sustained import Averages
from training.captures import CapturesBySide
from training.kept import Stream
from training.progress import Progress
from training.stream import LabelledStream

DEMO = Path(__file__).resolve().parents[1] / "lab" / "demo" / "ground_truth.json"

NEVER: Final = -np.inf
_NO_WINDOWS: Final = (
    np.zeros((0, len(HEAD_NAMES)), np.float32), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64),
)  # fmt: skip

Predict = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""From windows float32[B, W, F] and their mask float32[B, W] to class probabilities float32[B, C]."""


@dataclass(frozen=True, eq=False)
class BenignWindows:
    """Every benign window of a source, in the order read: `probabilities` float32[N, C], `averages` float64[N] (the
    device's average log-odds with this window in it, `NEVER` where the window itself looks benign), `device` int64[N]
    (one number per capture and device), `due_us` int64[N]; `captures` is how many were read."""

    probabilities: NDArray[np.float32]
    averages: NDArray[np.float64]
    device: NDArray[np.int64]
    due_us: NDArray[np.int64]
    captures: int


def benign_windows(
    predict: Predict,
    captures: CapturesBySide,
    rule: SustainedRule,
    *,
    demo: Path = DEMO,
    stream: Stream = LabelledStream,
) -> dict[str, BenignWindows]:
    """Return every benign window that chooses, by source; attacks between them are averaged too, as a gateway would."""
    chosen = list(choosing(captures, demo=demo))
    parts: dict[str, list[tuple[NDArray[Any], ...]]] = {source: [_NO_WINDOWS] for source, _ in chosen}
    with Progress("benign windows", len(chosen)) as progress:
        for place, (source, truth) in enumerate(chosen):
            averages, numbers = Averages(rule), dict[bytes, int]()
            for batch in stream(truth):
                probabilities = predict(batch.values, batch.mask)
                odds = log_odds(1.0 - probabilities[:, BENIGN].astype(np.float64))
                average = np.where(odds > 0, averages.add(batch, odds), NEVER)
                device = [numbers.setdefault(each.tobytes(), len(numbers) + (place << 32)) for each in batch.device]
                benign = batch.label == BENIGN
                found = (probabilities, average, np.array(device, np.int64), batch.due_us)
                parts[source].append(tuple(each[benign] for each in found))
            progress.step(note=truth.path.name)
    sources = [source for source, _ in chosen]
    return {source: _as_one(found, captures=sources.count(source)) for source, found in parts.items()}


def _as_one(parts: list[tuple[NDArray[Any], ...]], *, captures: int) -> BenignWindows:
    probabilities, averages, device, due_us = (np.concatenate(each) for each in zip(*parts, strict=True))
    return BenignWindows(probabilities, averages, device, due_us, captures)


def choosing(captures: CapturesBySide, *, demo: Path = DEMO) -> Iterator[tuple[str, GroundTruth]]:
    """Give source and ground truth of each capture that chooses thresholds."""
    for capture in captures.sides["validation"]:
        if "~" not in capture.name:
            yield capture.source, capture.truth
    if demo.is_file():
        for truth in load_ground_truth(demo):
            yield "demo", truth
