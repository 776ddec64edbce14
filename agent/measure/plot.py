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


def draw(results: Sequence[Result], *, title: str, limit_ms: float, conditions: Sequence[str] = ()) -> bytes:
    """Return a PNG: how long calls take beside what they may, and windows a second.

    Energy has a part of its own where a rail was read. Raises MissingExtra without matplotlib.
    """
    if not can_plot():
        raise MissingExtra("no matplotlib in this environment, wanted to draw: pip install 'penstock[plot]'")
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator

    has_energy = any(each.joules_per_window is not None for each in results)
    figure, parts = plt.subplots(
        1, 3 if has_energy else 2, figsize=(15 if has_energy else 10, 4.6), layout="constrained"
    )
    left, middle, *rest = parts
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
        middle.plot(across, [each.windows_per_s for each in cells], "o-", color=colour, label=engine)
        joules = [each.joules_per_window for each in cells]
        if rest and None not in joules:
            rest[0].plot(across, [1e3 * each for each in joules if each is not None], "o-", color=colour, label=engine)
    batches = sorted({each.batch for each in results if each.p50_ms is not None})
    half = f"half the deadline, {limit_ms:g} ms"
    left.axhline(limit_ms, color="0.45", linewidth=0.8, linestyle=(0, (6, 3)), label=half)
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis, told in zip(parts, ("ms a call", "windows a second", "mJ a window, all the board takes"), strict=False):
        axis.set(xscale="log", xlabel="windows in a batch", ylabel=told)
        axis.set_xticks(batches, [str(each) for each in batches])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if axis is not left:
            axis.set_ylim(bottom=0)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.suptitle(textwrap.fill(title, 100), fontsize=11, x=0.01, ha="left")
    figure.supxlabel("\n".join(textwrap.fill(each, 170) for each in conditions), fontsize=7.5, x=0.01, ha="left")
    octets = io.BytesIO()
    figure.savefig(octets, format="png", dpi=120)
    plt.close(figure)
    return octets.getvalue()
