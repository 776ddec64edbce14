"""`penstock-train kinds`: attacks of a class that nobody taught, through the detector that ships.

For each attack class and seed a network is taught without that class (its windows, and all that hold a record of it),
gets thresholds of its own as a bundle does, lasting suspicion included, and judges whole captures. Told is what is
found of the class under any name: whoever is attacked in a new way wants an alert, and its name second. The trap: the
classes that are left differ in how near they are to the one left out, so read the lines, not their mean. Needs torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from contracts.classes import HEAD_NAMES, NAMES
from training.figures.models_table import by_name
from training.figures.outcomes import CaptureOutcome, figures
from training.figures.rates import mean_and_spread
from training.fit import FitSettings, fit
from training.networks_compared import Save, conditions, facts_of, predictor, saver, studied
from training.progress import Progress
from training.side_by_side import Judge, run_facts
from training.study_pages import runs_of, wrapped
from training.unknown_compare import Sides, without_class
from training.unknown_tables import with_spread

SIDES: Final = ("validation", "test", "evaluation")
OF_THE_CLASS: Final = ("windows_attack", "tpr", "auc", "attacks", "attacks_alerted", "first_alert_s")
OF_ALL: Final = ("fpr", "false_incidents", "days", "false_incidents_per_day", "false_incidents_per_day_upper_bound")
HOW_TO_READ: Final = (
    "Each line is a network that was taught without one class of attacks, with thresholds chosen as a bundle's are, "
    "through the detector that ships (lasting suspicion included). Found are windows of that class told as an attack "
    "of whatever class; alerted are pairs of capture and class met by an incident. `validation` and `test` are the "
    "lab's recordings and some makers' devices, `evaluation` other networks, tools and makers. On `validation` the "
    "benign windows chose thresholds, the class left out nothing. False incidents are those of the whole side, of any "
    "class. `±` is the standard deviation over seeds."
)


def leave_classes_out(
    sides: Sides, judge: Judge, settings: FitSettings, *, seeds: Sequence[int], classes: Sequence[str], save: Save
) -> None:
    """Give `save` the figures so far, by `CLASS, seed N`, each time a network is judged."""
    told: dict[str, Any] = {}
    with Progress("leave one class out", len(seeds) * len(classes)) as progress:
        for seed in seeds:
            for name in classes:
                progress.step(0, note=f"{name}, seed {seed}")
                index = NAMES.index(name)
                teaching, stopping = (without_class(each, index) for each in (sides.teaching, sides.choosing))
                fitted = fit(teaching, stopping, replace(settings, seed=seed))
                outcomes = judge.outcomes(predictor(fitted), sides=SIDES)
                told[f"{name}, seed {seed}"] = facts_of(fitted) | {
                    side: _figures(outcomes[side], class_index=index) for side in SIDES
                }
                save(told)
                progress.step()


def _figures(outcomes: Sequence[CaptureOutcome], *, class_index: int) -> dict[str, Any]:
    """Return what is found of a class, and the false alarms of the whole side."""
    of_class, of_all = figures(outcomes, class_index=class_index), figures(outcomes)
    return {key: of_class[key] for key in OF_THE_CLASS} | {key: of_all[key] for key in OF_ALL}


def write_kinds_page(path: Path, told: Mapping[str, Any]) -> None:
    """Write FILE.md beside FILE.json, made of the JSON alone."""
    runs = by_name(told["models"])
    lines = ["# Attacks of a class that nobody taught", "", wrapped(HOW_TO_READ), ""]
    for side in SIDES:
        lines += [f"## {side}", "", *_table(runs, side), ""]
    path.with_suffix(".md").write_text("\n".join([*lines, *runs_of(told["runs"], path)]))


def _table(runs: Mapping[str, Sequence[Mapping[str, Any]]], side: str) -> list[str]:
    lines = [
        "| class left out | windows | found | AUC | attacks | alerted | first alert, s | false incidents a day | FPR |",
        "|---" + "|--:" * 8 + "|",
    ]
    found: list[list[float | None]] = []
    for name, each in runs.items():
        own = [run[side] for run in each]
        if own[0]["attacks"]:
            found.append([run["tpr"] for run in own])
        cells = [f"{own[0]['windows_attack']:,d}"]
        cells += [_over(own, "tpr"), _over(own, "auc"), str(own[0]["attacks"]), _over(own, "attacks_alerted", places=1)]
        cells += [_over(own, "first_alert_s", places=1), _over(own, "false_incidents_per_day"), _over(own, "fpr", 4)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = [[value for value in seed if value is not None] for seed in zip(*found, strict=False)]
    over_classes = mean_and_spread([sum(each) / len(each) if each else None for each in means])
    return [*lines, f"| mean over classes | | {with_spread(over_classes)} | | | | | | |"]


def _over(runs: Sequence[Mapping[str, Any]], key: str, places: int = 3) -> str:
    return with_spread(mean_and_spread([run[key] for run in runs]), places=places)


def run_command(arguments: argparse.Namespace) -> int:
    """Leave out, write file and page, say where."""
    _, sides, judge, settings = studied(arguments)
    classes = arguments.classes or list(HEAD_NAMES[1:])
    words = ["penstock-train kinds", f"-o {arguments.output.name}", "--seeds", *map(str, arguments.seeds)]
    words += ["--epochs", str(arguments.epochs)]
    words += ["--classes", *arguments.classes] if arguments.classes else []
    run = run_facts(" ".join(words), seeds=arguments.seeds, **conditions(sides, settings))
    save = saver(arguments.output, run, add=arguments.add, page=write_kinds_page)
    leave_classes_out(sides, judge, settings, seeds=arguments.seeds, classes=classes, save=save)
    print(arguments.output.with_suffix(".md"))
    return 0
