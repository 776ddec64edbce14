"""One learner on one split: everything the reports tell of it.

Thresholds come from benign validation rows alone. A row whose class was not taught counts as an attack in the binary
figures, stands in a block of its own (`unknown`), and nowhere in the table of classes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.figures.rates import auc
from training.tables import metrics
from training.tables.density import Density
from training.tables.learners import Classes, Fitted, Suspicion, fit_learner
from training.tables.sides import Sides
from training.tables.table import Table

UNKNOWN_LEVEL = 1e-3
CALLED_LEVEL = 1e-2
ROC_POINTS = 200


def judge(name: str, sides: Sides, classes: Classes, *, density: Density, seed: int) -> tuple[dict[str, Any], Fitted]:
    """Return the figures of one learner for one seed, and the learner.

    Keys: `seed`, `facts`, `judge_cpu_s`, `detection` (by score), `classes`, `unknown` (None if every kind was taught).
    """
    fitted = fit_learner(name, sides, classes, seed=seed)
    started = time.process_time()
    chosen, probabilities = fitted.probabilities(sides.validation), fitted.probabilities(sides.test)
    suspicion = Suspicion.of(density, sides.validation, chosen)
    scores = suspicion.scores(sides.test, probabilities)
    benign_validation = sides.validation.take(~sides.validation.attack)
    benign_scores = suspicion.scores(benign_validation, chosen[~sides.validation.attack])
    run = {
        "seed": seed,
        "facts": fitted.facts,
        "detection": _detection(sides.test, probabilities, scores, benign_scores),
        "classes": _classes(sides.test, probabilities, classes),
        "unknown": _unknown(sides, scores, benign_scores),
        "judge_cpu_s": round(time.process_time() - started, 1),
    }
    return run, fitted


def _detection(
    test: Table, probabilities: NDArray[np.float64], scores: dict[str, Any], benign: dict[str, Any]
) -> dict[str, Any]:
    """Return figures by score: `own` calls by its most probable class, the others above a validation threshold."""
    told = {}
    for name, score in scores.items():
        called = score > metrics.threshold_for(benign[name], CALLED_LEVEL)
        if name == "own":
            called = probabilities.argmax(axis=1) > 0
        figures = metrics.detection(test.attack, score, called=called)
        thresholds = {f"{level:g}": metrics.threshold_for(benign[name], level) for level in metrics.FPR_LEVELS}
        figures["at_validation_threshold"] = {
            level: metrics.at_threshold(score[test.attack], score[~test.attack], threshold)
            for level, threshold in thresholds.items()
        }
        fpr, tpr = metrics.roc(test.attack, score, points=ROC_POINTS)
        figures["roc"] = [np.round(fpr, 6).tolist(), np.round(tpr, 6).tolist()]
        told[name] = figures
    return told


def _classes(test: Table, probabilities: NDArray[np.float64], classes: Classes) -> dict[str, Any]:
    label = classes.of(test)
    known = label >= 0
    return metrics.classes(label[known], probabilities[known].argmax(axis=1), names=classes.names)


def _unknown(sides: Sides, scores: dict[str, Any], benign: dict[str, Any]) -> dict[str, Any] | None:
    """Return, by score, what the threshold for one benign validation row in a thousand finds of kinds never taught."""
    taught = set(sides.train.kind.tolist())
    kinds = [kind for kind in sides.test.counts() if kind not in taught]
    kinds = [kind for kind in kinds if sides.test.attack[sides.test.kind == kind].any()]
    if not kinds:
        return None
    unknown = np.isin(sides.test.kind.astype(str), kinds)
    told: dict[str, Any] = {"kinds": {kind: int((sides.test.kind == kind).sum()) for kind in kinds}}
    for name, score in scores.items():
        threshold = metrics.threshold_for(benign[name], UNKNOWN_LEVEL)
        quiet = score[~sides.test.attack]
        by_kind = {kind: metrics.at_threshold(score[sides.test.kind == kind], quiet, threshold) for kind in kinds}
        told[name] = {
            "at_validation_threshold": metrics.at_threshold(score[unknown], quiet, threshold),
            "mean_over_kinds": float(np.mean([each["tpr"] for each in by_kind.values()])),
            "auc": auc(score[unknown], quiet),
            "tpr_at_fpr": {
                f"{level:g}": metrics.tpr_at_fpr(score[unknown], quiet, level) for level in metrics.FPR_LEVELS
            },
            "by_kind": by_kind,
            "validation_benign": len(benign[name]),
            "validation_fpr_bound": metrics.rate_bound(int((benign[name] > threshold).sum()), len(benign[name])),
        }
    return told
