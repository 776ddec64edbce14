"""Networks beside a forest and boosted trees, and beside themselves without some columns, on the same windows.

Window figures only, on windows as `datasets` thins them, thresholds chosen for each model by the same rule on
validation. `test, other stacks` is the test side with every connection's TCP windows replaced, so that a column which
names the tool shows what it is worth elsewhere. Needs torch and scikit-learn.
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
from training.variants import OTHER_STACKS, make_variant

JUDGING_SIDES = ("validation", "test", "evaluation")
OTHER = "test, other stacks"
STACK_COLUMNS = ("fwd_init_window_bytes", "bwd_init_window_bytes")
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


def compare(
    captures: CapturesBySide,
    settings: FitSettings,
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    ablate: bool,
    baseline_windows: int,
) -> dict[str, Any]:
    """Return window figures by model and side; for each network one entry per seed.

    The trees are taught on `baseline_windows` of the training windows, drawn evenly; with 0 there are none.
    """
    sets = _sets(captures)
    teaching, choosing = sets["train"], sets["taught_validation"]
    benign = plain_benign(captures, sets["taught_validation"])
    told: dict[str, Any] = {}

    def fitted(what: str, **changed: Any) -> Fitted:
        found = fit(teaching, choosing, replace(settings, **changed))
        told[what] = _figures(_predictor(found), sets, benign)
        return found

    for name in networks:
        for seed in seeds:
            found = fitted(f"{name}, seed {seed}", network=name, seed=seed)
    if ablate:
        shown = tuple(name for name in settings.hidden_columns if name not in STACK_COLUMNS)
        for seed in seeds:
            fitted(f"gru with window sizes, seed {seed}", seed=seed, hidden_columns=shown)
        for what, prefixes in ABLATIONS.items():
            hidden = (*settings.hidden_columns, *_columns(prefixes))
            fitted(f"gru {what}, seed {seeds[0]}", seed=seeds[0], hidden_columns=hidden)
    if not baseline_windows:
        return told
    drawn = np.random.default_rng(seeds[0]).permutation(len(teaching))[:baseline_windows]
    few = teaching.where(np.sort(drawn))
    for baseline in fit_baselines(few, found.scaling, seed=seeds[0], threads=settings.threads):
        told[baseline.name] = _figures(baseline.probabilities, sets, benign)
    return told


def _sets(captures: CapturesBySide) -> dict[str, WindowSet]:
    """Return windows by side; `taught_validation` holds variants too, as early stopping sees them."""
    judging = {
        side: gather(captures.truths(side), title=f"{side} windows", keep=head_windows) for side in JUDGING_SIDES
    }
    others = [make_variant(truth, OTHER_STACKS) for truth in captures.truths("test")]
    judging[OTHER] = gather([truth for truth in others if truth], title=OTHER, keep=head_windows)
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


def _figures(predict_with: Predict, sets: Mapping[str, WindowSet], benign: Mapping[str, WindowSet]) -> dict[str, Any]:
    chosen = choose({source: predict_with(windows) for source, windows in benign.items()})
    return {
        side: window_figures(predict_with(sets[side]), sets[side].label, chosen) for side in (*JUDGING_SIDES, OTHER)
    }
