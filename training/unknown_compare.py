"""Which unknown score? Candidates on networks that never saw one kind of attack, and on benign captures of others.

For each attack class and seed a network is taught without that class (its windows, and all that hold a record of it),
and every candidate is fitted on what is left. A threshold at each rate is taken on benign validation windows of real
devices, each device counting alike; told are the share of the left-out class's windows above it, by side, and the share
of benign windows above it, by source. The choice is made on `validation` alone. Besides the kinds of `training.unknown`
two see the scaled window itself: `pca_residual` (what 24 components of benign windows leave over) and `window_kmeans`,
both on the newest record and the mean of the records; `attack_score` is 1 - p(benign), as a yardstick.

The trap: windows of an attack that look like any other (a single login) count as missed, here as everywhere.
Needs torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, HEAD_NAMES, NAMES
from training.captures import CapturesBySide
from training.datasets import WindowSet, gather
from training.figures.rates import auc, mean_and_spread, share
from training.fit import FitSettings, Fitted, fit, scale_all
from training.probes import few_of
from training.progress import Progress
from training.report import source_of
from training.splits import TEACHING_SIDES
from training.unknown import KINDS, Outputs, centres_of, equal_weight, fit_raw, raw_scores, squared_distances
from training.unknown_tables import candidates_table, classes_table

RATES = (1e-2, 1e-3)
COMPONENTS = 24
JUDGING_SIDES = ("validation", "test", "evaluation")
FEW = 80  # windows of a class and capture that judge; teaching takes half as many of each variant
SHORT: dict[str, Any] = {"epochs": 6, "steps": 120}  # of teaching: 30 networks; the loss has settled by then

Floats = NDArray[np.float32]
Score = Callable[["Seen"], Floats]


@dataclass(frozen=True, eq=False)
class Seen:
    """Windows as a network and the candidates see them: outputs and `summary` float32[N, 2F]."""

    outputs: Outputs
    summary: Floats
    label: NDArray[np.int64]
    source: NDArray[np.str_]  # [N]: where the window is from, a device or a data set


@dataclass(frozen=True, eq=False)
class Sides:
    """Windows by side, and the source of each capture; `teaching` and `choosing` hold variants too."""

    teaching: WindowSet
    choosing: WindowSet
    plain: Mapping[str, WindowSet]
    source_of: Mapping[str, str]


def sides_of(captures: CapturesBySide) -> Sides:
    """Return the windows a comparison needs. Puts variants on the teaching sides of `captures`."""
    sources = {str(each.truth.path): source_of(each) for members in captures.sides.values() for each in members}
    plain = {
        side: gather(captures.truths(side), title=f"{side} windows", keep=lambda windows: few_of(windows, FEW))
        for side in ("train", *JUDGING_SIDES)
    }
    for side in TEACHING_SIDES:
        captures.add_variants(side)
    teaching, choosing = (
        gather(captures.truths(side), title=f"{side} variants", keep=lambda windows: few_of(windows, FEW // 2))
        for side in TEACHING_SIDES
    )
    return Sides(teaching, choosing, plain, sources)


def without_class(windows: WindowSet, class_index: int) -> WindowSet:
    """Return the windows that hold nothing of a class, neither as label nor in a record."""
    return windows.where((windows.label != class_index) & ~(windows.row_label == class_index).any(axis=1))


def compare_unknown(
    sides: Sides, settings: FitSettings, *, seeds: Sequence[int], classes: Sequence[str] = HEAD_NAMES[1:]
) -> dict[str, Any]:
    """Return by candidate and left-out class the figures of every seed, and their means."""
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with Progress("leave one out", len(seeds) * len(classes)) as progress:
        for seed in seeds:
            for name in classes:
                index = NAMES.index(name)
                teaching, stopping = (without_class(each, index) for each in (sides.teaching, sides.choosing))
                fitted = fit(teaching, stopping, replace(settings, seed=seed))
                for candidate, told in judge_left_out(fitted, sides, class_index=index).items():
                    runs.setdefault(candidate, {}).setdefault(name, []).append(told)
                progress.step(note=f"{name}, seed {seed}")
    return told_of(runs, seeds=seeds)


def told_of(runs: Mapping[str, Mapping[str, list[dict[str, Any]]]], *, seeds: Sequence[int]) -> dict[str, Any]:
    """Return what the command writes: runs and means; benign shares by source as means at the lowest rate only."""
    by_source = {candidate: _by_source(by_class) for candidate, by_class in runs.items()}
    for by_class in runs.values():
        for run in (run for each in by_class.values() for run in each):
            for side in JUDGING_SIDES:
                run[side].pop("benign_by_source", None)
    means = _means(runs)
    return {"seeds": list(seeds), "rates": list(RATES), "runs": runs, "means": means, "benign_by_source": by_source}


def _by_source(by_class: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, float]:
    shares: dict[str, list[float]] = {}
    for run in (run for each in by_class.values() for run in each):
        for side in JUDGING_SIDES:
            for source, told in run[side].get("benign_by_source", {}).items():
                shares.setdefault(f"{side}: {source}", []).append(told[f"{min(RATES):g}"])
    return {name: float(np.mean(each)) for name, each in sorted(shares.items())}


def judge_left_out(fitted: Fitted, sides: Sides, *, class_index: int) -> dict[str, dict[str, Any]]:
    """Return by candidate the figures of one network that never saw a class."""
    train = without_class(sides.plain["train"], class_index)
    seen = {side: see(fitted, sides.plain[side], sides.source_of) for side in JUDGING_SIDES}
    scores = candidates(see(fitted, train, sides.source_of))
    return {name: _figures(score, seen, class_index) for name, score in scores.items()}


def see(fitted: Fitted, windows: WindowSet, source_of: Mapping[str, str]) -> Seen:
    """Return windows as a network and the candidates see them."""
    import torch

    scaled = scale_all(windows, fitted.scaling).astype(np.float32)
    logits, embedding = [], []
    with torch.no_grad():
        for at in range(0, len(windows), 2048):
            part, lengths = torch.from_numpy(scaled[at : at + 2048]), torch.from_numpy(windows.lengths[at : at + 2048])
            embedding.append(fitted.network.embedding(part, lengths).numpy())
            logits.append(fitted.network.logits(part, lengths).numpy())
    newest = scaled[np.arange(len(scaled)), windows.lengths - 1]
    mean = scaled.sum(axis=1) / windows.lengths[:, None]
    names = np.array([source_of.get(name, name) for name in windows.groups])
    return Seen(
        Outputs(np.concatenate(logits), np.concatenate(embedding)),
        np.hstack([newest, mean]).astype(np.float32),
        windows.label,
        names[windows.group],
    )


def candidates(train: Seen) -> dict[str, Score]:
    """Return every candidate, fitted on training windows."""
    found: dict[str, Score] = {}
    for kind in KINDS:
        arrays = fit_raw(kind, train.outputs, train.label)
        found[kind] = lambda seen, arrays=arrays: raw_scores(arrays, seen.outputs)  # type: ignore[misc]
    benign = train.summary[train.label == BENIGN].astype(np.float64)
    middle = benign.mean(axis=0)
    components = np.linalg.svd(benign - middle, full_matrices=False)[2][:COMPONENTS]
    centres = centres_of(benign.astype(np.float32))

    def residual(seen: Seen) -> Floats:
        apart = seen.summary - middle
        return np.asarray(np.square(apart - apart @ components.T @ components).sum(axis=1), np.float32)

    found["pca_residual"] = residual
    found["window_kmeans"] = lambda seen: squared_distances(seen.summary, centres).min(axis=1).astype(np.float32)
    found["attack_score"] = _attack_score
    return found


def _attack_score(seen: Seen) -> Floats:
    odds = np.exp(seen.outputs.logits - seen.outputs.logits.max(axis=1, keepdims=True))
    return np.asarray(1 - odds[:, BENIGN] / odds.sum(axis=1), np.float32)


def _figures(score: Score, seen: Mapping[str, Seen], class_index: int) -> dict[str, Any]:
    """Return by side TPR of the class at each rate, benign share above by source, and AUC within the side."""
    raw = {side: score(each) for side, each in seen.items()}
    chosen = seen["validation"]
    real = (chosen.label == BENIGN) & (chosen.source != "lab")
    told: dict[str, Any] = {}
    opens = {f"{rate:g}": weighted_threshold(raw["validation"][real], chosen.source[real], rate) for rate in RATES}
    for side, each in seen.items():
        attack, benign = each.label == class_index, each.label == BENIGN
        told[side] = {
            "windows": int(attack.sum()),
            "tpr": {rate: share(raw[side][attack] > at) for rate, at in opens.items()},
            "benign": {rate: share(raw[side][benign] > at) for rate, at in opens.items()},
            "benign_by_source": {
                str(source): {
                    rate: share(raw[side][benign & (each.source == source)] > at) for rate, at in opens.items()
                }
                for source in np.unique(each.source[benign])
            },
            "auc": auc(raw[side][attack], raw[side][benign]),
        }
    return told


def weighted_threshold(scores: Floats, group: NDArray[Any], rate: float) -> float:
    """Return the score above which at most a share `rate` of the windows lies, each group counting alike."""
    order = np.argsort(-scores, kind="stable")
    above = np.cumsum(equal_weight(group)[order])
    place = int(np.searchsorted(above, rate + 1e-12, side="right"))
    return float(scores[order][min(place, len(scores) - 1)])


def _means(runs: Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]) -> dict[str, Any]:
    """Return mean and spread over seeds of the mean over classes."""
    return {
        candidate: {side: _mean_of_side(by_class, side) for side in JUDGING_SIDES}
        for candidate, by_class in runs.items()
    }


def _mean_of_side(by_class: Mapping[str, Sequence[dict[str, Any]]], side: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        what: {f"{rate:g}": _over_seeds(by_class, [side, what, f"{rate:g}"]) for rate in RATES}
        for what in ("tpr", "benign")
    }
    return told | {"auc": _over_seeds(by_class, [side, "auc"])}


def _over_seeds(by_class: Mapping[str, Sequence[dict[str, Any]]], keys: Sequence[str]) -> dict[str, Any]:
    """Return mean and spread over seeds of one figure's mean over classes, passing over what is undefined."""
    per_seed = []
    for runs in zip(*by_class.values(), strict=True):
        found: list[Any] = []
        for run in runs:
            value: Any = run
            for key in keys:
                value = value[key]
            found.append(value)
        seen = [value for value in found if value is not None]
        per_seed.append(float(np.mean(seen)) if seen else None)
    return mean_and_spread(per_seed)


def run_command(arguments: argparse.Namespace) -> int:
    """Compare and write; print the table."""
    from training.captures import find_captures
    from training.splits import load_splits

    settings = FitSettings(threads=arguments.threads, **SHORT)
    told = compare_unknown(sides_of(find_captures(load_splits())), settings, seeds=arguments.seeds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(told, indent=1) + "\n")
    print(candidates_table(told))
    print(classes_table(told))
    return 0
