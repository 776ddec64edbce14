"""The network beside a forest and boosted trees, and beside itself without some columns, on the same windows.

Window figures only, on windows as `datasets` thins them (at most 500 of a class and capture, none of a benign device in
the minute after an attack), thresholds chosen for each model by the same rule on validation. Needs torch and
scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.baselines import fit_baselines
from training.captures import CapturesBySide
from training.datasets import WindowSet, gather
from training.fit import FitSettings, Fitted, fit, predict
from training.splits import TEACHING_SIDES
from training.teach import head_windows, plain_benign, window_figures
from training.thresholds import choose

JUDGING_SIDES = ("validation", "test", "evaluation")
ABLATIONS: dict[str, tuple[str, ...]] = {
    "without port buckets": ("port_",),
    "without counts over 10 s and 60 s": ("peers_", "ports_", "half_open_", "failed_"),
    "without counts over 60 s": ("peers_60s", "ports_60s", "half_open_60s", "failed_60s"),
    "without repeats": ("repeats",),
    "without log_gap": ("log_gap",),
    "without direction": ("device_initiated", "peer_is_home"),
    "without fwd_rst, bwd_rst": ("fwd_rst", "bwd_rst"),
    "without is_partial": ("is_partial",),
}
"""Prefixes of the columns that one ablation hides from the network, beside those always hidden."""

Predict = Callable[[WindowSet], NDArray[np.float32]]


def compare(captures: CapturesBySide, settings: FitSettings, *, seeds: Sequence[int], ablate: bool) -> dict[str, Any]:
    """Return window figures by model and side; for the network one entry per seed."""
    sets = _sets(captures)
    teaching, choosing = sets["train"], sets["taught_validation"]
    benign = plain_benign(captures, sets["taught_validation"])

    def judge(predict_with: Predict) -> dict[str, Any]:
        return _figures(predict_with, sets, benign)

    told: dict[str, Any] = {}
    fitted: Fitted | None = None
    for seed in seeds:
        fitted = fit(teaching, choosing, replace(settings, seed=seed))
        told[f"gru, seed {seed}"] = judge(_predictor(fitted))
    if fitted is None:
        return told
    if ablate:
        told["gru, all columns, seed 1"] = judge(_without(teaching, choosing, settings, ()))
        for name, prefixes in ABLATIONS.items():
            hidden = (*settings.hidden_columns, *_columns(prefixes))
            told[f"gru {name}, seed 1"] = judge(_without(teaching, choosing, settings, hidden))
    for baseline in fit_baselines(teaching, fitted.scaling, seed=seeds[0], threads=settings.threads):
        told[baseline.name] = judge(baseline.probabilities)
    return told


def _sets(captures: CapturesBySide) -> dict[str, WindowSet]:
    """Return windows by side; `taught_validation` holds variants too, as early stopping sees them."""
    judging = {
        side: gather(captures.truths(side), title=f"{side} windows", keep=head_windows) for side in JUDGING_SIDES
    }
    for side in TEACHING_SIDES:
        captures.add_variants(side)
    train, validation = (
        gather(captures.truths(side), title=f"{side} windows", keep=head_windows) for side in TEACHING_SIDES
    )
    return judging | {"train": train, "taught_validation": validation}


def _columns(prefixes: Sequence[str]) -> tuple[str, ...]:
    from flowfeatures import CONTEXT_COLUMNS

    return tuple(name for name in CONTEXT_COLUMNS if name.startswith(tuple(prefixes)))


def _predictor(fitted: Fitted) -> Predict:
    return lambda windows: predict(fitted.network, windows)


def _without(train: WindowSet, validation: WindowSet, settings: FitSettings, hidden: tuple[str, ...]) -> Predict:
    return _predictor(fit(train, validation, replace(settings, seed=1, hidden_columns=hidden)))


def _figures(predict_with: Predict, sets: Mapping[str, WindowSet], benign: Mapping[str, WindowSet]) -> dict[str, Any]:
    chosen = choose({source: predict_with(windows) for source, windows in benign.items()})
    return {side: window_figures(predict_with(sets[side]), sets[side].label, chosen) for side in JUDGING_SIDES}
