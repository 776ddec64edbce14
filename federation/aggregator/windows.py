"""The aggregator's own windows: from labelled captures to embeddings, once at start, and again for no new head.

Two sets of captures that must have none in common: *teaching* ones give the anchors and set a head's level, *judging*
ones let a head through or not. A bundle's embedding stays while its head changes, so both are computed once. Windows
are kept on disk beside the ledger, so that a restart does not read the captures again. Trap: what the judging captures
do not show is guarded by nobody; each class of attack that matters should be in both sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts import ground_truth
from contracts.bundle import Bundle
from contracts.classes import BENIGN
from contracts.errors import ConfigError
from contracts.ground_truth import GroundTruth
from detection.engine import Engine
from detection.sustained import quiet_below
from federation.aggregator.release import HoldOut
from training.datasets import WindowSet, windows_of

SHOWN: Final = 256  # judging windows by which a new bundle's graph is held against numpy
BATCH: Final = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerWindows:
    """What heads are taught with and judged on; `values`, `mask` and `label` are of SHOWN judging windows."""

    teaching: HoldOut
    judging: HoldOut
    captures: Sequence[GroundTruth]
    values: NDArray[np.float32]
    mask: NDArray[np.float32]
    label: NDArray[np.int64]


def server_windows(
    bundle: Bundle, engine: Engine, *, teaching: Sequence[Path], judging: Sequence[Path], cache: Path
) -> ServerWindows:
    """Return the windows of captures named by ground-truth files.

    Raises ConfigError where a capture is in both sets, or a set has no attack or nothing benign, and what reading
    captures raises.
    """
    taught, judged = ([truth for path in paths for truth in ground_truth.load(path)] for paths in (teaching, judging))
    check_apart(taught, judged)
    sets = {}
    shown = None
    for name, truths in (("teaching", taught), ("judging", judged)):
        windows = [windows_of(truth, cache_folder=cache) for truth in truths]
        label = np.concatenate([each.label for each in windows]) if windows else np.zeros(0, np.int64)
        if not (label == BENIGN).any() or not (label > BENIGN).any():
            raise ConfigError(f"windows.{name}: its captures show no attack, or nothing benign; wanted both")
        thresholds = quiet_below(bundle.manifest)
        sets[name] = HoldOut(_embedding(windows, engine), label, thresholds)
        shown = _spread(windows)
    assert shown is not None
    values, mask, label = shown
    return ServerWindows(
        teaching=sets["teaching"], judging=sets["judging"], captures=judged, values=values, mask=mask, label=label
    )


def check_apart(taught: Sequence[GroundTruth], judged: Sequence[GroundTruth]) -> None:
    """Raise ConfigError where a capture is in both sets, whatever it is called."""
    seen = {hashlib.sha256(truth.path.read_bytes()).hexdigest(): truth.path for truth in taught}
    for truth in judged:
        if (other := seen.get(hashlib.sha256(truth.path.read_bytes()).hexdigest())) is not None:
            raise ConfigError(f"windows.judging: {truth.path} teaches as well ({other}), wanted other captures")


def _embedding(windows: Sequence[WindowSet], engine: Engine) -> NDArray[np.float32]:
    parts = []
    for each in windows:
        mask = each.mask
        for start in range(0, len(each), BATCH):
            batch = slice(start, start + BATCH)
            parts.append(engine.score(each.values[batch], mask[batch]).embedding)
    return np.concatenate(parts)


def _spread(
    windows: Sequence[WindowSet],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return at most SHOWN windows, spread evenly over each class of each capture."""
    values, mask, label = [], [], []
    kinds = [(each, kind) for each in windows for kind in np.unique(each.label).tolist()]
    share = max(1, SHOWN // len(kinds))
    for each, kind in kinds[:SHOWN]:
        places = np.flatnonzero(each.label == kind)
        places = places[np.linspace(0, len(places) - 1, min(share, len(places))).astype(np.int64)]
        values.append(each.values[places])
        mask.append(each.mask[places])
        label.append(each.label[places])
    return np.concatenate(values), np.concatenate(mask), np.concatenate(label)
