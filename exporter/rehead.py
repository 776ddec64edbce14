"""A bundle with another head: the graph of one that stands, the head that a fleet learnt, the gate, a signature.

Scaling, layers before the head and thresholds stay; so does the length of every file. What the manifest knew of the old
head and cannot be said of the new one, its benign scores, is left out: an agent then never lowers a threshold. There is
no checkpoint to compare with: the graph is held against the head computed in numpy on the graph's own embedding.
Needs neither torch nor onnx. Trap: a head is stored as the base stores its own, rounded to int8; what is judged is that
one, not the one that was asked for.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import MODEL, MODEL_FLOAT, Bundle, Figures, Source
from contracts.ground_truth import GroundTruth
from contracts.head import Head, read_head, with_head
from detection.onnx_engine import OnnxEngine
from exporter.bundle_folder import write_bundle
from exporter.gate import Benign, Measured, Step, check
from exporter.measure import accuracy
from exporter.parity import Outputs, compare, run_onnx
from training.evaluate import evaluate
from training.figures.outcomes import figures

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HEAD_STORAGE = "head storage"
JUDGED = "captures of the aggregator that judge releases"

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class NewHead:
    """What makes a bundle's next release: the head, its number, where it comes from, what it is judged on.

    `windows` float32[N, W, F], `mask` float32[N, W] and `label` int64[N] hold the graph against numpy; `captures` are
    run through the detector, with the bundle that is replaced and with the new one. `figures` go into the manifest.
    """

    head: Head
    release: int
    source: Source
    windows: Floats
    mask: Floats
    label: NDArray[np.int64]
    captures: Sequence[GroundTruth]
    figures: dict[str, Figures]
    created: datetime.date


@dataclass(frozen=True)
class Reheaded:
    """What was written, and what the gate saw."""

    folder: Path
    manifest_sha256: str
    measured: Measured


def rehead(base: Bundle, folder: Path, new: NewHead, *, key: Ed25519PrivateKey | None) -> Reheaded:
    """Write a bundle into a folder. Raises GateRefused or OutputError and then leaves the folder as it was.

    Raises BundleCorrupt where the base has no head of that size.
    """
    model = with_head(base.model, new.head)
    contents = {MODEL: model}
    if MODEL_FLOAT in base.manifest.files:
        contents[MODEL_FLOAT] = with_head((base.path / MODEL_FLOAT).read_bytes(), new.head)
    manifest = base.manifest.model_copy(
        update={
            "release": new.release,
            "benign_scores": None,
            "files": dict.fromkeys(contents, "0" * 64),
            "data": [*(each for each in base.manifest.data if each.name != new.source.name), new.source],
            "figures": base.manifest.figures | new.figures,
            "created": new.created,
        }
    )
    made = Bundle(path=folder, manifest=manifest, manifest_sha256="", model=model, unsigned=True)
    measured = _measured(base, made, new)
    check(measured)
    return Reheaded(folder, write_bundle(folder, contents, manifest, key=key), measured)


def _measured(base: Bundle, made: Bundle, new: NewHead) -> Measured:
    before = run_onnx(base.model, windows=new.windows, mask=new.mask)
    after = run_onnx(made.model, windows=new.windows, mask=new.mask)
    heads = new.head, read_head(made.model)
    asked, stored = (head.probabilities(before.embedding).astype(np.float32) for head in heads)
    step = Step(
        name=HEAD_STORAGE,
        accuracy_before=accuracy(asked, new.label),
        accuracy_after=accuracy(after.probabilities, new.label),
        bytes_before=len(base.model),
        bytes_after=len(made.model),
        windows=len(new.windows),
    )
    return Measured(
        name=made.manifest.name,
        release=made.manifest.release,
        float_parity=compare(Outputs(stored, before.embedding, before.attention), after),
        steps=(step,),
        model_bytes=len(made.model),
        replaced_release=base.manifest.release,
        benign={JUDGED: _benign(made, new.captures)},
        replaced_benign={JUDGED: _benign(base, new.captures)},
    )


def _benign(bundle: Bundle, captures: Sequence[GroundTruth]) -> Benign:
    """Return what the detector that ships makes of whole captures: false windows and false incidents."""
    told = figures(evaluate(bundle, OnnxEngine(bundle), captures))
    return Benign(
        windows=told["windows_benign"],
        false_windows=round((told["fpr"] or 0.0) * told["windows_benign"]),
        false_incidents=told["false_incidents"],
        days=told["days"],
        fpr_bound=told["fpr_upper_bound"],
        per_day_bound=told["false_incidents_per_day_upper_bound"],
    )
