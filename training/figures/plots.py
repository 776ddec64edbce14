"""The plots of a report, one PNG each. Needs matplotlib; draws without a display.

Trap: matplotlib writes its version into a PNG unless told not to; here the same figures give the same bytes on one
machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_RATE = 1e-4  # left end of a ROC curve's axis: no sample at hand tells rates below
Array = NDArray[Any]


def roc(path: Path, scores: Mapping[str, tuple[Array, Array]], *, title: str) -> None:
    """Draw TPR over FPR, FPR logarithmic, one curve per name of (attack scores, benign scores)."""
    figure, axes = _axes(title)
    for name, (attack, benign) in scores.items():
        if not len(attack) or not len(benign):
            continue
        at = np.unique(np.concatenate([attack, benign]))[::-1]
        fpr = 1 - np.searchsorted(np.sort(benign), at, side="left") / len(benign)
        tpr = 1 - np.searchsorted(np.sort(attack), at, side="left") / len(attack)
        axes.plot(np.maximum(fpr, LEAST_RATE), tpr, drawstyle="steps-post", label=name)
    axes.set(xscale="log", xlim=(LEAST_RATE, 1), ylim=(0, 1), xlabel="false positive rate", ylabel="true positive rate")
    if axes.lines:
        axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    _save(figure, path)


def confusion_matrix(path: Path, table: Mapping[str, Mapping[str, int]], *, title: str) -> None:
    """Draw shares of each label's windows by what they were called; `table` as `figures.confusion.named` gives it."""
    labels = list(table)
    called = sorted({name for row in table.values() for name in row}, key=lambda name: (name not in labels, name))
    shares = np.array([[table[label].get(name, 0) for name in called] for label in labels], dtype=np.float64)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    heat(path, shares, rows=labels, columns=called, title=title, is_written=True)


def convergence(path: Path, histories: Mapping[str, Sequence[Mapping[str, float]]], *, title: str) -> None:
    """Draw training and validation loss over epochs, one pair of lines per seed."""
    figure, axes = _axes(title)
    for number, (name, history) in enumerate(histories.items()):
        epochs = [int(each["epoch"]) + 1 for each in history]
        axes.plot(epochs, [each["train_loss"] for each in history], "--", color=f"C{number}", label=f"{name}, training")
        axes.plot(
            epochs, [each["validation_loss"] for each in history], color=f"C{number}", label=f"{name}, validation"
        )
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    _save(figure, path)


def bars(path: Path, values: Mapping[str, float], *, title: str, label: str) -> None:
    """Draw named values as horizontal bars, in the order given, the first on top."""
    figure, axes = _axes(title, height=max(2.5, 0.28 * len(values)))
    places = np.arange(len(values))[::-1]
    axes.barh(places, list(values.values()))
    axes.set_yticks(places, list(values), fontsize=8)
    axes.set_xlabel(label)
    _save(figure, path)


def lines(path: Path, curves: Mapping[str, Mapping[str, float | None]], *, title: str, label: str) -> None:
    """Draw one line per name over the same steps, in their order; gaps where there is no value."""
    figure, axes = _axes(title)
    for name, values in curves.items():
        axes.plot(list(values), [np.nan if each is None else each for each in values.values()], "o-", label=name)
    axes.set(ylim=(0, 1.02), ylabel=label)
    axes.tick_params(axis="x", labelrotation=30, labelsize=8)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    _save(figure, path)


def points(path: Path, values: Mapping[str, tuple[float, float]], *, title: str, across: str, up: str) -> None:
    """Draw one named point per (x, y)."""
    figure, axes = _axes(title)
    for number, (name, (x, y)) in enumerate(values.items()):
        axes.plot([x], [y], "o", color=f"C{number % 10}")
        axes.annotate(name, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set(xlabel=across, ylabel=up)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    _save(figure, path)


def heat(
    path: Path, values: Array, *, rows: Sequence[str], columns: Sequence[str], title: str, is_written: bool = False
) -> None:
    """Draw a matrix as colours; `is_written` writes its numbers too."""
    size = (2.5 + 0.45 * len(columns), 1.6 + 0.32 * len(rows))
    figure, axes = _axes(title, width=size[0], height=size[1])
    image = axes.imshow(values, aspect="auto", cmap="Blues", vmin=0.0)
    axes.set_xticks(np.arange(len(columns)), list(columns), rotation=60, ha="right", fontsize=7)
    axes.set_yticks(np.arange(len(rows)), list(rows), fontsize=8)
    if is_written:
        for (row, column), value in np.ndenumerate(values):
            shade = "white" if value > 0.6 * values.max() else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=shade)
    figure.colorbar(image)
    _save(figure, path)


def _axes(title: str, *, width: float = 6.4, height: float = 4.0) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
