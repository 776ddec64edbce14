"""The picture of a measurement: latency and windows a second over the batch size. Needs the `plot` extra."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec

from agent.measure.timing import Result
from contracts.errors import MissingExtra


def can_plot() -> bool:
    """Tell whether matplotlib is there; nothing is imported."""
    return find_spec("matplotlib") is not None


def draw(results: Sequence[Result], *, title: str) -> bytes:
    """Return a PNG. Raises MissingExtra without matplotlib."""
    if not can_plot():
        raise MissingExtra("no matplotlib in this environment, wanted to draw: pip install 'penstock[plot]'")
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for index, engine in enumerate(dict.fromkeys(each.engine for each in results)):
        cells = [each for each in results if each.engine == engine and each.p50_ms is not None]
        if not cells:
            continue
        across, colour = [each.batch for each in cells], f"C{index}"
        for key, style in (("p50_ms", "o-"), ("p99_ms", "^--"), ("p999_ms", "x:")):
            heights = [getattr(each, key) for each in cells]
            if None not in heights:
                label = f"{engine} {key.removesuffix('_ms').replace('p999', 'p99.9')}"
                left.plot(across, heights, style, color=colour, label=label)
        right.plot(across, [each.windows_per_s for each in cells], "o-", color=colour, label=engine)
    left.set(xscale="log", yscale="log", xlabel="windows in a batch", ylabel="ms a call")
    right.set(xscale="log", yscale="log", xlabel="windows in a batch", ylabel="windows a second")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.suptitle(textwrap.fill(title, 120), fontsize=8)
    octets = io.BytesIO()
    figure.savefig(octets, format="png", dpi=120)
    plt.close(figure)
    return octets.getvalue()
