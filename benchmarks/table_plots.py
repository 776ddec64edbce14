"""Plots of a table's result: confusion matrices, ROC curves, convergence, attention per column. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

DPI: Final = 90
MOST_MATRICES = 4
MOST_COLUMNS = 20
FEWEST_FPR = 1e-5


def draw(section: Mapping[str, Any], start: Path) -> list[Path]:
    """Write the plots of one protocol beside `start`; return their paths, without those that have nothing to show."""
    import matplotlib as mpl

    mpl.use("Agg")
    drawn = [_confusion(section, start), _roc(section, start), _convergence(section, start), _attention(section, start)]
    return [path for path in drawn if path is not None]


def _saved(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return path


def _confusion(section: Mapping[str, Any], start: Path) -> Path:
    import matplotlib.pyplot as plt

    names = list(section["models"])[:MOST_MATRICES]
    size = max(2.6, 0.42 * len(section["classes"]))
    figure, axes = plt.subplots(
        1, len(names), figsize=(size * len(names) + 1, size + 1), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        matrix = np.array(section["models"][name]["runs"][0]["classes"]["confusion"], dtype=float)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=6, color=colour)
        axis.set_title(name, fontsize=8)
        places = range(len(matrix))
        axis.set_xticks(places, section["classes"][: len(matrix)], rotation=90, fontsize=6)
        axis.set_yticks(places, section["classes"][: len(matrix)], fontsize=6)
    figure.supxlabel("called", fontsize=8)
    figure.supylabel("is", fontsize=8)
    return _saved(figure, start.with_name(f"{start.name}-confusion.png"))


def _roc(section: Mapping[str, Any], start: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, model in section["models"].items():
        for score, style in (("own", "-"), ("with_density", ":")):
            fpr, tpr = model["runs"][0]["detection"][score]["roc"]
            if score == "own" or name in ("best", "random forest"):
                label = name if score == "own" else f"{name}, with density"
                axis.plot(np.maximum(fpr, FEWEST_FPR), tpr, style, linewidth=1, label=label)
    axis.set(
        xscale="log", xlabel="false-positive rate (logarithmic)", ylabel="true-positive rate", xlim=(FEWEST_FPR, 1)
    )
    axis.legend(frameon=False, fontsize=6, ncol=2, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    return _saved(figure, start.with_name(f"{start.name}-roc.png"))


def _convergence(section: Mapping[str, Any], start: Path) -> Path | None:
    import matplotlib.pyplot as plt

    taught = {name: model["runs"][0]["facts"].get("history") for name, model in section["models"].items()}
    taught = {name: history for name, history in taught.items() if history}
    if not taught:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, history in taught.items():
        steps = [each["step"] for each in history]
        line = axis.plot(steps, [each["validation_loss"] for each in history], label=name, linewidth=1)
        axis.plot(steps, [each["train_loss"] for each in history], ":", color=line[0].get_color(), linewidth=1)
    axis.set(yscale="log", xlabel="batches", ylabel="loss (validation; dotted: training, smoothed labels)")
    axis.legend(frameon=False, fontsize=6)
    axis.spines[["top", "right"]].set_visible(False)
    return _saved(figure, start.with_name(f"{start.name}-convergence.png"))


def _attention(section: Mapping[str, Any], start: Path) -> Path | None:
    import matplotlib.pyplot as plt

    looked = {name: model["runs"][0].get("attention") for name, model in section["models"].items()}
    looked = {name: each for name, each in looked.items() if each and max(each.values()) > 1.02 * min(each.values())}
    if not looked:
        return None
    figure, axes = plt.subplots(1, len(looked), figsize=(3.6 * len(looked), 4), squeeze=False, layout="constrained")
    for axis, (name, weights) in zip(axes[0], looked.items(), strict=True):
        top = sorted(weights.items(), key=lambda pair: -pair[1])[:MOST_COLUMNS]
        axis.barh([column for column, _ in top], [weight for _, weight in top], color="#3b6ea5")
        axis.invert_yaxis()
        axis.tick_params(labelsize=6)
        axis.set_title(f"{name}: mean attention", fontsize=8)
    return _saved(figure, start.with_name(f"{start.name}-attention.png"))
