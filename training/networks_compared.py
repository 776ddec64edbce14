"""`penstock-train networks`: every network and nine classical learners, on the same windows, as a gateway runs them.

All are taught on the windows `unknown_compare.sides_of` keeps (few of every class and capture, variants included), for
the same number of batches, and judged by `side_by_side`. Classical learners see each window flattened (`baselines`) and
are fitted once, with the first seed. The file is written after every model, so that a run cut short keeps what it has.
Needs torch and scikit-learn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.bundle import default_bundle
from training.baselines import CLASSICAL, fit_baselines
from training.captures import CapturesBySide, find_captures
from training.fit import FitSettings, Fitted, fit, predict, teaching_scaling
from training.progress import Progress
from training.side_by_side import Judge, run_facts
from training.splits import load_splits
from training.study_pages import write_networks_page
from training.unknown_compare import FEW, SHORT, Sides, sides_of

Save = Callable[[dict[str, Any]], None]


def compare_networks(
    sides: Sides,
    judge: Judge,
    settings: FitSettings,
    *,
    networks: Sequence[str],
    baselines: Sequence[str],
    seeds: Sequence[int],
    save: Save,
) -> None:
    """Give `save` the figures of all models so far, by `NAME, seed N`, each time one is judged."""
    told: dict[str, Any] = {}
    with Progress("networks", len(networks) * len(seeds) + len(baselines)) as progress:
        for name in networks:
            for seed in seeds:
                progress.step(0, note=f"{name}, seed {seed}")
                fitted = fit(sides.teaching, sides.choosing, replace(settings, network=name, seed=seed))
                told[f"{name}, seed {seed}"] = judge.figures(predictor(fitted)) | facts_of(fitted)
                save(told)
                progress.step()
        scaling = teaching_scaling(sides.teaching, settings) if baselines else None
        for name in baselines:
            assert scaling is not None
            progress.step(0, note=name)
            (model,) = fit_baselines(sides.teaching, scaling, seed=seeds[0], threads=settings.threads, names=(name,))
            told[f"{name}, seed {seeds[0]}"] = judge.figures(model.probabilities)
            save(told)
            progress.step()


def predictor(fitted: Fitted) -> Callable[[Any], Any]:
    """Return what gives a fitted network's class probabilities of windows."""
    return lambda windows: predict(fitted.network, windows)


def facts_of(fitted: Fitted) -> dict[str, Any]:
    """Return what is told of a network beside its figures."""
    return {
        "parameters": sum(each.numel() for each in fitted.network.parameters()),
        "epochs": len(fitted.history),
        "validation_loss": fitted.validation_loss,
    }


def studied(arguments: argparse.Namespace) -> tuple[CapturesBySide, Sides, Judge, FitSettings]:
    """Return captures, windows, judge and settings of a study's command line."""
    captures = find_captures(load_splits())
    judge = Judge(captures, default_bundle())
    settings = replace(FitSettings(threads=arguments.threads, **SHORT), epochs=arguments.epochs)
    return captures, sides_of(captures), judge, settings


def conditions(sides: Sides, settings: FitSettings) -> dict[str, Any]:
    """Return what a study was taught on and for how long."""
    return {
        "windows": {"teaching": len(sides.teaching), "stopping": len(sides.choosing)},
        "windows_of_a_class_and_capture": {"as recorded": FEW, "of each variant": FEW // 2},
        "epochs": settings.epochs,
        "batches_an_epoch": settings.steps,
        "batch": settings.batch,
    }


def saver(path: Path, run: dict[str, Any], *, add: bool, page: Callable[[Path, dict[str, Any]], None]) -> Save:
    """Return what writes models to a study's file and its page; with `add` beside those the file holds already."""
    before: dict[str, Any] = {"runs": [], "models": {}}
    if add and path.exists():
        before = json.loads(path.read_text())

    def save(told: dict[str, Any]) -> None:
        whole = {"runs": [*before["runs"], run], "models": before["models"] | told}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=1) + "\n")
        page(path, whole)

    return save


def run_command(arguments: argparse.Namespace) -> int:
    """Compare, write file and page, say where."""
    _, sides, judge, settings = studied(arguments)
    baselines = CLASSICAL if arguments.baselines is None else [each for each in arguments.baselines if each != "none"]
    words = ["penstock-train networks", f"-o {arguments.output.name}", "--networks", *arguments.networks, "--baselines"]
    words += [f"'{each}'" for each in baselines or ["none"]]
    words += ["--seeds", *map(str, arguments.seeds), "--epochs", str(arguments.epochs)]
    run = run_facts(" ".join(words), seeds=arguments.seeds, **conditions(sides, settings))
    save = saver(arguments.output, run, add=arguments.add, page=write_networks_page)
    compare_networks(
        sides,
        judge,
        settings,
        networks=arguments.networks,
        baselines=baselines,
        seeds=arguments.seeds,
        save=save,
    )
    print(arguments.output.with_suffix(".md"))
    return 0
