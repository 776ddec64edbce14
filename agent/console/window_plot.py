"""The picture of an incident's window: its records against what the device does otherwise. Needs the `plot` extra."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Final

import numpy as np

from agent.console.column_words import words
from agent.console.explained import Case
from agent.state.explanations import unpacked
from contracts.errors import MissingExtra
from flowfeatures import WINDOW_COLUMNS, address_text

MOST_ROWS: Final = 16


def draw(case: Case) -> bytes:
    """Return a PNG. Raises MissingExtra without matplotlib, ValueError where nothing was kept of the window."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("no matplotlib in this environment, wanted to draw: pip install 'penstock[plot]'")
    if case.explanation is None:
        raise ValueError("nothing was kept of how it opened")
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    explanation = case.explanation
    seen = list({each.column: each for each in [*case.looked_at, *case.outside]}.values())
    places = [WINDOW_COLUMNS.index(each.column) for each in seen]
    window = _logs(explanation.window[:, places])
    usual = explanation.usual
    figure, axis = plt.subplots(figsize=(9, 1.6 + 0.4 * max(1, len(seen))), layout="constrained")
    heights = np.arange(len(seen))
    if usual is not None:
        low, high = (_logs(unpacked(each, len(WINDOW_COLUMNS))[places]) for each in (usual.low, usual.high))
        axis.barh(heights, high - low, left=low, height=0.6, color="0.85", label="this device otherwise, 5 % to 95 %")
    medians = _logs(unpacked(explanation.medians, len(WINDOW_COLUMNS))[places])
    axis.plot(medians, heights, "|", color="0.3", markersize=14, label="benign anywhere, median")
    made_it = np.array([flow.made_it for flow in explanation.flows], bool)
    for kept, style, label in ((made_it, "C3o", "evidence"), (~made_it, "C0.", "other records of the window")):
        for number, row in enumerate(window[kept]):
            axis.plot(row, heights, style, alpha=0.6, markersize=5, label=label if number == 0 else None)
    axis.set_yticks(heights, [words(each.column) for each in seen], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("log10 of 1 + the column's value (octets, microseconds, counts)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(
        frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.14 - 0.9 / (len(seen) + 2)), ncols=2
    )
    device = address_text(bytes.fromhex(explanation.device))
    axis.set_title(
        f"{case.incident.attack_class} in the window of {device}, score {case.incident.score:.3f}", fontsize=10
    )
    octets = io.BytesIO()
    figure.savefig(octets, format="png", dpi=120)
    plt.close(figure)
    return octets.getvalue()


def _logs(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.log10(1.0 + np.abs(values.astype(np.float64)))
    return found
