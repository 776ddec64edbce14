"""Captures -> labelled windows for training, cached.

`WindowSet` holds windows whose label says something: those labelled AFTER or EXCLUDED are left out, and so are benign
ones of a device that took part in an attack within the last minute (evaluation counts these). A capture gives at
most `MAX_ATTACK` windows of a class, drawn evenly, so that one long flood does not fill the set, and `MAX_BENIGN`
benign ones: what a home does rarely, and looks odd, is a few windows among thousands. Trap: the cache key holds the
schema, the capture's bytes, its ground truth and the code that makes windows, but not the thinning's seed, which is
fixed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import contracts
import flowfeatures
from contracts.classes import BENIGN
from contracts.ground_truth import GroundTruth
from flowfeatures import AFTER, EXCLUDED, SCHEMA_ID, WindowBatch
from training.progress import Progress
from training.stream import LabelledStream

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "windows"
MAX_ATTACK = 300
MAX_BENIGN = 1000
COOLING_US = 60_000_000  # the counts over 60 s still show an attack whose records have left the window


@dataclass(frozen=True, eq=False)
class WindowSet:
    """N windows: `values` float32[N, W, F] (raw), `lengths` int64[N] (rows), `label` int64[N], `row_label` int8[N, W]
    (class of each record), `is_new` uint8[N, W], `group` int64[N] (index into `groups`, the captures' names)."""

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    label: NDArray[np.int64]
    row_label: NDArray[np.int8]
    is_new: NDArray[np.uint8]
    group: NDArray[np.int64]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def mask(self) -> NDArray[np.float32]:
        """Return float32[N, W], 1 where a row is a record."""
        rows = np.arange(self.values.shape[1])
        return np.asarray(rows[None, :] < self.lengths[:, None], dtype=np.float32)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> WindowSet:
        """Return the chosen windows; `groups` stays whole."""
        return WindowSet(
            values=self.values[chosen],
            lengths=self.lengths[chosen],
            label=self.label[chosen],
            row_label=self.row_label[chosen],
            is_new=self.is_new[chosen],
            group=self.group[chosen],
            groups=self.groups,
        )


def windows_of(truth: GroundTruth, *, cache_folder: Path = CACHE) -> WindowSet:
    """Return the labelled windows of one capture, from the cache where it has them."""
    stored = cache_folder / f"{_cache_key(truth)}.npz"
    if stored.is_file():
        with np.load(stored, allow_pickle=False) as arrays:
            return _window_set({name: arrays[name] for name in arrays.files}, name=str(truth.path))
    arrays_of = _extract(truth)
    cache_folder.mkdir(parents=True, exist_ok=True)
    partial = stored.with_suffix(f".{os.getpid()}.partial.npz")  # two programs may look for the same capture
    np.savez(partial, **arrays_of)  # type: ignore[arg-type]  # savez's stub has allow_pickle
    partial.rename(stored)
    return _window_set(arrays_of, name=str(truth.path))


def gather(
    truths: Sequence[GroundTruth],
    *,
    title: str = "windows",
    keep: Callable[[WindowSet], WindowSet] = lambda windows: windows,
    cache_folder: Path = CACHE,
) -> WindowSet:
    """Return the windows of several captures as one set, with a progress bar; `keep` chooses from each capture's."""
    sets = []
    with Progress(title, len(truths)) as progress:
        for truth in truths:
            sets.append(keep(windows_of(truth, cache_folder=cache_folder)))
            progress.step(note=truth.path.name)
    return join(sets)


def join(sets: list[WindowSet]) -> WindowSet:
    """Return several sets as one, emptying the list; captures keep apart even where their names are equal.

    Hundreds of thousands of windows are gigabytes, so that each set is let go as soon as it is copied.
    """
    total = sum(len(each) for each in sets)
    whole = {name: np.zeros((total, *array.shape[1:]), array.dtype) for name, array in _thinned([]).items()}
    group, at = np.zeros(total, np.int64), 0
    groups: list[str] = []
    while sets:
        each = sets.pop(0)
        part = slice(at, at + len(each))
        for name, array in whole.items():
            array[part] = getattr(each, name)
        group[part] = each.group + len(groups)
        groups.extend(each.groups)
        at += len(each)
    return WindowSet(**whole, group=group, groups=tuple(groups))


Arrays = dict[str, NDArray[np.generic]]


def _extract(truth: GroundTruth) -> Arrays:
    parts: list[Arrays] = []
    cooling = _Cooling()
    for batch in LabelledStream(truth):
        telling = (batch.label != AFTER) & (batch.label != EXCLUDED) & ~cooling.devices_of(batch)
        rows: Arrays = {
            "values": batch.values[telling],
            "lengths": batch.mask[telling].sum(axis=1).astype(np.int64),
            "label": batch.label[telling].astype(np.int64),
            "row_label": batch.flows["label"][telling].astype(np.int8),
            "is_new": batch.is_new[telling].astype(np.uint8),
        }
        parts.append(rows)
    return _thinned(parts)


class _Cooling:
    """Remembers when each device was last in an attack."""

    def __init__(self) -> None:
        self._last_us: dict[bytes, int] = {}

    def devices_of(self, batch: WindowBatch) -> NDArray[np.bool_]:
        """Return bool[B]: benign windows of a device that was in an attack less than COOLING_US before."""
        cooling = np.zeros(len(batch.label), dtype=np.bool_)
        for row, (label, due_us) in enumerate(zip(batch.label.tolist(), batch.due_us.tolist(), strict=True)):
            device = batch.device[row].tobytes()
            if label > 0 or label == AFTER:
                self._last_us[device] = due_us
            else:
                cooling[row] = due_us - self._last_us.get(device, -COOLING_US) < COOLING_US
        return cooling


def _thinned(parts: list[Arrays]) -> Arrays:
    """Return at most MAX_BENIGN benign windows and MAX_ATTACK of each other class, drawn evenly, in order of time."""
    if not parts:
        shape = (0, 16, len(flowfeatures.WINDOW_COLUMNS))
        return {
            "values": np.zeros(shape, np.float32), "lengths": np.zeros(0, np.int64), "label": np.zeros(0, np.int64),
            "row_label": np.zeros(shape[:2], np.int8), "is_new": np.zeros(shape[:2], np.uint8),
        }  # fmt: skip
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rng = np.random.default_rng(0)
    chosen = []
    for label in np.unique(whole["label"]):
        places = np.flatnonzero(whole["label"] == label)
        chosen.append(rng.permutation(places)[: MAX_BENIGN if label == BENIGN else MAX_ATTACK])
    order = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.intp)
    return {name: array[order] for name, array in whole.items()}


def _window_set(arrays: Arrays, *, name: str) -> WindowSet:
    return WindowSet(
        values=arrays["values"].astype(np.float32, copy=False),
        lengths=arrays["lengths"].astype(np.int64, copy=False),
        label=arrays["label"].astype(np.int64, copy=False),
        row_label=arrays["row_label"].astype(np.int8, copy=False),
        is_new=arrays["is_new"].astype(np.uint8, copy=False),
        group=np.zeros(len(arrays["label"]), dtype=np.int64),
        groups=(name,),
    )


def _cache_key(truth: GroundTruth) -> str:
    """Return a name that changes with the schema, the code, the capture, or its truth."""
    digest = hashlib.sha256(f"{SCHEMA_ID} {_code_version()} {MAX_ATTACK} {MAX_BENIGN}".encode())
    digest.update(truth.path.read_bytes())
    entry = truth.entry.model_dump(mode="json", exclude={"file"})
    digest.update(json.dumps(entry, sort_keys=True, default=str).encode())
    if (labels := truth.packet_labels()) is not None:
        digest.update(labels.tobytes())
    return digest.hexdigest()[:32]


@cache
def _code_version() -> str:
    """Return a digest of the sources that turn packets into labelled windows."""
    digest = hashlib.sha256()
    folders = [Path(flowfeatures.__file__).parent, Path(__file__).parent, Path(contracts.__file__).parent]
    patterns = ["*.py[xd]", "*.py"]
    wanted = {"stream.py", "datasets.py", "ground_truth.py", "classes.py"}
    for folder in folders:
        for path in sorted(p for pattern in patterns for p in folder.glob(pattern)):
            if folder.name == "flowfeatures" or path.name in wanted:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
