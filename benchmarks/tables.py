"""What the two programs over published tables share: options, seeds, protocols, the result and its summary.

A protocol says who judges: `random` (the papers': rows of one file, divided at random), `kinds` (attack kinds left out
in turn), `time` (later rows), `given` (a test file of the caller's). Each seed divides and teaches anew. The trap: a
figure of `random` says how well a learner remembers a capture, and nothing of the next one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import harness
from benchmarks.marks import MET
from contracts.errors import MissingExtra, UsageError
from contracts.program import Parser
from training.baselines import CLASSICAL, FOREST
from training.progress import Progress
from training.tables import metrics
from training.tables.learners import BEST, NETWORKS, NO_ATTENTION, classes_of
from training.tables.sides import Sides
from training.tables.table import Table

RANDOM, KINDS, TIME, GIVEN = "random", "kinds", "time", "given"
DEFAULT_SEEDS: Final = 3
# Fewer where one fit takes minutes on a processor core, so that a run ends within about ten.
FEWER_SEEDS: Final[Mapping[str, int]] = {"conv_bilstm": 1, "gru": 2, "transformer": 2}
ALL: Final = "all"
WITHOUT_ATTENTION: Final = tuple(
    name + NO_ATTENTION for name in ("conv_bilstm", "conv_bilstm_small", "cnn_lstm_attention", "cnn_self_attention")
)
MODELS: Final = (BEST, *NETWORKS, *WITHOUT_ATTENTION, *CLASSICAL)
LONG: Final = ("roc", "history", "attention")  # kept of the first seed alone

Result = dict[str, Any]


@dataclass(frozen=True)
class Mark:
    """A figure somebody claimed or asked for: of one model, under one protocol, at a path in its summary."""

    model: str
    protocol: str
    what: str
    path: tuple[str, ...]
    wanted: float


@dataclass(frozen=True)
class Study:
    """One table under one protocol, ready to be divided by seed."""

    benchmark: str
    protocol: str
    by_kind: bool
    divide: Callable[[int], Sides]
    folds: Sequence[int]  # seeds, or the numbers of the groups left out in turn
    cleaned: Mapping[str, int]
    left_out: Mapping[str, int]
    marks: Sequence[Mark]


def parser(benchmark: str, first_line: str, *, examples: str, protocols: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser with the options both programs take."""
    made = Parser(
        prog=f"python -m benchmarks.{benchmark}",
        description=first_line,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--train", type=Path, nargs="+", required=True, metavar="FILE",
        help="tables that teach (.txt, .csv or .arff; plain, .gz, .xz or .zip)",
    )  # fmt: skip
    made.add_argument("--test", type=Path, nargs="+", metavar="FILE", help="tables that judge, and do nothing else")
    made.add_argument(
        "--model", nargs="+", default=[BEST], metavar="NAME", choices=(*MODELS, ALL), type=_model,
        help=f"{BEST} (default), {ALL}, or some of: {', '.join(MODELS[1:])}",
    )  # fmt: skip
    made.add_argument(
        "--protocol", choices=protocols, default=None, help=f"how to divide the training tables ({protocols[0]})"
    )
    made.add_argument("--seeds", type=_positive, default=None, metavar="N", help="divide and teach as many times")
    made.add_argument("--json", action="store_true", help="print the whole result as JSON")
    made.add_argument("--keep", action="store_true", help="also add it to the pages under docs/results")
    return made


def _model(text: str) -> str:
    """Return a model's name as it is listed: `random_forest` needs no quotes on a command line."""
    spaced = text.replace("_", " ")
    return spaced if spaced in MODELS else text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"saw {text!r}, want a number from 1")
    return int(text)


def check_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that contradict each other, MissingExtra without what fitting needs."""
    if arguments.test and arguments.protocol:
        raise UsageError("--protocol divides the training files, --test brings its own: give one of them")
    check_fitting()


def check_fitting() -> None:
    """Raise MissingExtra without what fitting needs."""
    for package in ("torch", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"{package} is not installed: pip install 'penstock[train]'")


def chosen_models(names: Sequence[str]) -> list[str]:
    """Return the models asked for, each once, and the forest that stands beside them."""
    wanted = list(MODELS) if ALL in names else list(names)
    return list(dict.fromkeys([*wanted, FOREST]))


def run(study: Study, names: Sequence[str], *, seeds: int | None) -> Result:
    """Return the result of each model over its seeds: see `summary` for its figures."""
    from training.tables.density import fit_density
    from training.tables.judge import judge

    folds = {name: list(study.folds)[: _count(study, name, seeds)] for name in names}
    total = sum(map(len, folds.values()))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    rows: dict[str, Any] = {}
    taught: list[str] = []
    told: list[str] = []
    with Progress(study.benchmark, total) as progress:
        for number, fold in enumerate(study.folds):
            waiting = [name for name in names if fold in folds[name]]
            if not waiting:
                break
            sides = study.divide(fold)
            classes = classes_of(sides.train, by_kind=study.by_kind)
            told.append(sides.told)
            if number == 0:
                rows, taught = sides.counts(), list(classes.names)
            density = fit_density(sides.train, seed=fold)
            for name in waiting:
                progress.step(0, note=f"seed {fold}: {name}")
                figures, fitted = judge(name, sides, classes, density=density, seed=fold)
                if number == 0 and hasattr(fitted, "attention"):
                    figures["attention"] = fitted.attention(sides.test)
                runs[name].append(figures if number == 0 else _without_long(figures))
                progress.step(note=f"seed {fold}: {name}")
    return {
        "benchmark": study.benchmark,
        "protocol": study.protocol,
        "split": _split(told),
        "command": harness.command_line(f"benchmarks.{study.benchmark}", sys.argv[1:]),
        "seeds": list(study.folds),
        "cleaned": dict(study.cleaned),
        "left_out": dict(study.left_out),
        "rows": rows,
        "classes": taught,
        "machine": harness.fingerprint(["torch", "scikit-learn", "numpy"]),
        "models": {name: summary(each) for name, each in runs.items()},
    }


def _split(told: Sequence[str]) -> str:
    """Return how rows were divided; where each division was another, that of the first, whose rows are counted."""
    each = list(dict.fromkeys(told))
    return each[0] if len(each) == 1 else f"{each[0]}, in the first of {len(each)} divisions"


def finish(result: Result, marks: Sequence[Mark]) -> Result:
    """Return the result with what the forest says of each model and which marks were met."""
    forest = result["models"].get(FOREST)
    for name, model in result["models"].items():
        if forest is not None and name != FOREST:
            model["beaten_by_forest_in"] = beaten(model["summary"], forest["summary"])
    result["marks"] = [told for mark in marks if (told := _judged(mark, result)) is not None]
    return result


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a model's runs; under `summary` each figure's mean, deviation and 95 % interval, under `figures` the few
    that a table shows."""
    kept = ("detection", "classes", "unknown")
    over = {key: metrics.over_seeds([run[key] for run in runs]) for key in kept if isinstance(runs[0][key], Mapping)}
    cpu_s = sum(run["facts"]["fit_cpu_s"] + run["judge_cpu_s"] for run in runs)
    means = {name: at(over, path) for name, path in HEADLINES.items()}
    return {"figures": means, "summary": over, "runs": list(runs), "cpu_s": round(cpu_s, 1)}


def at(tree: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """Return the mean of a figure in a summary; None where it has none."""
    found: Any = tree
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    return found["mean"] if isinstance(found, Mapping) and "mean" in found else None


HEADLINES: Final[Mapping[str, tuple[str, ...]]] = {
    "accuracy": ("detection", "own", "accuracy"),
    "F1": ("detection", "own", "f1"),
    "accuracy with density": ("detection", "with_density", "accuracy"),
    "AUC": ("detection", "own", "auc"),
    "AUC with density": ("detection", "with_density", "auc"),
    "TPR at FPR 1 %": ("detection", "own", "tpr_at_fpr", "0.01", "tpr"),
    "TPR at FPR 1 % with density": ("detection", "with_density", "tpr_at_fpr", "0.01", "tpr"),
    "macro-F1": ("classes", "macro_f1"),
    "unknown kinds TPR": ("unknown", "own", "at_validation_threshold", "tpr"),
    "unknown kinds TPR with novelty": ("unknown", "with_novelty", "at_validation_threshold", "tpr"),
}
# The forest alone is what a learner is measured by: not the forest with our densities added.
AGAINST: Final[Mapping[str, tuple[str, ...]]] = {
    name: HEADLINES[name] for name in ("accuracy", "AUC", "TPR at FPR 1 %", "macro-F1", "unknown kinds TPR")
}


def beaten(model: Mapping[str, Any], forest: Mapping[str, Any]) -> list[str]:
    """Return in which figures the forest is better than the model by its own score."""
    found = []
    for name, path in AGAINST.items():
        own, other = at(model, path), at(forest, path)
        if own is not None and other is not None and other > own:
            found.append(name)
    return found


def lines(result: Result) -> list[str]:
    """Return the table a terminal shows."""
    shown = {name: path for name, path in HEADLINES.items() if any(_cell(m, path) != "-" for m in _summaries(result))}
    told = [f"{result['benchmark']}, {result['protocol']}: {result['split']}"]
    told += [f"  cleaned: {_counts(result['cleaned'])}", f"  left out: {_counts(result['left_out'])}"]
    told.append("  ".join(["model".ljust(24), *(name for name in shown), "cpu s"]))
    for name, model in result["models"].items():
        cells = [_cell(model["summary"], path).rjust(len(title)) for title, path in shown.items()]
        told.append("  ".join([name.ljust(24), *cells, f"{model['cpu_s']:.0f}"]))
    for name, model in result["models"].items():
        if model.get("beaten_by_forest_in"):
            told.append(f"{name}: a random forest is better in {', '.join(model['beaten_by_forest_in'])}")
    told += [
        f"{MET[each['met']]}: {each['what']}: {each['seen']:.4f}, wanted {each['wanted']}" for each in result["marks"]
    ]
    return told


def show(result: Result, *, as_json: bool) -> None:
    print(json.dumps(result, indent=1) if as_json else "\n".join(lines(result)))


def _count(study: Study, name: str, seeds: int | None) -> int:
    if study.protocol == KINDS:
        return len(study.folds)
    return seeds or FEWER_SEEDS.get(name.removesuffix(NO_ATTENTION), DEFAULT_SEEDS)


def folds_for(protocol: str, seeds: int | None, *, groups: int) -> list[int]:
    """Return the seeds of a study; of `kinds`, one for each group that is left out in turn."""
    return list(range(1, 1 + (groups if protocol == KINDS else seeds or DEFAULT_SEEDS)))


def _judged(mark: Mark, result: Result) -> dict[str, Any] | None:
    model = result["models"].get(mark.model)
    if model is None or mark.protocol != result["protocol"]:
        return None
    seen = at(model["summary"], mark.path)
    if seen is None:
        return None
    return {
        "model": mark.model, "what": f"{mark.model}, {mark.what}", "seen": seen, "wanted": mark.wanted,
        "met": bool(seen >= mark.wanted),
    }  # fmt: skip


def _without_long(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_long(value) if isinstance(value, Mapping) else value
        for key, value in figures.items()
        if key not in LONG
    }


def _summaries(result: Result) -> list[Mapping[str, Any]]:
    return [model["summary"] for model in result["models"].values()]


def _cell(told: Mapping[str, Any], path: Sequence[str]) -> str:
    mean = at(told, path)
    return "-" if mean is None else f"{mean:.5f}"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counted.items()) or "nothing"


def table_rows(table: Table) -> Mapping[str, int]:
    """Return what cleaning counted, with zeros: that nothing was found is a finding."""
    return dict(sorted(table.cleaned.items()))
