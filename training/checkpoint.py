"""A trained network on disk: numpy arrays and facts, no pickle and no torch needed to read it.

A checkpoint is one folder: `weights.npz` (arrays by name), `facts.json` (what the manifest will say: seed, data,
figures, thresholds, benign medians) and `windows.npz` (validation windows on which the exporter compares its graph with
torch). `fit` writes it, `exporter` reads it.

Arrays, with F columns, H hidden units, E embedding, C classes (gate order r, z, n as torch has it):
    unit, mean, std, keep  float32[F]    scaling (see `networks`)
    gru_w [3H, F], gru_r [3H, H], gru_bw [3H], gru_br [3H]; embed_w [E, H], embed_b [E]; head_w [C, E], head_b [C]
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import CheckpointError

WEIGHTS_FILE, FACTS_FILE, WINDOWS_FILE = "weights.npz", "facts.json", "windows.npz"
ROOT = Path(__file__).resolve().parents[1]
ARRAYS = (
    "unit", "mean", "std", "keep",
    "gru_w", "gru_r", "gru_bw", "gru_br", "embed_w", "embed_b", "head_w", "head_b",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A network's arrays and what is known of it."""

    arrays: dict[str, NDArray[np.float32]]
    facts: dict[str, Any]

    @property
    def parameters(self) -> int:
        """Return how many numbers were learnt (scaling is not counted)."""
        return sum(array.size for name, array in self.arrays.items() if "_" in name)

    def save(self, folder: Path) -> None:
        """Write the folder, replacing what it held."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / WEIGHTS_FILE, **self.arrays)  # type: ignore[arg-type]  # savez's stub has allow_pickle
        (folder / FACTS_FILE).write_text(json.dumps(self.facts, indent=1, sort_keys=True) + "\n")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder. Raises CheckpointError where files or arrays lack or do not fit together."""
    try:
        with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name], dtype=np.float32) for name in stored.files}
        facts = json.loads((folder / FACTS_FILE).read_text())
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as exc:
        raise CheckpointError(f"{folder}: not a checkpoint: {exc}") from exc
    if lacking := sorted(set(ARRAYS) - set(arrays)):
        raise CheckpointError(f"{folder}: arrays missing: {', '.join(lacking)}")
    _check_shapes(folder, arrays)
    return Checkpoint(arrays={name: arrays[name] for name in ARRAYS}, facts=facts)


def save_parity_windows(folder: Path, *, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> None:
    """Keep real windows float32[N, W, F] and their mask beside a checkpoint."""
    np.savez_compressed(folder / WINDOWS_FILE, windows=windows, mask=mask)


def load_parity_windows(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the windows and mask kept beside a checkpoint. Raises CheckpointError where there are none."""
    try:
        with np.load(folder / WINDOWS_FILE, allow_pickle=False) as stored:
            return stored["windows"].astype(np.float32), stored["mask"].astype(np.float32)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        raise CheckpointError(f"{folder}: no validation windows to compare on: {exc}") from exc


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


def _check_shapes(folder: Path, arrays: dict[str, NDArray[np.float32]]) -> None:
    (features,), hidden = arrays["mean"].shape, arrays["gru_r"].shape[1]
    embedding, classes = arrays["embed_b"].size, arrays["head_b"].size
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(("unit", "mean", "std", "keep"), (features,))
    wanted |= {"gru_w": (3 * hidden, features), "gru_r": (3 * hidden, hidden)}
    wanted |= {"gru_bw": (3 * hidden,), "gru_br": (3 * hidden,)}
    wanted |= {"embed_w": (embedding, hidden), "head_w": (classes, embedding)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"{folder}: {name} has shape {arrays[name].shape}, its fellows want {shape}")
