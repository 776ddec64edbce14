"""How a bundle does on labelled captures: through the detector that ships, never a copy of it.

Each capture is read from its first packet by a fresh detector. Counted, over windows labelled as docs/architecture.md
says (`after` and left-out windows count nowhere); what each key of a figure block means stands at
`training.figures.outcomes.figures`. None where undefined. Needs a runtime, not torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from contracts.classes import BENIGN, NAMES
from contracts.ground_truth import GroundTruth
from contracts.terminal import printable
from detection.decide import Thresholds
from detection.detector import Detector
from detection.engine import Engine, Scores
from flowfeatures import AFTER, DEFAULT_HOME_NETS, EXCLUDED, CaptureTruncated, address_text
from training.figures.outcomes import CaptureOutcome, JudgedIncident, figures, whole
from training.figures.rates import auc
from training.kept import Stream
from training.progress import Progress
from training.spans import AttackSpans
from training.stream import LabelledStream

__all__ = ["CaptureOutcome", "JudgedIncident", "auc", "evaluate", "figures", "report", "run_capture"]


def evaluate(
    bundle: Bundle, engine: Engine, truths: Sequence[GroundTruth], *, stream: Stream = LabelledStream
) -> list[CaptureOutcome]:
    """Return the outcome of each capture, with a progress bar. Raises what `stream` raises."""
    outcomes = []
    with Progress("evaluate", len(truths)) as progress:

        def watch(truth: GroundTruth, share: float) -> None:
            progress.step(0, note=f"{printable(truth.path.name)} {share:.0%}")

        for truth in truths:
            outcomes.append(run_capture(bundle, engine, truth, stream=stream, watch=watch))
            progress.step(note=printable(truth.path.name))
    return outcomes


def run_capture(
    bundle: Bundle,
    engine: Engine,
    truth: GroundTruth,
    *,
    stream: Stream = LabelledStream,
    watch: Callable[[GroundTruth, float], None] = lambda *_: None,
) -> CaptureOutcome:
    """Return what a fresh detector makes of one capture; `stream` reads it other than the agent only in studies.

    `watch` is told the share that was read, again and again.
    """
    detector = Detector(bundle, engine, home_nets=truth.home_nets or DEFAULT_HOME_NETS)
    thresholds = Thresholds(bundle.manifest.thresholds, score=bundle.manifest.score)
    windows = stream(truth)
    parts = []
    for batch in windows:
        detector.add(batch)
        parts.append(_judged_windows(batch.label, detector.judged, thresholds))
        watch(truth, windows.share_read)
    detector.close()
    label, detected, attack_score, unknown = (np.concatenate(each) for each in zip(_NO_WINDOWS, *parts, strict=True))
    attacks = windows.attacks
    return CaptureOutcome(
        truth=truth,
        label=label,
        detected=detected,
        attack_score=attack_score,
        unknown_score=unknown,
        incidents=tuple(_judge_incident(incident, attacks) for incident in detector.incidents),
        first_attack_us=dict(attacks.first_us),
        days=windows.days,
        broken=windows.broken,
        notes=windows.notes,
    )


def report(bundle: Bundle, outcomes: Sequence[CaptureOutcome]) -> dict[str, Any]:
    """Return the JSON report: `bundle`, `captures` (one entry each), `classes` (by attack class) and `total`."""
    captures = [
        {
            "capture": str(outcome.truth.path),
            "attack": outcome.truth.attack,
            "class": NAMES[outcome.truth.class_index],
            "outside_observation": bool(outcome.truth.outside_observation),
            "truncated": isinstance(outcome.broken, CaptureTruncated),
            "error": None if outcome.broken is None else str(outcome.broken),
            "notes": list(outcome.notes),
            **figures([outcome]),
        }
        for outcome in outcomes
    ]
    classes = {name: figures(outcomes, class_index=index) for index, name in enumerate(NAMES) if index != BENIGN}
    about = {
        "path": str(bundle.path),
        "name": bundle.manifest.name,
        "release": bundle.manifest.release,
        "manifest_sha256": bundle.manifest_sha256,
        "unsigned": bundle.unsigned,
        "unknown_score": bundle.manifest.unknown_score,
    }
    return {"bundle": about, "captures": captures, "classes": classes, "total": figures(outcomes) | whole(outcomes)}


_NO_WINDOWS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))


def _judged_windows(
    label: NDArray[np.int8], scores: Scores, thresholds: Thresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    detected = np.zeros(len(label), np.int64)
    for detection in thresholds.detections(scores):
        detected[detection.row] = detection.class_index
    counted = (label != AFTER) & (label != EXCLUDED)
    attack_score = 1 - scores.probabilities[:, BENIGN]
    return label[counted].astype(np.int64), detected[counted], attack_score[counted], scores.unknown_score[counted]


def _judge_incident(incident: Any, attacks: AttackSpans) -> JudgedIncident:
    return JudgedIncident(
        device=address_text(incident.device),
        class_index=incident.class_index,
        opened_us=incident.opened_us,
        classes=attacks.classes_met(incident.device, first_us=incident.first_us, last_us=incident.last_us),
    )
