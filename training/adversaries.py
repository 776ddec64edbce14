"""How evasion fares: detection against effort for a bundle, and what teaching with evaded attacks gives.

The first table runs the bundle over evaded captures through `training.evaluate`, so through the detection that ships.
The second (`--teach`) needs torch: for each seed two networks, taught with and without evaded captures at one level per
kind, are judged on windows of captures at every level. Thresholds are chosen for each by the rule of `thresholds`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contracts.bundle import Bundle, load_bundle
from contracts.classes import BENIGN, NAMES
from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from detection.engine import Engine
from training.captures import CapturesBySide, find_captures
from training.evaluate import run_capture
from training.evasion import EVASIONS, Effort, Evasion, evade, read_marked
from training.figures.outcomes import CaptureOutcome, figures
from training.figures.rates import mean_and_spread
from training.progress import Progress
from training.splits import load_splits

if TYPE_CHECKING:  # needs torch
    from training.unknown_compare import Sides

TAUGHT_LEVELS = {"pad": "+128 octets", "pace": "16x slower", "split": "every 2 packets", "mimic": "50% of packets"}
TAUGHT_CAPTURES = 8  # of the lab's teaching recordings, evenly: each becomes four more
TOLD = ("windows_attack", "tpr", "attacks", "attacks_alerted", "first_alert_s", "incidents", "false_incidents")


def against_evasions(
    bundle: Bundle, engine: Engine, truths: Sequence[GroundTruth], *, evasions: Sequence[Evasion] = EVASIONS
) -> dict[str, Any]:
    """Return one row per evasion: its cost as multiples of the attack as recorded, and what the bundle found."""
    outcomes: dict[Evasion, list[CaptureOutcome]] = {evasion: [] for evasion in evasions}
    efforts: dict[Evasion, list[Effort]] = {evasion: [] for evasion in evasions}
    with Progress("evasions", len(evasions) * len(truths)) as progress:
        for truth in truths:
            marked = read_marked(truth)
            for evasion in evasions:
                if marked is not None:
                    evaded, effort = evade(truth, marked, evasion)
                    outcomes[evasion].append(run_capture(bundle, engine, evaded))
                    efforts[evasion].append(effort)
                progress.step(note=f"{evasion.name} {evasion.level}")
    rows = [_row(evasion, outcomes[evasion], efforts[evasion]) for evasion in evasions]
    return {"bundle": {"manifest_sha256": bundle.manifest_sha256, "release": bundle.manifest.release}, "rows": rows}


def _row(evasion: Evasion, outcomes: Sequence[CaptureOutcome], efforts: Sequence[Effort]) -> dict[str, Any]:
    told = figures(outcomes)
    by_class = {name: figures(outcomes, class_index=index) for index, name in enumerate(NAMES) if index != BENIGN}
    return {
        "evasion": evasion.name,
        "level": evasion.level,
        "captures": len(outcomes),
        "effort": _mean_effort(efforts),
        **{key: told[key] for key in TOLD},
        "tpr_bounds": told["tpr_bounds"],
        "classes": {name: {key: own[key] for key in TOLD} for name, own in by_class.items() if own["attacks"]},
    }


def taught_against(captures: CapturesBySide, sides: Sides, *, seeds: Sequence[int], threads: int = 1) -> dict[str, Any]:
    """Return by evasion the TPR over windows of networks taught without and with evaded captures, over seeds.

    `sides` are the windows of `captures` as `unknown_compare.sides_of` gives them.
    """
    from dataclasses import replace

    from training.datasets import WindowSet, gather, join
    from training.fit import FitSettings, fit, predict
    from training.probes import few_of
    from training.teach import plain_benign, window_figures
    from training.thresholds import choose
    from training.unknown_compare import FEW, SHORT

    taught = [each.truth for each in captures.by_source("train").get("lab", []) if "~" not in each.name]  # no variants
    judged = [each.truth for each in captures.by_source("test").get("lab", [])]
    plain = plain_benign(captures, sides.plain["validation"])

    def windows_of(truths: Sequence[GroundTruth], evasions: Sequence[Evasion], most: int) -> list[WindowSet]:
        marked = [(truth, found) for truth in truths if (found := read_marked(truth)) is not None]
        return [
            gather(
                [evade(truth, found, evasion)[0] for truth, found in marked],
                title=f"{evasion.name} {evasion.level}",
                keep=lambda windows: few_of(windows, most),
            )
            for evasion in evasions
        ]

    step = max(1, len(taught) // TAUGHT_CAPTURES)
    more = join(windows_of(taught[::step][:TAUGHT_CAPTURES], [e for e in EVASIONS if is_taught(e)], FEW // 2))
    named = [f"{evasion.name}, {evasion.level}" for evasion in EVASIONS]
    judging = dict(zip(named, windows_of(judged, EVASIONS, FEW), strict=True))
    judging |= {f"benign of {side}": sides.plain[side] for side in ("test", "evaluation")}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in seeds:
        settings = replace(FitSettings(threads=threads, **SHORT), seed=seed)
        for name, teaching in (
            ("without", sides.teaching),
            ("with", join([sides.teaching.where(np.arange(len(sides.teaching))), more.where(np.arange(len(more)))])),
        ):
            network = fit(teaching, sides.choosing, settings).network
            chosen = choose({source: predict(network, each) for source, each in plain.items()})
            for what, windows in judging.items():
                told = window_figures(predict(network, windows), windows.label, chosen)
                found.setdefault(what, {}).setdefault(name, []).append(told)
    return {
        "seeds": list(seeds),
        "taught_levels": TAUGHT_LEVELS,
        "windows": {"teaching": len(sides.teaching), "evaded": len(more)},
        "rows": {what: {name: _spread(runs) for name, runs in by.items()} for what, by in found.items()},
    }


def is_taught(evasion: Evasion) -> bool:
    """Whether networks are taught with this evasion at this level; the other levels are only judged."""
    return TAUGHT_LEVELS.get(evasion.name) == evasion.level


def markdown(told: Mapping[str, Any]) -> str:
    """Return the tables of a report of this module."""
    lines = [
        "| evasion | level | packets x | octets x | seconds x | windows | TPR | attacks alerted | first alert, s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in told["rows"]:
        effort = row["effort"]
        lines.append(
            f"| {row['evasion']} | {row['level']} | {effort['packets']:.2f} | {effort['octets']:.2f} "
            f"| {effort['seconds']:.2f} | {row['windows_attack']:,d} | {_number(row['tpr'])} "
            f"| {row['attacks_alerted']} of {row['attacks']} | {_number(row['first_alert_s'])} |"
        )
    if (taught := told.get("taught")) is not None:
        lines += ["", "| windows | TPR without | TPR with | FPR without | FPR with |", "|---|--:|--:|--:|--:|"]
        for what, by in taught["rows"].items():
            cells = [_with_spread(by[name][key]) for key in ("tpr", "fpr") for name in ("without", "with")]
            lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run_command(arguments: argparse.Namespace) -> int:
    """Judge, write, print the tables."""
    from detection.onnx_engine import OnnxEngine

    bundle = load_bundle(arguments.bundle)
    found = find_captures(load_splits())
    if arguments.captures:
        truths = load_ground_truth(arguments.captures)
    else:
        truths = [each.truth for each in found.by_source("test").get("lab", [])]
    told = against_evasions(bundle, OnnxEngine(bundle), truths)
    if arguments.teach:
        from training.unknown_compare import sides_of

        told["taught"] = taught_against(found, sides_of(found), seeds=arguments.seeds, threads=arguments.threads)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(told, indent=1) + "\n")
    print(markdown(told))
    return 0


def _mean_effort(efforts: Sequence[Effort]) -> dict[str, float | None]:
    if not efforts:
        return {"packets": None, "octets": None, "seconds": None}
    return {key: float(np.mean([getattr(each, key) for each in efforts])) for key in ("packets", "octets", "seconds")}


def _spread(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: mean_and_spread([run[key] for run in runs]) for key in ("tpr", "fpr", "auc")}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _with_spread(told: Mapping[str, Any]) -> str:
    if told["mean"] is None:
        return "-"
    return f"{told['mean']:.3f}" + ("" if told["std"] is None else f" ± {told['std']:.3f}")
