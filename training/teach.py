"""From the split to a checkpoint: gather windows, fit every seed, teach one network by all of them, choose thresholds.

Seeds differ most where it matters, on homes and attacks that nobody taught them, and validation cannot tell which of
them is right there. So none is picked: the network that is kept learns what all of them say (`fit`), and their own
figures stand beside its own. Needs torch.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import SustainedRule
from contracts.classes import BENIGN, HEAD_NAMES
from contracts.errors import DataMissing
from flowfeatures import SCHEMA_ID
from training.captures import CapturesBySide
from training.checkpoint import Checkpoint, save_parity_windows, training_commit
from training.choosing import DEMO, Predict, benign_windows
from training.datasets import WindowSet, gather
from training.figures.rates import auc
from training.fit import FitSettings, Fitted, fit, predict, probabilities_of
from training.kept import Stream
from training.splits import TEACHING_SIDES, Splits
from training.stream import LabelledStream
from training.sustaining import UNCHOSEN, choose_sustained
from training.thresholds import Chosen, ThresholdSettings, choose, detected
from training.unknown_teach import unknown_of

PARITY_WINDOWS = 4000
FIGURE_SIDES = ("validation", "test")
SPLIT_TEXT = "by capture and device (training/splits.toml): {side} makers of iot_sentinel and lab seeds"


def teach(
    captures: CapturesBySide, splits: Splits, *, seeds: Sequence[int], settings: FitSettings, folder: Path
) -> Checkpoint:
    """Return the kept checkpoint, written to a folder.

    Raises DataMissing where a split that must teach or choose has no windows.
    """
    for side in TEACHING_SIDES:
        captures.add_variants(side)
    sets = {side: gather(captures.truths(side), title=f"{side} windows", keep=head_windows) for side in SIDES_USED}
    for side in ("train", "validation"):
        if not len(sets[side]):
            raise DataMissing(f"{side}: no windows; is PENSTOCK_SHARED set, or has the lab recorded? (make lab-data)")
    taught = [fit(sets["train"], sets["validation"], replace(settings, seed=seed)) for seed in seeds]
    kept = taught[0] if len(taught) == 1 else _pupil(sets, settings, taught)
    chosen, sustained = choose_on(partial(probabilities_of, kept.network), captures)
    plain = plain_benign(captures, sets["validation"])
    unknown_arrays, unknown_facts, unknown_threshold = unknown_of(kept.network, sets["train"], plain)
    facts = {
        "schema_id": SCHEMA_ID,
        "network": kept.network.facts(),
        "seed": int(kept.settings["seed"]),
        "teachers": [int(each.settings["seed"]) for each in taught if each is not kept],
        "settings": kept.settings,
        "history": kept.history,
        "benign_medians": [float(value) for value in kept.benign_medians],
        "data": data_used(captures, splits, sets["train"]),
        "figures": _figures_of(kept, taught, sets, captures, chosen=chosen),
        "training_commit": training_commit(),
        "created": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        **chosen.facts(),
        "sustained": None if sustained is None else sustained.model_dump(),
        "unknown": unknown_facts,
    }
    facts["thresholds"] |= unknown_threshold
    checkpoint = Checkpoint(arrays=kept.network.arrays() | unknown_arrays, facts=facts)
    checkpoint.save(folder)
    _save_parity(folder, sets["validation"])
    return checkpoint


SIDES_USED = ("train", *FIGURE_SIDES)
ALONE: Final = ThresholdSettings(floor=0.998)
"""Of one window: where several may tell together, one tells alone only if the network is sure."""


def _pupil(sets: dict[str, WindowSet], settings: FitSettings, taught: Sequence[Fitted]) -> Fitted:
    teachers = [each.network for each in taught]
    return fit(sets["train"], sets["validation"], replace(settings, seed=taught[0].settings["seed"]), teachers=teachers)


def choose_on(
    predict: Predict, captures: CapturesBySide, *, demo: Path = DEMO, stream: Stream = LabelledStream
) -> tuple[Chosen, SustainedRule | None]:
    """Return the thresholds of a model, of one window and of lasting suspicion, from what chooses in `captures`."""
    benign = benign_windows(predict, captures, UNCHOSEN, demo=demo, stream=stream)
    alone = {source: windows.probabilities for source, windows in benign.items()}
    return choose(alone, settings=ALONE), choose_sustained(benign)


def head_windows(windows: WindowSet) -> WindowSet:
    """Return the windows whose class the head has an output for: `unknown` is none of its classes."""
    return windows.where(windows.label < len(HEAD_NAMES))


def plain_benign(captures: CapturesBySide, windows: WindowSet) -> dict[str, WindowSet]:
    """Return the benign validation windows by source, without those of variants, which no gateway ever saw."""
    source_of = {str(each.truth.path): each.source for each in captures.sides["validation"] if "~" not in each.name}
    sources = np.array([source_of.get(name, "") for name in windows.groups])[windows.group]
    benign = windows.label == BENIGN
    return {source: windows.where(benign & (sources == source)) for source in sorted(set(source_of.values()))}


def data_used(captures: CapturesBySide, splits: Splits, train: WindowSet) -> list[dict[str, Any]]:
    """Return what the manifest says of the training data: one entry per source."""
    counts = dict(zip(*np.unique([train.groups[g] for g in train.group], return_counts=True), strict=True))
    return [
        {
            "name": source,
            "terms": splits.terms[source],
            "captures": len(members),
            "windows": int(sum(counts.get(str(member.truth.path), 0) for member in members)),
        }
        for source, members in captures.by_source("train").items()
    ]


def window_figures(probabilities: NDArray[np.float32], label: NDArray[np.int64], chosen: Chosen) -> dict[str, Any]:
    """Return tpr, fpr, auc and counts over windows, for one network under its own thresholds."""
    over = detected(probabilities, chosen.by_class)
    benign, attack = np.asarray(label == BENIGN), np.asarray(label != BENIGN)
    score = 1 - probabilities[:, BENIGN]
    return {
        "windows_benign": int(benign.sum()),
        "windows_attack": int(attack.sum()),
        "tpr": float(over[attack].mean()) if attack.any() else None,
        "fpr": float(over[benign].mean()) if benign.any() else None,
        "auc": auc(score[attack], score[benign]),
    }


def _figures_of(
    kept: Fitted, taught: Sequence[Fitted], sets: dict[str, WindowSet], captures: CapturesBySide, *, chosen: Chosen
) -> dict[str, Any]:
    """Return the kept network's figures per side, each window alone, with the spread over the seeds that taught it."""
    choices = [
        chosen if each is kept else choose_on(partial(probabilities_of, each.network), captures)[0] for each in taught
    ]
    figures: dict[str, Any] = {}
    for side in FIGURE_SIDES:
        if not len(sets[side]):
            continue
        per_seed = [
            window_figures(predict(each.network, sets[side]), sets[side].label, choice)
            for each, choice in zip(taught, choices, strict=True)
        ]
        own = window_figures(predict(kept.network, sets[side]), sets[side].label, chosen)
        spread = {
            f"{name}_{word}_of_seeds": pick(values)
            for name in ("tpr", "fpr", "auc")
            if None not in (values := [each[name] for each in per_seed])
            for word, pick in (("least", min), ("most", max))
        }
        figures[side] = {"split": SPLIT_TEXT.format(side=side), "values": {**own, "seeds": len(taught), **spread}}
    return figures


def _save_parity(folder: Path, windows: WindowSet) -> None:
    chosen = np.sort(np.random.default_rng(0).permutation(len(windows))[:PARITY_WINDOWS])
    few = windows.where(chosen)
    save_parity_windows(folder, windows=few.values, mask=few.mask, label=few.label)
