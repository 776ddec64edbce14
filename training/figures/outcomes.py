"""What a detector made of captures, and the figures of it.

`CaptureOutcome` is what `training.evaluate` brings home from one capture; everything here is arithmetic on it, so that
figures can be checked on outcomes made by hand.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, UNKNOWN
from contracts.ground_truth import GroundTruth
from flowfeatures import FlowFeaturesError
from training.figures.confusion import confusion, named, of_attacks, of_class, over_classes
from training.figures.rates import auc, poisson_upper_bound, quantile, share, tpr_at_fpr, wilson_bounds
from training.thresholds import upper_bound

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
    `attack_score` (1 - p(benign)), `unknown_score` (None where not kept). `first_attack_us` by class; `days` of packet
    time; `broken` is why it could not be read to its end, `notes` what else a reader of its figures should know."""

    truth: GroundTruth
    label: NDArray[np.int64]
    detected: NDArray[np.int64]
    attack_score: NDArray[np.float32]
    incidents: tuple[JudgedIncident, ...]
    first_attack_us: dict[int, int]
    days: float
    broken: FlowFeaturesError | None
    unknown_score: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


def figures(outcomes: Sequence[CaptureOutcome], *, class_index: int | None = None) -> Figures:
    """Return the figures over several captures, of one attack class or of all.

    windows_benign, windows_attack   benign windows; windows whose newest new attack record is of the class
    tpr, fpr   share of attack / benign windows over threshold: any attack class over its own counts as detected
    tpr_bounds, fpr_bounds, fpr_upper_bound   what so many windows support, at 95 % (`figures.rates` says the trap)
    auc        of 1 - p(benign) between attack and benign windows; 0.5 says nothing
    tpr_at_fpr   by false rate 0.01, 0.001, 0.0001: see `figures.rates.tpr_at_fpr`; the score is 1 - p(benign)
    precision, recall, f1, mcc   over windows; of a class: called by its own name
    incidents, false_incidents   opened; of these, overlapping in time no labelled attack record of their device
    days, incidents_per_day, false_incidents_per_day, false_incidents_per_day_upper_bound   days of packet time
    first_alert_s, first_alert_s_p95   packet time from the first attack packet to the first incident that is not false
               (several captures: median and 95th percentile of those that raised one)
    attacks, attacks_alerted   pairs of capture and class present; of these, met by an incident that is not false
    unknown    figures of the unknown score: see `_unknown_figures`; None where the graph's score is constant

    For a class, the attack windows are those of that label, detected as whatever attack; fpr and incidents are those
    called by that name.
    """
    counted = [each for each in outcomes if not each.truth.outside_observation]
    label, detected = _joined([each.label for each in counted]), _joined([each.detected for each in counted])
    score = _joined([each.attack_score for each in counted])
    attack = label > BENIGN if class_index is None else label == class_index
    benign = label == BENIGN
    found = detected[attack] > BENIGN
    called = (detected > BENIGN if class_index is None else detected == class_index)[benign]
    table = confusion(label, detected)
    days = sum(each.days for each in outcomes)
    return {
        "windows_benign": int(benign.sum()),
        "windows_attack": int(attack.sum()),
        "tpr": share(found),
        "tpr_bounds": wilson_bounds(int(found.sum()), len(found)),
        "fpr": share(called),
        "fpr_bounds": wilson_bounds(int(called.sum()), len(called)),
        "fpr_upper_bound": upper_bound(int(called.sum()), len(called)) if len(called) else None,
        "auc": auc(score[attack], score[benign]),
        "tpr_at_fpr": tpr_at_fpr(score[attack], score[benign]),
        **(of_attacks(table) if class_index is None else of_class(table, class_index)),
        **_incident_figures([i for o in outcomes for i in o.incidents if class_index in (None, i.class_index)], days),
        **_alert_figures(outcomes, class_index),
        "unknown": _unknown_figures(counted, class_index),
    }


def whole(outcomes: Sequence[CaptureOutcome]) -> Figures:
    """Return what only several captures and classes together have: the confusion matrix, its means, quiet captures,
    how many captures there are and how many of them could not be read to their end.

    `benign_captures` holds no attack by its label; of them `false_incidents_per_day_median` is over captures.
    """
    counted = [each for each in outcomes if not each.truth.outside_observation]
    table = confusion(_joined([each.label for each in counted]), _joined([each.detected for each in counted]))
    quiet = [each for each in counted if not (each.label > BENIGN).any() and len(each.label)]
    false = [sum(incident.is_false for incident in each.incidents) for each in quiet]
    rates = [count / each.days for count, each in zip(false, quiet, strict=True) if each.days > 0]
    return {
        "captures": len(outcomes),
        "captures_broken": sum(each.broken is not None for each in outcomes),
        "over_classes": over_classes(table),
        "confusion": named(table),
        "benign_captures": {
            "captures": len(quiet),
            "with_false_incidents": sum(count > 0 for count in false),
            "days": round(sum(each.days for each in quiet), 6),
            "false_incidents": sum(false),
            "false_incidents_per_day_median": quantile(rates, 0.5),
        },
    }


def _incident_figures(incidents: Sequence[JudgedIncident], days: float) -> Figures:
    false = sum(incident.is_false for incident in incidents)
    return {
        "incidents": len(incidents),
        "false_incidents": false,
        "days": round(days, 6),
        "incidents_per_day": len(incidents) / days if days > 0 else None,
        "false_incidents_per_day": false / days if days > 0 else None,
        "false_incidents_per_day_upper_bound": poisson_upper_bound(false) / days if days > 0 else None,
    }


def _alert_figures(outcomes: Sequence[CaptureOutcome], class_index: int | None) -> Figures:
    alerts = [s for each in outcomes if (s := _first_alert_s(each, class_index)) is not None]
    pairs = [(each, c) for each in outcomes for c in each.first_attack_us if class_index in (None, c)]
    return {
        "first_alert_s": statistics.median(alerts) if alerts else None,
        "first_alert_s_p95": quantile(alerts, 0.95),
        "attacks": len(pairs),
        "attacks_alerted": sum(any(c in i.classes for i in each.incidents) for each, c in pairs),
    }


def _unknown_figures(outcomes: Sequence[CaptureOutcome], class_index: int | None) -> Figures | None:
    """Return figures of the unknown score over windows, None where it is the same everywhere.

    `auc` and `tpr_at_fpr` as for 1 - p(benign), but of this score. `share_of_missed`: of the attack windows over no
    class's threshold, the share called unknown; `tpr` and `fpr`: the share of attack and of benign windows called so.
    """
    kept = [each for each in outcomes if each.unknown_score is not None]
    score = _joined([each.unknown_score for each in kept if each.unknown_score is not None])
    if not len(score) or (score == score[0]).all():
        return None
    label, detected = _joined([each.label for each in kept]), _joined([each.detected for each in kept])
    attack = label > BENIGN if class_index is None else label == class_index
    benign = label == BENIGN
    named_class = (detected > BENIGN) & (detected != UNKNOWN)
    return {
        "auc": auc(score[attack], score[benign]),
        "tpr_at_fpr": tpr_at_fpr(score[attack], score[benign]),
        "tpr": share(detected[attack] == UNKNOWN),
        "fpr": share(detected[benign] == UNKNOWN),
        "share_of_missed": share(detected[attack & ~named_class] == UNKNOWN),
    }


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
