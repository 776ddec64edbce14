"""A trained network on disk: numpy arrays and facts, no pickle and no torch needed to read it.

A checkpoint is one folder: `weights.npz` (arrays by name), `facts.json` (what the manifest will say: seed, data,
figures, thresholds, benign medians; under `network` the network's name, layout and sizes) and `windows.npz`
(validation windows on which the exporter compares its graph with torch). `fit` writes it, `exporter` reads it.

Which arrays there are and of what shape follows from `network` alone (`shapes.array_shapes`); facts without it mean a
`gru` over windows. Arrays whose names begin with `unknown_` belong to the unknown score and have any shape. A folder
may come from anywhere: what does not fit is refused before it takes memory, and so are numbers that are none.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.files import open_regular
from contracts.terminal import brief
from training.errors import CheckpointError
from training.shapes import UNKNOWN_PREFIX, Described, array_shapes, described_by, is_learnt
from training.stored import NotStored, StoredArrays, stored_arrays

WEIGHTS_FILE, FACTS_FILE, WINDOWS_FILE = "weights.npz", "facts.json", "windows.npz"
ROOT = Path(__file__).resolve().parents[1]
MAX_FACTS_BYTES = 8 << 20
MAX_UNKNOWN_VALUES = 1 << 20
MAX_WINDOW_VALUES = 1 << 25  # 4,000 windows of 16 records and 102 columns are a fifth of it

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Checkpoint:
    """A network's arrays and what is known of it."""

    arrays: Arrays
    facts: dict[str, Any]

    @property
    def network(self) -> Described:
        """Return the network's name, layout and sizes. Raises CheckpointError where the facts tell of none."""
        return _described(self.facts, {name: array.shape for name, array in self.arrays.items()})

    @property
    def unknown(self) -> Arrays:
        """Return the arrays of the unknown score; none where nothing was fitted."""
        return {name: array for name, array in self.arrays.items() if name.startswith(UNKNOWN_PREFIX)}

    @property
    def parameters(self) -> int:
        """Return how many numbers were learnt (neither scaling nor statistics are)."""
        return sum(array.size for name, array in self.arrays.items() if is_learnt(name))

    def save(self, folder: Path) -> None:
        """Write the folder, replacing what it held."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.asarray(array, dtype=np.float32) for name, array in self.arrays.items()}
        np.savez(folder / WEIGHTS_FILE, **arrays)  # type: ignore[arg-type]  # savez's stub has allow_pickle
        (folder / FACTS_FILE).write_text(json.dumps(self.facts, indent=1, sort_keys=True) + "\n")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder. Raises CheckpointError where files or arrays lack or do not fit together."""
    try:
        facts = _read_facts(folder / FACTS_FILE)
        with stored_arrays(folder / WEIGHTS_FILE) as stored:
            _check_shapes(stored.shapes, _described(facts, stored.shapes))
            arrays = {name: stored.read(name) for name in stored.shapes}
        _check_values(arrays)
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{folder}: not a checkpoint: {exc}") from exc
    except CheckpointError as exc:
        raise CheckpointError(f"{folder}: {exc}") from exc
    return Checkpoint(arrays=arrays, facts=facts)


def save_parity_windows(
    folder: Path,
    *,
    windows: NDArray[np.float32],
    mask: NDArray[np.float32],
    label: NDArray[np.int64] | None = None,
) -> None:
    """Keep real windows float32[N, W, F], their mask and, where known, their classes [N] beside a checkpoint."""
    known = {} if label is None else {"label": label.astype(np.float32)}
    np.savez_compressed(folder / WINDOWS_FILE, windows=windows, mask=mask, **known)  # type: ignore[arg-type]


def load_parity_windows(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the windows and mask kept beside a checkpoint. Raises CheckpointError where there are none."""
    try:
        with stored_arrays(folder / WINDOWS_FILE) as stored:
            windows, mask = _read_windows(stored)
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{folder}: no validation windows to compare on: {exc}") from exc
    return windows, mask


def training_commit(root: Path = ROOT) -> str:
    """Return the git commit of the code, with `-dirty` where training or flowfeatures differ from it."""
    command = ["git", "-C", str(root)]
    seen = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if seen.returncode:
        return "0" * 40  # not a checkout: a source archive, say
    changed = subprocess.run(
        [*command, "status", "--porcelain", "--", "training", "exporter", "flowfeatures", "contracts/ground_truth.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    return seen.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def _read_facts(path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        content = file.read(MAX_FACTS_BYTES + 1)
    if len(content) > MAX_FACTS_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_FACTS_BYTES} bytes")
    facts = json.loads(content)
    if not isinstance(facts, dict):
        raise ValueError(f"{path.name} holds a JSON {type(facts).__name__}, wanted an object")  # noqa: TRY004
    return facts


def _described(facts: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Described:
    told = facts.get("network")
    if told is None:
        told = _gru_of(shapes)
    try:
        return described_by(told)
    except ValueError as exc:
        raise CheckpointError(f"network: {exc}") from exc


def _gru_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the sizes of a `gru` saved before facts told of networks, read off its biases."""
    sizes = {"features": "mean", "classes": "head_b", "hidden": "gru_br", "embedding": "embed_b"}
    if lacking := sorted(set(sizes.values()) - set(shapes)):
        raise CheckpointError(f"arrays missing: {', '.join(lacking)}")
    counts = {size: math.prod(shapes[array]) for size, array in sizes.items()}
    told = counts | {"hidden": counts["hidden"] // 3, "skip": "skip_w" in shapes}
    return {"name": "gru", "layout": "windows", "sizes": told}


def _check_shapes(seen: Mapping[str, tuple[int, ...]], network: Described) -> None:
    wanted = array_shapes(network)
    unknown = {name for name in seen if name.startswith(UNKNOWN_PREFIX)}
    if lacking := sorted(set(wanted) - set(seen)):
        raise CheckpointError(f"arrays missing: {', '.join(lacking)}")
    if more := sorted(set(seen) - set(wanted) - unknown):
        raise CheckpointError(f"a {network.name} has no array {brief(', '.join(more))}")
    for name, shape in wanted.items():
        if seen[name] != shape:
            raise CheckpointError(f"{name} has shape {seen[name]}, its fellows want {shape}")
    if (values := sum(math.prod(seen[name]) for name in unknown)) > MAX_UNKNOWN_VALUES:
        raise CheckpointError(f"the unknown score has {values} values, at most {MAX_UNKNOWN_VALUES} are read")


def _check_values(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{name} holds what is no number")
        if name in ("unit", "std") and not (array > 0).all():
            raise CheckpointError(f"{name} holds {float(array.min())}, and values are divided by it")
        if name.endswith("running_var") and not (array >= 0).all():
            raise CheckpointError(f"{name} holds {float(array.min())}, and no variance is below 0")


def _read_windows(stored: StoredArrays) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape, mask_shape = (stored.shapes.get(name, ()) for name in ("windows", "mask"))
    if len(shape) != 3 or mask_shape != shape[:2] or not math.prod(shape):
        raise NotStored(f"windows {shape} and mask {mask_shape} are not N windows of W records and F columns")
    if math.prod(shape) > MAX_WINDOW_VALUES:
        raise NotStored(f"windows {shape} are more than {MAX_WINDOW_VALUES} values")
    windows, mask = stored.read("windows"), stored.read("mask")
    if not np.isfinite(windows).all() or not np.isin(mask, (0.0, 1.0)).all():
        raise NotStored("windows hold what is no number, or their mask is neither 0 nor 1")
    return windows, mask
