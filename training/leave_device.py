"""False alarms on devices of a maker that nobody taught on or chose thresholds with: each maker left out in turn.

Networks are taught without the maker's captures and variants; thresholds are chosen on the other makers of the
validation side, those of the classes by the rule of a bundle (`teach.ALONE`). A maker on no teaching side costs no
network of its own. Told are the shares of its benign windows above a class's threshold and above the unknown score's,
each window alone. Needs torch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN
from training.captures import find_captures
from training.datasets import WindowSet
from training.figures.rates import mean_and_spread, wilson_bounds
from training.fit import FitSettings, Fitted, fit, predict
from training.progress import Progress
from training.splits import Splits, load_splits
from training.teach import ALONE
from training.thresholds import choose, detected
from training.unknown import UnknownSettings, choose_threshold, fit_unknown, unknown_scores
from training.unknown_compare import SHORT, Sides, see, sides_of
from training.unknown_tables import makers_table

SIDES_OF_DEVICES = ("train", "validation", "test")
LAB = "lab"


def leave_makers_out(sides: Sides, splits: Splits, settings: FitSettings, *, seeds: Sequence[int]) -> dict[str, Any]:
    """Return by maker the false shares of every seed and their mean."""
    taught = {maker for maker in splits.vendors if _of_maker(sides.teaching, splits, maker).any()}
    runs: dict[str, list[dict[str, Any]]] = {maker: [] for maker in splits.vendors}
    with Progress("leave one maker out", len(seeds) * len(splits.vendors)) as progress:
        for seed in seeds:
            own = replace(settings, seed=seed)
            whole = fit(sides.teaching, sides.choosing, own) if taught != set(splits.vendors) else None
            for maker in splits.vendors:
                network = whole
                if maker in taught or network is None:
                    without = sides.teaching.where(~_of_maker(sides.teaching, splits, maker))
                    network = fit(without, sides.choosing, own)
                runs[maker].append(judge_maker(network, sides, splits, maker))
                progress.step(note=f"{maker}, seed {seed}")
    keys = ("classes", "unknown", "either")
    means = {
        maker: {"windows": each[0]["windows"]} | {key: mean_and_spread([run[key] for run in each]) for key in keys}
        for maker, each in runs.items()
    }
    return {"seeds": list(seeds), "runs": runs, "means": means, "taught": sorted(taught)}


def judge_maker(fitted: Fitted, sides: Sides, splits: Splits, maker: str) -> dict[str, Any]:
    """Return the shares of a maker's benign windows that one network, not chosen with them, calls something."""
    validation = sides.plain["validation"]
    others = validation.where((validation.label == BENIGN) & ~_of_maker(validation, splits, maker))
    source = np.array([sides.source_of.get(name, name) for name in others.groups])[others.group]
    lab = source == LAB
    calls = {"iot_sentinel": others.where(~lab), LAB: others.where(lab)}
    chosen = choose({name: predict(fitted.network, each) for name, each in calls.items()}, settings=ALONE)
    train, settings = see(fitted, sides.plain["train"], sides.source_of), UnknownSettings()
    calm = see(fitted, others, sides.source_of).outputs
    devices = {str(name): calm.where(source == name) for name in np.unique(source[~lab])}
    arrays, _ = fit_unknown(train.outputs, train.label, devices, settings=settings)
    strange = unknown_scores(arrays, calm)
    opens = choose_threshold(strange[~lab], strange[lab], settings=settings)["open"]
    every = [sides.plain[side] for side in SIDES_OF_DEVICES]
    own = [each.where(_of_maker(each, splits, maker) & (each.label == BENIGN)) for each in every]
    named = np.concatenate([detected(predict(fitted.network, each), chosen.by_class) for each in own if len(each)])
    unknown = np.concatenate(
        [unknown_scores(arrays, see(fitted, each, sides.source_of).outputs) > opens for each in own if len(each)]
    )
    count = len(named)
    return {
        "windows": count,
        "classes": float(named.mean()),
        "unknown": float(unknown.mean()),
        "either": float((named | unknown).mean()),
        "either_bounds": wilson_bounds(int((named | unknown).sum()), count),
        "unknown_open": opens,
    }


def run_command(arguments: argparse.Namespace) -> int:
    """Leave out, write, print the table."""
    splits = load_splits()
    settings = FitSettings(threads=arguments.threads, **SHORT)
    told = leave_makers_out(sides_of(find_captures(splits)), splits, settings, seeds=arguments.seeds)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(told, indent=1) + "\n")
    print(makers_table(told))
    return 0


def _of_maker(windows: WindowSet, splits: Splits, maker: str) -> NDArray[np.bool_]:
    """Return bool[N]: windows of captures in a folder of one of the maker's devices, variants included."""
    folders = set(splits.vendors[maker])
    belongs = np.array([bool(folders & set(Path(name).parts)) for name in windows.groups], dtype=np.bool_)
    return belongs[windows.group] if len(windows) else np.zeros(0, np.bool_)
