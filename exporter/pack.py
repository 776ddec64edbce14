"""Checkpoint -> bundle folder: graphs, what they cost, the gate, the card, the manifest, its signature.

A bundle is written beside its folder first, loaded as a gateway would load it, and only then put in its place: one that
the gate refuses leaves the folder as it was. The same checkpoint, captures and key give the same bytes.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from contracts.bundle import (
    MANIFEST,
    MODEL,
    MODEL_CARD,
    MODEL_FLOAT,
    SIGNATURE,
    BenignScores,
    Bundle,
    Figures,
    Interval,
    Manifest,
    Scaling,
    Source,
    SustainedRule,
    Threshold,
    first_complaint,
    pinned_source,
)
from contracts.classes import HEAD_NAMES, NAMES, UNKNOWN
from contracts.errors import OutputError
from exporter.bundle_folder import write_bundle
from exporter.card import CardInputs, card
from exporter.gate import Measured, Step, check
from exporter.graph import build_graph
from exporter.measure import (
    Labels,
    earlier_steps,
    held_out_report,
    measure_graphs,
    measured_of,
    serialised,
)
from exporter.parity import Parity
from flowfeatures import SCHEMA_ID, WINDOW_COLUMNS
from training.captures import CapturesBySide
from training.checkpoint import Checkpoint
from training.errors import CheckpointError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ROOT = Path(__file__).resolve().parents[1]
PINNED = ROOT / "contracts" / "pinned.py"
PARTS = frozenset({MODEL, MODEL_FLOAT, MANIFEST, SIGNATURE, MODEL_CARD})
QUANTISATION = "weight matrices int8 with one scale per row, widened by DequantizeLinear; computed in float32"
UNKNOWN_NAME = NAMES[UNKNOWN]
WINDOWS_TEXT = "validation windows of splits.toml"
UNLABELLED_TEXT = f"{WINDOWS_TEXT}, those found before the step taken for their classes"

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Real windows float32[N, W, F], their mask float32[N, W] and, where kept, their classes int64[N]."""

    windows: Floats
    mask: Floats
    label: Labels | None = None


@dataclass(frozen=True, kw_only=True)
class Release:
    """What makes a checkpoint a release: its number, what it replaces, who signs, what stands beside it on the card.

    `captures` are judged on; without them nothing may be replaced, since nothing is compared. `replaced_why` says why
    nothing is; `louder` why this one may be worse on benign captures. Raises ValueError where a bundle is to be
    replaced on no captures.
    """

    number: int
    replaces: Bundle | None = None
    replaced_why: str = ""
    louder: str = ""
    captures: CapturesBySide | None = None
    key: Ed25519PrivateKey | None = None
    baselines: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.replaces is not None and self.captures is None:
            raise ValueError("a bundle is replaced only after both were run over the same captures, got none")


@dataclass(frozen=True)
class Packed:
    """What was written and measured."""

    folder: Path
    manifest_sha256: str
    measured: Measured
    int8_parity: Parity


def pack(checkpoint: Checkpoint, folder: Path, *, release: Release, validation: Validation) -> Packed:
    """Write a bundle into a folder, in place of the one that may be there; return what was measured.

    Raises GateRefused, CheckpointError or OutputError and then leaves the folder as it was.
    """
    _check_columns(checkpoint)
    _check_place(folder)
    window = validation.windows.shape[1]
    models = {
        name: serialised(
            build_graph(
                checkpoint.arrays, name=checkpoint.network.name, window=window, int8=int8, unknown=checkpoint.unknown
            )
        )
        for name, int8 in ((MODEL, True), (MODEL_FLOAT, False))
    }
    float_parity, step, int8_parity = measure_graphs(
        checkpoint,
        float_model=models[MODEL_FLOAT],
        model=models[MODEL],
        windows=validation.windows,
        mask=validation.mask,
        label=validation.label,
    )
    steps = (*earlier_steps(checkpoint), step)
    manifest = _manifest(checkpoint, release=release.number, window=window, files={MODEL: "0" * 64})
    figures = _step_figures(steps, float_parity, int8_parity)
    manifest = manifest.model_copy(update={"figures": manifest.figures | figures})
    unsigned = Bundle(path=folder, manifest=manifest, manifest_sha256="", model=models[MODEL], unsigned=True)
    measured = measured_of(
        unsigned, float_parity=float_parity, steps=steps, replaces=release.replaces, captures=release.captures
    )
    measured = replace(measured, louder=release.louder)
    check(measured)
    held_out = {} if release.captures is None else held_out_report(unsigned, release.captures)
    text = card(_card_inputs(manifest, measured, release, held_out=held_out))
    contents = {**models, MODEL_CARD: text.encode()}
    return Packed(folder, write_bundle(folder, contents, manifest, key=release.key), measured, int8_parity)


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


def _check_place(folder: Path) -> None:
    """Raise OutputError where the folder holds something that is no part of a bundle: it would be lost."""
    try:
        astray = sorted({each.name for each in folder.iterdir()} - PARTS)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise OutputError(f"{folder}: {exc.strerror or exc}") from exc
    if astray:
        raise OutputError(f"{folder} holds {astray[0]!r}, wanted an empty folder or a bundle to replace")


def _step_figures(steps: Sequence[Step], float_parity: Parity, int8_parity: Parity) -> dict[str, Figures]:
    """Return the manifest's figures of every compression step, `int8_storage` with those of the graphs."""
    found = {
        step.name.replace(" ", "_"): Figures(
            split=WINDOWS_TEXT if step.labelled else UNLABELLED_TEXT,
            values={
                "windows": step.windows,
                "accuracy_before": step.accuracy_before,
                "accuracy_after": step.accuracy_after,
                "bytes_before": step.bytes_before,
                "bytes_after": step.bytes_after,
            },
        )
        for step in steps
    }
    graphs: dict[str, float | int | None] = {
        "torch_to_float_graph_largest": float_parity.largest,
        "float_to_int8_largest": int8_parity.largest,
        "verdicts_changed_by_int8": int8_parity.changed,
        "model_bytes": steps[-1].bytes_after,
    }
    last = steps[-1].name.replace(" ", "_")
    found[last] = found[last].model_copy(update={"values": found[last].values | graphs})
    return found


def _card_inputs(
    manifest: Manifest, measured: Measured, release: Release, *, held_out: Mapping[str, Any]
) -> CardInputs:
    replaced = release.replaced_why
    if release.replaces is not None:
        old = release.replaces.manifest
        replaced = f"`{old.name}`, release {old.release}"
    return CardInputs(
        manifest=manifest,
        steps=measured.steps,
        torch_difference=measured.float_parity.largest,
        held_out=held_out,
        benign=measured.benign,
        replaced=replaced,
        replaced_benign=measured.replaced_benign,
        louder=measured.louder,
        baselines=release.baselines,
        commands=release.commands,
    )


def _manifest(checkpoint: Checkpoint, *, release: int, window: int, files: dict[str, str]) -> Manifest:
    """Return the manifest without its figures of compression. Raises CheckpointError where facts lack or cannot be."""
    try:
        return _told(checkpoint, checkpoint.facts, release=release, window=window, files=files)
    except KeyError as exc:
        raise CheckpointError(f"checkpoint: its facts lack {exc}, which the manifest tells") from exc
    except ValidationError as exc:
        raise CheckpointError(f"checkpoint: {first_complaint(exc)}") from exc
    except (TypeError, ValueError, AttributeError) as exc:
        raise CheckpointError(f"checkpoint: its facts are not those of a network: {exc}") from exc


def _told(
    checkpoint: Checkpoint, facts: dict[str, Any], *, release: int, window: int, files: dict[str, str]
) -> Manifest:
    return Manifest(
        release=release,
        name=checkpoint.network.name,
        schema_id=SCHEMA_ID,
        window=window,
        features=len(WINDOW_COLUMNS),
        classes=list(HEAD_NAMES),
        scaling=Scaling(kind="log1p", mean=_listed(checkpoint.arrays["mean"]), std=_listed(checkpoint.arrays["std"])),
        thresholds={name: Threshold(**pair) for name, pair in facts["thresholds"].items()},
        score=facts.get("score", "class"),
        interval=Interval(**facts["interval"]),
        intervals=_intervals(facts),
        sustained=SustainedRule(**facts["sustained"]) if facts.get("sustained") else None,
        benign_scores=_benign_scores(facts),
        benign_medians=[float(value) for value in facts["benign_medians"]],
        files=files,
        data=[Source(**source) for source in facts["data"]],
        figures={key: Figures(**value) for key, value in facts["figures"].items()},
        unknown_score=str(facts["unknown"]["kind"]) if checkpoint.unknown else "constant",
        attention="learnt" if checkpoint.network.has_attention else "uniform",
        quantisation=QUANTISATION,
        parameters=checkpoint.parameters,
        seed=int(facts["seed"]),
        training_commit=str(facts["training_commit"]),
        created=datetime.date.fromisoformat(facts["created"]),
    )


def _intervals(facts: Mapping[str, Any]) -> dict[str, Interval]:
    """Return the intervals of classes whose scores are no probabilities: of the unknown score alone."""
    own = facts.get("unknown", {}).get("interval")
    return {UNKNOWN_NAME: Interval(**own)} if own and UNKNOWN_NAME in facts["thresholds"] else {}


def _benign_scores(facts: Mapping[str, Any]) -> BenignScores | None:
    """Return the benign tail of every class with a threshold; None of a checkpoint saved before it was kept."""
    told = facts.get("benign_scores")
    if told is None:
        return None
    quantiles = dict(told["quantiles"])
    if UNKNOWN_NAME in facts["thresholds"] and (own := facts.get("unknown", {}).get("benign_scores")):
        quantiles[UNKNOWN_NAME] = own
    return BenignScores(windows=told["windows"], shares=told["shares"], quantiles=quantiles)


def _listed(array: Floats) -> list[float]:
    return [round(float(value), 6) for value in array]
