"""The pages of `penstock-train networks` and `ablations`: FILE.md beside FILE.json, made of the JSON alone.

Needs matplotlib for the plot; without it the page has none.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flowfeatures import CONTEXT_COLUMNS
from training.baselines import MOST_ROWS
from training.figures import plots
from training.figures.models_table import by_name, table, telling_epochs
from training.figures.rates import mean_and_spread

HOW_TO_READ: Final = (
    "Rates are over every window of the captures, none left out, each model under thresholds of its own, of one "
    "window and of lasting suspicion, chosen as a bundle's are on benign validation windows. An incident is what an "
    "operator sees; a false one overlaps no labelled attack of its device. `test` is the lab's recordings of other "
    "seeds and one maker's devices; `evaluation` is other networks, tools and makers, {days:.1f} days and {attacks} "
    "pairs of capture and attack class, none of which taught or chose anything. `TPR at FPR 1e-3` sets the thresholds "
    "on the judged windows themselves: it says how well a model ranks, not what an operator would get. `±` is the "
    "standard deviation over seeds; without it one seed was run, and seeds differ."
)
LESS: Final = (
    "Models here are taught on few windows and for few batches, all alike, so that all of them could be taught; the "
    "bundle that ships was taught on all windows and longer, and its own page has its figures."
)
DRAWN: Final = (
    "Learners without sample weights, or too slow for all windows, were taught on windows drawn by those weights: {}; "
    "`knn` asks the five nearest of them."
)


def write_networks_page(path: Path, told: Mapping[str, Any]) -> None:
    """Write the page of models set beside each other."""
    runs = telling_epochs(by_name(told["models"]))
    sizes = {name: each[0]["parameters"] for name, each in runs.items() if "parameters" in each[0]}
    lines = ["# Networks and baselines on the agent's windows", "", how_to_read(told), "", wrapped(LESS), ""]
    lines += [*table(runs, what="model"), ""]
    if drawn_for := [name for name in MOST_ROWS if name in runs]:
        lines += [wrapped(DRAWN.format(", ".join(f"`{name}` {MOST_ROWS[name]:,d}" for name in drawn_for))), ""]
    if sizes:
        lines += [
            wrapped("Parameters: " + ", ".join(f"`{name}` {count:,d}" for name, count in sizes.items()) + "."),
            "",
        ]
    lines += ["## Benign captures alone", "", *_quiet_table(runs), ""]
    drawn = path.with_name(f"{path.stem}-found.png")
    if importlib.util.find_spec("matplotlib") is not None:
        plots.points(
            drawn, _points(runs), title="evaluation: attacks found beside false alarms", across="false incidents a day",
            up="TPR over windows",
        )  # fmt: skip
        lines += [f"![{drawn.name}]({drawn.name})", ""]
    path.with_suffix(".md").write_text("\n".join([*lines, *runs_of(told["runs"], path)]))


def write_ablations_page(path: Path, told: Mapping[str, Any]) -> None:
    """Write the page of ablations: a table per part, each with what its lines are to be held against."""
    lines = ["# Ablations", "", how_to_read(told), "", wrapped(LESS), ""]
    parts: dict[str, dict[str, Any]] = {}
    for key, value in told["models"].items():
        parts.setdefault(value["part"], {})[key] = value
    for part in (part for part in PARTS if part in parts):
        runs = _one_by_one(told["models"]) if part == "each" else by_name(parts[part])
        lines += [f"## {PARTS[part][0]}", "", wrapped(PARTS[part][1]), "", *table(runs, what="what"), ""]
    path.with_suffix(".md").write_text("\n".join([*lines, *runs_of(told["runs"], path)]))


PARTS: Final = {
    "columns": (
        "Context columns",
        "`gru` without some of the window's context columns, which it then sees as constant; the first line sees all.",
    ),
    "each": (
        "Context columns, one by one",
        (
            "Every context column hidden alone, in the order of the window's columns; the lines of columns that are a "
            "group by themselves are those of the table above, over the seeds that all lines here have."
        ),
    ),
    "attention": (
        "Attention, and one kind of layer only",
        "The papers' networks with and without their attention; `dnn`, `rnn` and `cnn` are one kind of layer only.",
    ),
    "windows": (
        "Window length",
        (
            "`gru` on windows of so many records, taught and judged on windows of that length, without variants of the "
            "captures (so these lines are to be held against each other alone)."
        ),
    ),
    "partials": (
        "Records of unfinished flows",
        (
            "`gru` without variants of the captures. A live agent makes records of flows that have not ended; judged "
            "with and without them, taught with and without them."
        ),
    ),
}
"""By the key of a part: its title and what its lines are."""


def _one_by_one(models: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the runs without each single context column, whichever part they are of, after those with all.

    Of the seeds every one of them has alone: a line over more seeds than the one it is held against tells of the seeds.
    """
    names = ["all columns", *(f"without {column}" for column in CONTEXT_COLUMNS)]
    seeds: dict[str, set[str]] = {}
    for key in models:
        name, _, seed = key.rpartition(", seed ")
        if name in names:
            seeds.setdefault(name, set()).add(seed)
    shared = sorted(set.intersection(*seeds.values()), key=int)
    return {name: [models[f"{name}, seed {seed}"] for seed in shared] for name in names if name in seeds}


def how_to_read(told: Mapping[str, Any]) -> str:
    """Return what the figures of a study are, with the days and attacks that judged."""
    any_model = next(iter(told["models"].values()))
    return wrapped(HOW_TO_READ.format(**{key: any_model["evaluation"][key] for key in ("days", "attacks")}))


def wrapped(text: str) -> str:
    """Return a paragraph as lines of a page."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False))


def _points(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[float, float]]:
    found = {}
    for name, each in runs.items():
        pair = [
            mean_and_spread([run["evaluation"][key] for run in each])["mean"]
            for key in ("false_incidents_per_day", "tpr")
        ]
        if None not in pair:
            found[name] = (float(pair[0] or 0.0), float(pair[1] or 0.0))
    return found


def _quiet_table(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    lines = [
        "| model | seed | captures without an attack | with a false incident | false incidents | days | a day, median |"
    ]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for name, each in runs.items():
        for number, run in enumerate(each, 1):
            quiet = run["evaluation"]["benign_captures"]
            median = quiet["false_incidents_per_day_median"]
            cells = [quiet["captures"], quiet["with_false_incidents"], quiet["false_incidents"], f"{quiet['days']:.4g}"]
            cells.append("-" if median is None else f"{median:.4g}")
            lines.append(f"| {name} | {number} | " + " | ".join(map(str, cells)) + " |")
    return lines


def runs_of(runs: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Return the section that tells the command lines behind a page."""
    lines = ["## Runs", "", f"Every figure stands in [{path.name}]({path.name}).", ""]
    for run in runs:
        rest = "; ".join(
            f"{key.replace('_', ' ')} {_plain(value)}" for key, value in run.items() if key not in ("command", "commit")
        )
        lines += ["```", run["command"], "```", "", wrapped(f"{rest}; commit {run['commit'][:12]}."), ""]
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(each)} {key}" for key, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:,d}" if isinstance(value, int) else str(value)
