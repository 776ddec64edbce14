"""How a bundle does on labelled captures: through the detector that ships, never a copy of it.

Each capture is read from its first packet by a fresh detector. Counted, over windows labelled as docs/architecture.md
says (`after` and left-out windows count nowhere):
    windows_benign, windows_attack   benign windows; windows whose newest new attack record is of the class
    tpr, fpr   share of attack / benign windows over threshold: any attack class over its own counts as detected
    auc        of 1 - p(benign) between attack and benign windows; 0.5 says nothing
    incidents, false_incidents       opened; of these, overlapping in time no labelled attack record of their device
    days, false_incidents_per_day    packet time covered, first to last
    first_alert_s   packet time from the first attack packet to the first incident that is not false (several captures:
               the median of those that raised one)
For a class, the attack windows are those of that label, detected as whatever attack; fpr and incidents are those the
detector called by that name. None where undefined. Needs a runtime, not torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from contracts.classes import BENIGN, NAMES
from contracts.ground_truth import GroundTruth
from detection.decide import Thresholds
from detection.detector import Detector
from detection.engine import Engine, Scores
from flowfeatures import AFTER, DEFAULT_HOME_NETS, EXCLUDED, CaptureTruncated, address_text
from training.progress import Progress
from training.stream import LabelledStream

Figures = dict[str, Any]


@dataclass(frozen=True)
class JudgedIncident:
    """An incident and whether it met an attack: `classes` are the labels of the attack records it overlaps."""

    device: str
    class_index: int
    opened_us: int
    classes: frozenset[int]

    @property
    def is_false(self) -> bool:
        return not self.classes


@dataclass(frozen=True, eq=False)
class CaptureOutcome:
    """What the detector made of one capture. Arrays over its N counted windows: `label`, `detected` (class, 0 none),
    `attack_score` (1 - p(benign)). `first_attack_us` by class; `days` of packet time."""

    truth: GroundTruth
    label: NDArray[np.int64]
    detected: NDArray[np.int64]
    attack_score: NDArray[np.float32]
    incidents: tuple[JudgedIncident, ...]
    first_attack_us: dict[int, int]
    days: float
    truncated: CaptureTruncated | None


def evaluate(bundle: Bundle, engine: Engine, truths: Sequence[GroundTruth]) -> list[CaptureOutcome]:
    """Return the outcome of each capture, with a progress bar. Raises what reading a capture raises."""
    outcomes = []
    with Progress("evaluate", len(truths)) as progress:
        for truth in truths:
            outcomes.append(run_capture(bundle, engine, truth))
            progress.step(note=truth.path.name)
    return outcomes


def run_capture(bundle: Bundle, engine: Engine, truth: GroundTruth) -> CaptureOutcome:
    """Return what a fresh detector makes of one capture."""
    listening = _ListeningEngine(engine)
    detector = Detector(bundle, listening, home_nets=truth.home_nets or DEFAULT_HOME_NETS)
    thresholds = Thresholds(bundle.manifest.thresholds)
    stream = LabelledStream(truth)
    parts = []
    for batch in stream:
        listening.heard = None
        detector.add(batch)
        scores = listening.heard if listening.heard is not None else engine.score(batch.values, batch.mask)
        parts.append(_judged_windows(batch.label, scores, thresholds))
    detector.close()
    label, detected, attack_score = (np.concatenate(each) for each in zip(_NO_WINDOWS, *parts, strict=True))
    attacks = stream.attacks
    return CaptureOutcome(
        truth=truth,
        label=label,
        detected=detected,
        attack_score=attack_score,
        incidents=tuple(_judge_incident(incident, attacks) for incident in detector.incidents),
        first_attack_us={int(c): int(attacks["start_us"][attacks["label"] == c].min()) for c in set(attacks["label"])},
        days=stream.days,
        truncated=stream.truncated,
    )


def report(bundle: Bundle, outcomes: Sequence[CaptureOutcome]) -> dict[str, Any]:
    """Return the JSON report: `bundle`, `captures` (one entry each), `classes` (by attack class) and `total`."""
    captures = [
        {
            "capture": str(outcome.truth.path),
            "attack": outcome.truth.attack,
            "class": NAMES[outcome.truth.class_index],
            "outside_observation": bool(outcome.truth.outside_observation),
            "truncated": outcome.truncated is not None,
            **figures([outcome]),
        }
        for outcome in outcomes
    ]
    classes = {name: figures(outcomes, class_index=index) for index, name in enumerate(NAMES) if index != BENIGN}
    named = {
        "path": str(bundle.path),
        "name": bundle.manifest.name,
        "release": bundle.manifest.release,
        "manifest_sha256": bundle.manifest_sha256,
        "unsigned": bundle.unsigned,
    }
    return {"bundle": named, "captures": captures, "classes": classes, "total": figures(outcomes)}


def figures(outcomes: Sequence[CaptureOutcome], *, class_index: int | None = None) -> Figures:
    """Return the figures of the module docstring over several captures, of one attack class or of all."""
    counted = [each for each in outcomes if not each.truth.outside_observation]
    label = _joined([each.label for each in counted])
    detected = _joined([each.detected for each in counted])
    score = _joined([each.attack_score for each in counted])
    attack = label > BENIGN if class_index is None else label == class_index
    benign = label == BENIGN
    called = detected > BENIGN if class_index is None else detected == class_index
    incidents = [i for each in outcomes for i in each.incidents if class_index in (None, i.class_index)]
    false = sum(incident.is_false for incident in incidents)
    days = sum(each.days for each in outcomes)
    alerts = [s for each in outcomes if (s := _first_alert_s(each, class_index)) is not None]
    return {
        "windows_benign": int(benign.sum()),
        "windows_attack": int(attack.sum()),
        "tpr": _share(detected[attack] > BENIGN),
        "fpr": _share(called[benign]),
        "auc": auc(score[attack], score[benign]),
        "incidents": len(incidents),
        "false_incidents": false,
        "days": round(days, 6),
        "false_incidents_per_day": false / days if days > 0 else None,
        "first_alert_s": statistics.median(alerts) if alerts else None,
    }


def auc(attack: NDArray[Any], benign: NDArray[Any]) -> float | None:
    """Return the chance that an attack window scores above a benign one, ties counting half; None without both.

    >>> auc(np.array([0.9, 0.4]), np.array([0.1, 0.4]))
    0.875
    """
    if not len(attack) or not len(benign):
        return None
    ordered = np.sort(benign)
    below = np.searchsorted(ordered, attack, side="left")
    not_above = np.searchsorted(ordered, attack, side="right")
    return float((below + not_above).mean() / 2 / len(benign))


_NO_WINDOWS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class _ListeningEngine:
    """Passes windows on and remembers the first scores since `heard` was cleared: those of the whole batch.

    A detector asks again for evidence and explanations, after it has scored the batch.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.heard: Scores | None = None

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def provider(self) -> str:
        return self._engine.provider

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        scores = self._engine.score(windows, mask)
        if self.heard is None:
            self.heard = scores
        return scores


def _judged_windows(
    label: NDArray[np.int8], scores: Scores, thresholds: Thresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    detected = np.zeros(len(label), np.int64)
    for detection in thresholds.detections(scores):
        detected[detection.row] = detection.class_index
    counted = (label != AFTER) & (label != EXCLUDED)
    attack_score = 1 - scores.probabilities[:, BENIGN]
    return label[counted].astype(np.int64), detected[counted], attack_score[counted]


def _judge_incident(incident: Any, attacks: NDArray[np.void]) -> JudgedIncident:
    device = np.frombuffer(incident.device, dtype=np.uint8)
    own = (attacks["src"] == device).all(axis=1) | (attacks["dst"] == device).all(axis=1)
    meets = own & (attacks["start_us"] <= incident.last_us) & (attacks["end_us"] >= incident.first_us)
    return JudgedIncident(
        device=address_text(incident.device),
        class_index=incident.class_index,
        opened_us=incident.opened_us,
        classes=frozenset(attacks["label"][meets].tolist()),
    )


def _first_alert_s(outcome: CaptureOutcome, class_index: int | None) -> float | None:
    if class_index is None:
        opened = [i.opened_us for i in outcome.incidents if not i.is_false]
        begun = min(outcome.first_attack_us.values(), default=None)
    else:
        opened = [i.opened_us for i in outcome.incidents if class_index in i.classes]
        begun = outcome.first_attack_us.get(class_index)
    return None if begun is None or not opened else max(0.0, (min(opened) - begun) / 1e6)


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _share(hits: Iterable[bool] | NDArray[np.bool_]) -> float | None:
    array = np.asarray(hits)
    return float(array.mean()) if len(array) else None
