"""Checkpoint -> bundle folder, each step checked: graph, parity, size, metric loss, manifest.

`pack` refuses to write a bundle whose float graph strays from torch, whose int8-stored graph changes too many
verdicts, or whose model is too large; what was measured stands in the manifest.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import (
    MODEL,
    Figures,
    Interval,
    Manifest,
    Scaling,
    Source,
    Threshold,
    file_sha256,
    pinned_source,
    write_manifest,
)
from contracts.classes import HEAD_NAMES
from exporter.graph import build_graph
from exporter.parity import FLOAT_TOLERANCE, Parity, compare, run_onnx, run_torch
from flowfeatures import SCHEMA_ID, WINDOW_COLUMNS
from training.checkpoint import Checkpoint
from training.errors import CheckpointError, ParityError

MAX_MODEL_BYTES = 64 * 1024
MAX_CHANGED_SHARE = 0.005  # of validation windows whose most probable class int8 storage may change
NETWORK_NAME = "gru"
ROOT = Path(__file__).resolve().parents[1]
PINNED = ROOT / "contracts" / "pinned.py"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Packed:
    """What was written and measured."""

    folder: Path
    manifest_sha256: str
    model_bytes: int
    float_parity: Parity
    int8_parity: Parity


def pack(checkpoint: Checkpoint, folder: Path, *, release: int, windows: Floats, mask: Floats) -> Packed:
    """Write model.onnx and manifest.json into a folder; return what was measured on the given windows.

    `windows` float32[N, W, F] and `mask` float32[N, W] are real ones: parity on made-up numbers says little. Raises
    ParityError or CheckpointError and then leaves the folder as it was.
    """
    _check_columns(checkpoint)
    arrays = checkpoint.arrays
    float_graph = build_graph(arrays, window=windows.shape[1], int8=False)
    model = build_graph(arrays, window=windows.shape[1], int8=True).SerializeToString()
    floats = run_onnx(float_graph, windows=windows, mask=mask)
    float_parity = compare(run_torch(arrays, windows=windows, mask=mask), floats)
    int8_parity = compare(floats, run_onnx(model, windows=windows, mask=mask))
    _gate(float_parity, int8_parity, len(model))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model)
    figures = {"int8_storage": _quantisation_figures(float_parity, int8_parity, len(model))}
    manifest = _manifest(checkpoint, release=release, window=windows.shape[1], folder=folder, figures=figures)
    return Packed(folder, write_manifest(folder, manifest), len(model), float_parity, int8_parity)


def pin(manifest_sha256: str, *, path: Path = PINNED) -> None:
    """Make contracts/pinned.py trust this manifest and no other."""
    path.write_text(pinned_source(manifest_sha256))


def _check_columns(checkpoint: Checkpoint) -> None:
    for what, seen, wanted in (
        ("schema", checkpoint.facts.get("schema_id"), SCHEMA_ID),
        ("columns", checkpoint.arrays["mean"].size, len(WINDOW_COLUMNS)),
        ("classes", checkpoint.arrays["head_b"].size, len(HEAD_NAMES)),
    ):
        if seen != wanted:
            raise CheckpointError(f"checkpoint was made for {what} {seen}, this build has {wanted}")


def _gate(float_parity: Parity, int8_parity: Parity, model_bytes: int) -> None:
    if float_parity.largest > FLOAT_TOLERANCE:
        raise ParityError(f"float graph differs from torch by {float_parity.largest:.2e}, allowed {FLOAT_TOLERANCE}")
    changed = int8_parity.changed / max(int8_parity.windows, 1)
    if changed > MAX_CHANGED_SHARE:
        raise ParityError(f"int8 storage changes {changed:.2%} of the verdicts, allowed {MAX_CHANGED_SHARE:.2%}")
    if model_bytes >= MAX_MODEL_BYTES:
        raise ParityError(f"model.onnx has {model_bytes} bytes, allowed below {MAX_MODEL_BYTES}")


def _quantisation_figures(float_parity: Parity, int8_parity: Parity, model_bytes: int) -> Figures:
    return Figures(
        split="validation windows of splits.toml",
        values={
            "windows": float_parity.windows,
            "torch_to_float_graph_largest": float_parity.largest,
            "float_to_int8_largest": int8_parity.largest,
            "verdicts_changed_by_int8": int8_parity.changed,
            "model_bytes": model_bytes,
        },
    )


def _manifest(
    checkpoint: Checkpoint, *, release: int, window: int, folder: Path, figures: dict[str, Figures]
) -> Manifest:
    facts: dict[str, Any] = checkpoint.facts
    return Manifest(
        release=release,
        name=NETWORK_NAME,
        schema_id=SCHEMA_ID,
        window=window,
        features=len(WINDOW_COLUMNS),
        classes=list(HEAD_NAMES),
        scaling=Scaling(kind="log1p", mean=_listed(checkpoint.arrays["mean"]), std=_listed(checkpoint.arrays["std"])),
        thresholds={name: Threshold(**pair) for name, pair in facts["thresholds"].items()},
        interval=Interval(**facts["interval"]),
        benign_medians=[float(value) for value in facts["benign_medians"]],
        files={MODEL: file_sha256(folder / MODEL)},
        data=[Source(**source) for source in facts["data"]],
        figures=figures | {key: Figures(**value) for key, value in facts["figures"].items()},
        unknown_score="constant",
        attention="uniform",
        quantisation="weight matrices int8 with one scale per row, widened by DequantizeLinear; computed in float32",
        parameters=checkpoint.parameters,
        seed=int(facts["seed"]),
        training_commit=str(facts["training_commit"]),
        created=datetime.date.fromisoformat(facts["created"]),
    )


def _listed(array: Floats) -> list[float]:
    return [round(float(value), 6) for value in array]
