"""The tables of `penstock-train unknown` and `devices`, from the JSON they write. Needs no torch, as a report does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.figures.rates import mean_and_spread
from training.unknown import UnknownSettings

SIDES = ("validation", "test", "evaluation")
YARDSTICK = "attack_score"


def candidates_table(told: Mapping[str, Any]) -> str:
    """Return one line per candidate, by falling TPR on validation: means over left-out classes, spread over seeds."""
    means = told["means"]
    order = sorted(means, key=lambda name: -(means[name]["validation"]["tpr"]["0.001"]["mean"] or 0.0))
    head = ["candidate", "validation, 1e-2", "validation, 1e-3", "test, 1e-3", "evaluation, 1e-3", "AUC, validation"]
    head += ["benign above 1e-3, test", "the same, evaluation"]
    lines = [_row(head), "|---" + "|--:" * (len(head) - 1) + "|"]
    for name in order:
        own = means[name]
        cells = [with_spread(own["validation"]["tpr"]["0.01"])]
        cells += [with_spread(own[side]["tpr"]["0.001"]) for side in SIDES]
        cells += [with_spread(own["validation"]["auc"])]
        cells += [with_spread(own[side]["benign"]["0.001"], places=4) for side in ("test", "evaluation")]
        lines.append(_row([name, *cells]))
    return "\n".join(lines)


def classes_table(told: Mapping[str, Any], *, kind: str = UnknownSettings().kind) -> str:
    """Return one line per left-out class: TPR of the kept score and of 1 - p(benign) at rate 1e-3, over seeds."""
    lines = [_row(["class left out", *(f"{side}: {kind} / {YARDSTICK}" for side in SIDES)]), "|---|--:|--:|--:|"]
    for name in told["runs"][kind]:
        cells = []
        for side in SIDES:
            both = [
                mean_and_spread([run[side]["tpr"]["0.001"] for run in told["runs"][each][name]])
                for each in (kind, YARDSTICK)
            ]
            cells.append(" / ".join(with_spread(each) for each in both))
        lines.append(_row([name, *cells]))
    return "\n".join(lines)


def makers_table(told: Mapping[str, Any]) -> str:
    """Return one line per maker left out: shares of its benign windows that were called something."""
    lines = ["| maker left out | windows | called a class | called unknown | either |", "|---|--:|--:|--:|--:|"]
    for maker, each in told["means"].items():
        cells = [with_spread(each[key], places=4) for key in ("classes", "unknown", "either")]
        note = "" if maker in told["taught"] else " (never taught)"
        lines.append(_row([f"{maker}{note}", f"{each['windows']:,d}", *cells]))
    return "\n".join(lines)


def with_spread(told: Mapping[str, Any], *, places: int = 3) -> str:
    """Return mean and standard deviation over seeds as text.

    >>> with_spread({"mean": 0.5, "std": 0.01})
    '0.500 ± 0.010'
    """
    if told["mean"] is None:
        return "-"
    spread = "" if told["std"] is None else f" ± {told['std']:.{places}f}"
    return f"{told['mean']:.{places}f}{spread}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
