"""The table that sets models beside each other, by the figures `side_by_side` tells of each. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.figures.rates import mean_and_spread

COLUMNS: Final = (
    ("test", ("tpr",), "test TPR"),
    ("test", ("fpr",), "FPR"),
    ("test", ("auc",), "AUC"),
    ("evaluation", ("tpr",), "evaluation TPR"),
    ("evaluation", ("fpr",), "FPR"),
    ("evaluation", ("auc",), "AUC"),
    ("evaluation", ("tpr_at_fpr", "0.001"), "TPR at FPR 1e-3"),
    ("evaluation", ("attacks_alerted",), "attacks alerted"),
    ("evaluation", ("first_alert_s",), "first alert, s"),
    ("evaluation", ("false_incidents",), "false incidents"),
    ("evaluation", ("false_incidents_per_day",), "a day"),
)
"""Of the tables: side, path into its figures, title."""


def table(runs: Mapping[str, Sequence[Mapping[str, Any]]], *, what: str) -> list[str]:
    """Return one line per model: means over its seeds, with the spread where there are several.

    `runs` holds by name one entry per seed, figures by side.
    """
    titles = [title for _, _, title in COLUMNS]
    lines = [f"| {what} | seeds | " + " | ".join(titles) + " |", "|---|--:" + "|--:" * len(titles) + "|"]
    for name, each in runs.items():
        cells = [_spread_text([_at(run[side], path) for run in each]) for side, path, _ in COLUMNS]
        lines.append(f"| {name} | {len(each)} | " + " | ".join(cells) + " |")
    return lines


def by_name(told: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return entries `NAME, seed N` by their name, in order.

    >>> by_name({"gru, seed 1": {"a": 1}, "gru, seed 2": {"a": 2}})
    {'gru': [{'a': 1}, {'a': 2}]}
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for key, value in told.items():
        runs.setdefault(key.rpartition(", seed ")[0] or key, []).append(value)
    return runs


def telling_epochs(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the runs with the epochs in the names of networks taught for fewer than the others.

    >>> list(telling_epochs({"a": [{"epochs": 6}], "b": [{"epochs": 2}], "forest": [{}]}))
    ['a', 'b (2 epochs)', 'forest']
    """
    epochs = {name: max(run.get("epochs", 0) for run in each) for name, each in runs.items()}
    most = max(epochs.values(), default=0)
    return {
        name + (f" ({epochs[name]} epochs)" if 0 < epochs[name] < most else ""): each for name, each in runs.items()
    }


def _at(figures_of_side: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = figures_of_side
    for key in path:
        found = found[key]
    return None if found is None else float(found)


def _spread_text(values: Sequence[float | None]) -> str:
    told = mean_and_spread(values)
    if told["mean"] is None:
        return "-"
    spread = "" if told["std"] is None else f" ± {told['std']:.3g}"
    return f"{told['mean']:.4g}{spread}"
