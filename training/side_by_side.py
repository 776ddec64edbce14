"""Models set beside each other as a gateway would run them: thresholds of their own, incidents, days of false alarms.

A model is whatever gives class probabilities of windows: a network, a forest. Its thresholds, of one window and of
lasting suspicion, are chosen as a bundle's are (`teach.choose_on`); then whole captures pass through the detector that
ships. Told are the sides `test` and `evaluation`, which neither taught nor chose. Trap: incidents are opened by what
records look like alone, so a model that needs a whole window to see an attack opens fewer than its rate promises.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle, SustainedRule, Threshold
from contracts.ground_truth import GroundTruth
from detection.engine import Scores
from training.captures import CapturesBySide
from training.checkpoint import training_commit
from training.choosing import DEMO
from training.datasets import WindowSet
from training.evaluate import evaluate
from training.figures.outcomes import CaptureOutcome, figures, whole
from training.kept import KeptStreams, Stream
from training.teach import choose_on
from training.thresholds import Chosen

JUDGED_SIDES: Final = ("test", "evaluation")
TOLD: Final = (
    "windows_benign", "windows_attack", "tpr", "fpr", "fpr_upper_bound", "auc", "f1", "mcc", "attacks",
    "attacks_alerted", "first_alert_s", "first_alert_s_p95", "false_incidents", "days", "false_incidents_per_day",
    "false_incidents_per_day_upper_bound",
)  # fmt: skip

Floats = NDArray[np.float32]
Predict = Callable[[WindowSet], Floats]


class ModelEngine:
    """A model as the detector asks for one; it has no embedding, no unknown score and no attention of its own."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    @property
    def name(self) -> str:
        return "model"

    @property
    def provider(self) -> str:
        return "in process"

    def score(self, windows: Floats, mask: Floats) -> Scores:
        """Return the scores of windows float32[B, W, F] under mask float32[B, W]."""
        count = len(windows)
        lengths = np.maximum(mask.sum(axis=1), 1).astype(np.int64)
        asked = WindowSet(
            values=windows,
            lengths=lengths,
            label=np.zeros(count, np.int64),
            row_label=np.zeros(windows.shape[:2], np.int8),
            is_new=np.zeros(windows.shape[:2], np.uint8),
            group=np.zeros(count, np.int64),
            groups=("asked",),
        )
        return Scores(
            probabilities=np.asarray(self._predict(asked), np.float32),
            embedding=np.zeros((count, 1), np.float32),
            unknown_score=np.zeros(count, np.float32),
            attention=np.asarray(mask / lengths[:, None], np.float32),
        )


def thresholds_lent(shipped: Bundle, chosen: Chosen, sustained: SustainedRule | None = None) -> Bundle:
    """Return the shipped bundle with a model's thresholds: the detector reads them and the columns' medians there."""
    manifest = shipped.manifest.model_copy(
        update={
            "thresholds": {name: Threshold(open=low, severe=high) for name, (low, high) in chosen.by_class.items()},
            "sustained": sustained,
            "score": "not benign",
            "benign_scores": None,
            "intervals": {},
            "unknown_score": "constant",
        }
    )
    return replace(shipped, manifest=manifest)


@dataclass(frozen=True, eq=False)
class Judge:
    """What models are judged on: captures by side, read once, and the demo's, which chooses beside `validation`."""

    captures: CapturesBySide
    shipped: Bundle
    stream: Stream = field(default_factory=KeptStreams)
    demo: Path = DEMO

    def figures(self, predict: Predict) -> dict[str, Any]:
        """Return the figures of a model by judged side."""
        return {side: told_of(outcomes) for side, outcomes in self.outcomes(predict, sides=JUDGED_SIDES).items()}

    def outcomes(self, predict: Predict, *, sides: Sequence[str]) -> dict[str, list[CaptureOutcome]]:
        """Return by side what the detector makes of its captures with a model, under thresholds of the model's own."""
        engine = ModelEngine(predict)
        chosen, sustained = choose_on(
            lambda values, mask: engine.score(values, mask).probabilities,
            self.captures,
            demo=self.demo,
            stream=self.stream,
        )
        bundle = thresholds_lent(self.shipped, chosen, sustained)
        return {side: evaluate(bundle, engine, self._plain(side), stream=self.stream) for side in sides}

    def _plain(self, side: str) -> list[GroundTruth]:
        """Return the captures of a side without their variants, which no gateway ever saw."""
        return [each.truth for each in self.captures.sides[side] if "~" not in each.name]


def told_of(outcomes: Sequence[CaptureOutcome]) -> dict[str, Any]:
    """Return what is told of a side: TOLD, rates at fixed FPR, captures without an attack, attack classes."""
    every = figures(outcomes)
    at = {rate: told["tpr"] if told["is_supported"] else None for rate, told in every["tpr_at_fpr"].items()}
    quiet = whole(outcomes)["benign_captures"]
    return {key: every[key] for key in TOLD} | {"tpr_at_fpr": at, "benign_captures": quiet}


def run_facts(command: str, *, seeds: Sequence[int], **conditions: Any) -> dict[str, Any]:
    """Return what a result says of its run."""
    return {
        "command": command,
        "seeds": list(seeds),
        "split": "training/splits.toml: by maker, recording and source",
        **conditions,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "commit": training_commit(),
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
    }
