"""Figures of a judgement, each with what its sample supports. Plain numpy; None where undefined.

Two kinds of threshold must not be confused. `tpr_at_fpr` reads the ROC curve of the rows judged: it says what could be
had, and compares scores. `at_threshold` takes a threshold that was chosen elsewhere, on validation rows, and reports
the false-positive rate it really had: it says what one gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.figures.rates import auc

FPR_LEVELS = (1e-2, 1e-3, 1e-4)
# Student's t, two-sided 95 %, by degrees of freedom; beyond, the normal's 1.96 is close.
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]
Figures = dict[str, Any]


def detection(attack: Flags, score: Scores, *, called: Flags) -> Figures:
    """Return the figures of attack against benign: `score` rises with suspicion, `called` are those called it."""
    benign_scores, attack_scores = score[~attack], score[attack]
    hit, false = int((called & attack).sum()), int((called & ~attack).sum())
    missed, quiet = int((~called & attack).sum()), int((~called & ~attack).sum())
    return {
        "benign": int((~attack).sum()),
        "attack": int(attack.sum()),
        "accuracy": ratio(hit + quiet, len(attack)),
        "precision": ratio(hit, hit + false),
        "recall": ratio(hit, hit + missed),
        "f1": ratio(2 * hit, 2 * hit + false + missed),
        "fpr": ratio(false, false + quiet),
        "mcc": mcc(np.array([[quiet, false], [missed, hit]])),
        "auc": auc(attack_scores, benign_scores),
        "tpr_at_fpr": {f"{level:g}": tpr_at_fpr(attack_scores, benign_scores, level) for level in FPR_LEVELS},
        "confusion": [[quiet, false], [missed, hit]],
    }


def classes(label: Labels, called: Labels, *, names: Sequence[str]) -> Figures:
    """Return the figures of several classes; `macro_f1` is over classes that have rows."""
    count = len(names)
    confusion = np.bincount(label * count + called, minlength=count * count).reshape(count, count)
    per_class: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(names):
        right, own, said = int(confusion[place, place]), int(confusion[place].sum()), int(confusion[:, place].sum())
        per_class[name] = {
            "rows": own,
            # Paper D tells an accuracy per class: of one class against the rest.
            "accuracy": ratio(int(confusion.sum()) - own - said + 2 * right, int(confusion.sum())),
            "precision": ratio(right, said),
            "recall": ratio(right, own),
            "f1": ratio(2 * right, own + said),
        }
    present = [each for each in per_class.values() if each["rows"]]
    weights = [float(each["rows"] or 0) for each in present]
    return {
        "accuracy": ratio(int(np.trace(confusion)), int(confusion.sum())),
        "macro_f1": float(np.mean([each["f1"] for each in present])) if present else None,
        "macro_precision": float(np.mean([each["precision"] or 0.0 for each in present])) if present else None,
        "macro_recall": float(np.mean([each["recall"] for each in present])) if present else None,
        "weighted_f1": float(np.average([each["f1"] for each in present], weights=weights)) if present else None,
        "mcc": mcc(confusion),
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def mcc(confusion: NDArray[Any]) -> float | None:
    """Return Matthews' correlation, for several classes as by Gorodkin (2004)."""
    matrix = np.asarray(confusion, dtype=np.float64)
    total, right = matrix.sum(), np.trace(matrix)
    own, said = matrix.sum(axis=1), matrix.sum(axis=0)
    spread = math.sqrt(total**2 - said @ said) * math.sqrt(total**2 - own @ own)
    return float((right * total - own @ said) / spread) if spread else None


def tpr_at_fpr(attack: Scores, benign: Scores, level: float) -> Figures:
    """Return the share of attack rows above the lowest threshold that no more than `level` of the benign rows exceed.

    `fpr_bound` is the 95 % upper bound on the rate at that threshold: with n benign rows it cannot fall below 3/n, and
    where it is above the level asked for, `supported` says so.
    """
    if not len(attack) or not len(benign):
        return {"tpr": None, "fpr": None, "fpr_bound": None, "supported": False}
    threshold = threshold_for(benign, level)
    false = int((benign > threshold).sum())
    return {
        "tpr": float((attack > threshold).mean()),
        "fpr": false / len(benign),
        "fpr_bound": rate_bound(false, len(benign)),
        # At least three benign rows would be expected above: fewer, and the level cannot be told from a lower one.
        "supported": bool(len(benign) * level >= 3),
    }


def at_threshold(attack: Scores, benign: Scores, threshold: float) -> Figures:
    """Return what a threshold chosen elsewhere does: TPR and FPR, each with its 95 % bounds."""
    hit, false = int((attack > threshold).sum()), int((benign > threshold).sum())
    low, high = interval(hit, len(attack))
    return {
        "tpr": ratio(hit, len(attack)),
        "tpr_low": low,
        "tpr_high": high,
        "fpr": ratio(false, len(benign)),
        "fpr_bound": rate_bound(false, len(benign)),
        "attack": len(attack),
        "benign": len(benign),
    }


def threshold_for(benign: Scores, level: float) -> float:
    """Return the lowest threshold that at most a share `level` of these benign scores exceed."""
    allowed = math.floor(level * len(benign) + 1e-9)
    ordered = np.sort(benign)[::-1]
    return float(ordered[min(allowed, len(ordered) - 1)])


def interval(seen: int, total: int) -> tuple[float | None, float | None]:
    """Return Wilson's 95 % interval of a share."""
    if not total:
        return None, None
    z = 1.96
    share, weight = seen / total, z**2 / total
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / total + weight / total / 4) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def rate_bound(seen: int, total: int) -> float | None:
    """Return the one-sided 95 % upper bound on a rate: 3/n where none was seen, else Wilson's, which is close."""
    if not total:
        return None
    if seen == 0:
        return min(1.0, 3.0 / total)
    return interval(seen, total)[1]


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def spread(values: Sequence[float | None]) -> Figures | None:
    """Return mean, standard deviation and the 95 % interval of the mean (Student's t) over seeds; None without values.

    >>> spread([1.0, 3.0])["mean"]
    2.0
    """
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    mean, count = float(np.mean(known)), len(known)
    if count < 2:
        return {"mean": mean, "sd": None, "low": None, "high": None, "seeds": count}
    sd = float(np.std(known, ddof=1))
    half = (T_95[count - 2] if count - 2 < len(T_95) else 1.96) * sd / math.sqrt(count)
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "seeds": count}


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> Figures:
    """Return the same tree of figures with each number as its spread over the runs; lists and texts are left out."""
    told: Figures = {}
    for key, first in runs[0].items():
        values = [run.get(key) for run in runs]
        if isinstance(first, Mapping):
            told[key] = over_seeds([value for value in values if isinstance(value, Mapping)])
        elif isinstance(first, bool):
            told[key] = all(values)
        elif not isinstance(first, (list, str)):
            told[key] = spread(values)
    return told


def roc(attack: Flags, score: Scores, *, points: int = 400) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false- and true-positive rates of falling thresholds, thinned to some points."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits, false = np.cumsum(attack[order])[ends], np.cumsum(~attack[order])[ends]
    if len(ends) > points:
        # Evenly by logarithm at the left, where a detector works.
        steps = np.unique(np.round(np.geomspace(1, len(ends), points)).astype(int)) - 1
        hits, false = hits[steps], false[steps]
    return false / max(1, (~attack).sum()), hits / max(1, attack.sum())
