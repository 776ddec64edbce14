"""What the gate looks at, measured: graphs against torch, accuracy before and after a step, benign captures held out.

Captures go through `training.report` and `training.evaluate`, and so through the detector that ships. Held out are the
sides `test` and `evaluation` of the split: nobody trained on them or chose a threshold there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import MODEL_FLOAT, Bundle
from contracts.errors import BundleUnreadable, DataMissing
from detection.onnx_engine import OnnxEngine
from exporter.gate import Benign, Measured, Step
from exporter.parity import Floats, Parity, compare, run_onnx, run_torch
from training.captures import CapturesBySide
from training.checkpoint import WINDOWS_FILE, Checkpoint, load_parity_windows
from training.errors import CheckpointError
from training.report import report_sides
from training.stored import stored_arrays

if TYPE_CHECKING:
    from onnx import ModelProto

HELD_OUT_SIDES = ("test", "evaluation")
INT8_STORAGE = "int8 storage"

Labels = NDArray[np.int64]


def validation_labels(folder: Path) -> Labels | None:
    """Return the classes int64[N] of the windows kept beside a checkpoint, None where it keeps none.

    Raises CheckpointError where they are not one whole number per window.
    """
    try:
        with stored_arrays(folder / WINDOWS_FILE) as stored:
            if "label" not in stored.shapes:
                return None
            if stored.shapes["label"] != stored.shapes["mask"][:1]:
                raise CheckpointError(f"{folder}: labels {stored.shapes['label']} are not one per window")
            return stored.read("label").astype(np.int64)
    except (OSError, ValueError, KeyError) as exc:
        raise CheckpointError(f"{folder}: no labels to read: {exc}") from exc


def accuracy(probabilities: Floats, label: Labels) -> float:
    """Return the share of windows whose most probable class is theirs.

    >>> accuracy(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), np.array([0, 0]))
    0.5
    """
    return float((probabilities.argmax(axis=1) == label).mean())


def measure_graphs(
    checkpoint: Checkpoint, *, float_model: bytes, model: bytes, windows: Floats, mask: Floats, label: Labels | None
) -> tuple[Parity, Step, Parity]:
    """Return how far the float graph is from torch, what int8 storage costs, and how far it is from the float graph."""
    floats = run_onnx(float_model, windows=windows, mask=mask)
    stored = run_onnx(model, windows=windows, mask=mask)
    truth = floats.probabilities.argmax(axis=1) if label is None else label
    step = Step(
        name=INT8_STORAGE,
        accuracy_before=accuracy(floats.probabilities, truth),
        accuracy_after=accuracy(stored.probabilities, truth),
        bytes_before=len(float_model),
        bytes_after=len(model),
        windows=len(windows),
        labelled=label is not None,
    )
    facts = checkpoint.network.facts()
    torch_said = run_torch(checkpoint.arrays, windows=windows, mask=mask, network=facts)
    return compare(torch_said, floats), step, compare(floats, stored)


def serialised(model: ModelProto) -> bytes:
    """Return the bytes of a graph, the same for the same graph."""
    return bytes(model.SerializeToString(deterministic=True))


def earlier_steps(checkpoint: Checkpoint) -> tuple[Step, ...]:
    """Return the compression steps the checkpoint went through before, as `exporter.shrink` wrote them down.

    Raises CheckpointError where what stands there is none: a step that cannot be read cannot be held to the gate.
    """
    try:
        return tuple(Step(**step) for step in checkpoint.facts.get("compression", ()))
    except TypeError as exc:
        raise CheckpointError(f"checkpoint: its compression steps cannot be read: {exc}") from exc


def measure_bundle(
    bundle: Bundle,
    checkpoint: Checkpoint,
    *,
    checkpoint_folder: Path,
    replaces: Bundle | None,
    captures: CapturesBySide | None,
) -> Measured:
    """Return what the gate looks at, of a bundle that stands and the checkpoint it was made from."""
    if MODEL_FLOAT not in bundle.manifest.files:
        raise BundleUnreadable(f"bundle: {bundle.path} has no {MODEL_FLOAT}, wanted one to compare with torch")
    windows, mask = load_parity_windows(checkpoint_folder)
    float_parity, step, _ = measure_graphs(
        checkpoint,
        float_model=(bundle.path / MODEL_FLOAT).read_bytes(),
        model=bundle.model,
        windows=windows,
        mask=mask,
        label=validation_labels(checkpoint_folder),
    )
    steps = (*earlier_steps(checkpoint), step)
    return measured_of(bundle, float_parity=float_parity, steps=steps, replaces=replaces, captures=captures)


def measured_of(
    bundle: Bundle,
    *,
    float_parity: Parity,
    steps: tuple[Step, ...],
    replaces: Bundle | None,
    captures: CapturesBySide | None,
) -> Measured:
    """Return what the gate looks at: what is known of the graphs, and the benign captures run through both bundles."""
    benign, replaced = {}, {}
    if captures is not None:
        quiet = benign_only(captures)
        benign = benign_of(held_out_report(bundle, quiet))
        if replaces is not None:
            replaced = benign_of(held_out_report(replaces, quiet))
    return Measured(
        name=bundle.manifest.name,
        release=bundle.manifest.release,
        float_parity=float_parity,
        steps=steps,
        model_bytes=len(bundle.model),
        replaced_release=None if replaces is None else replaces.manifest.release,
        benign=benign,
        replaced_benign=replaced,
    )


def held_out_report(bundle: Bundle, captures: CapturesBySide) -> dict[str, Any]:
    """Return what `penstock-train report` says of the held-out sides. Raises DataMissing where they hold nothing."""
    held_out = CapturesBySide()
    for side in HELD_OUT_SIDES:
        held_out.sides[side] = captures.sides[side]
    if not any(held_out.sides.values()):
        raise DataMissing(
            f"no capture on the sides {' and '.join(HELD_OUT_SIDES)}, wanted some to judge on: is PENSTOCK_SHARED set?"
        )
    sides = report_sides(bundle, OnnxEngine(bundle), held_out)["sides"]
    return {side: sides[side] for side in HELD_OUT_SIDES if held_out.sides[side]}


def benign_only(captures: CapturesBySide) -> CapturesBySide:
    """Return the captures in which nobody attacks."""
    quiet = CapturesBySide()
    for side, members in captures.sides.items():
        quiet.sides[side] = [member for member in members if member.truth.attack == "benign"]
    return quiet


def benign_of(report: Mapping[str, Any]) -> dict[str, Benign]:
    """Return what the gate compares, by side, of a report over benign captures alone."""
    return {side: _benign(told["total"]) for side, told in report.items()}


def _benign(total: Mapping[str, Any]) -> Benign:
    return Benign(
        windows=total["windows_benign"],
        false_windows=round((total["fpr"] or 0.0) * total["windows_benign"]),
        false_incidents=total["false_incidents"],
        days=total["days"],
        fpr_bound=total["fpr_upper_bound"],
        per_day_bound=total["false_incidents_per_day_upper_bound"],
    )
