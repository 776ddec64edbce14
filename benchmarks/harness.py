"""What every benchmark shares: the machine's fingerprint, interleaved runs, medians with their spread, JSON and a plot.

A benchmark runs each side in a process of its own and asks here for the rest. The trap: seconds from two machines, or
from two minutes of one machine, must not be compared; ratios of runs that stood next to each other may.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

RESULTS = Path(__file__).parent / "results"
WORKER_LIMIT_S = 600.0
# numpy's OpenBLAS starts a thread per core that spins for some 30 ms: CPU time that belongs to the import.
WORKER_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises statistics.StatisticsError if there are no values.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0, runs=3)
        """
        return cls(statistics.median(values), min(values), max(values), len(values))

    def scaled(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.runs)

    def text(self, digits: int = 1) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} .. {self.high:.{digits}f})"


@dataclass(frozen=True)
class Bars:
    """One panel of a plot: a bar with its spread per label."""

    title: str
    unit: str
    values: Mapping[str, Spread]
    digits: int = 0
    is_logarithmic: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a plot: a spread per place on the horizontal axis."""

    label: str
    values: Mapping[float, Spread]


def first_line_of(path: str, start: str) -> str:
    """Return what stands after the colon in the first line that begins with `start`, or an empty string."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(start)), "")


def commit() -> str:
    """Return the commit that stands in the tree, marked where tracked files but results differ from it."""
    here = Path(__file__).resolve().parent
    commands = (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno", "--", ":/", f":!{here}/results"])
    try:
        head, changed = (
            subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=here, timeout=10).stdout
            for words in commands
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head.strip() + ("-dirty" if changed.strip() else "")


def fingerprint(packages: Sequence[str]) -> dict[str, object]:
    """Return what a reader needs to judge a number: machine, load, versions, commit, time."""
    board = Path("/proc/device-tree/model")
    installed = {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}
    return {
        "processor": first_line_of("/proc/cpuinfo", "model name") or platform.machine(),
        "board": board.read_text(encoding="utf-8").strip("\0") if board.exists() else None,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory": first_line_of("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages if name in installed},
        "load_1min": round(os.getloadavg()[0], 2),
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def command_line(module: str, arguments: Sequence[str]) -> str:
    """Return the line that runs a module, as a shell takes it, without the folders of this machine.

    >>> print(command_line("benchmarks.nsl_kdd", ["--train", "/data/KDDTrain+.txt", "--model", "random forest"]))
    python -m benchmarks.nsl_kdd --train KDDTrain+.txt --model 'random forest'
    """
    shown = [Path(each).name if "/" in each else each for each in arguments]
    return shlex.join(["python", "-m", module, *shown])


def interleave(sides: Mapping[str, Callable[[], Sample]], *, runs: int) -> dict[str, list[Sample]]:
    """Return each side's samples, taken in turn: run n of every side before run n + 1 of any.

    Every second turn goes backwards, so that no side always follows the same neighbour. One turn before the first warms
    page cache and byte code and is thrown away.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    for turn in range(-1, runs):
        for name in list(sides) if turn % 2 else list(sides)[::-1]:
            sample = sides[name]()
            if turn >= 0:
                samples[name].append(sample)
    return samples


def run_worker(module: str, *arguments: str, limit_s: float = WORKER_LIMIT_S) -> dict[str, float]:
    """Return the JSON object that `python -m module ARGUMENTS` prints as its last line.

    Raises RuntimeError with the end of its stderr if it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | WORKER_ENVIRONMENT
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    sample: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return sample


def cpu_s() -> float:
    """Return the CPU seconds of this process and of the children it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Return the largest resident size of this process or of one of its children.

    VmHWM, since ru_maxrss of a started process begins at what its parent held. Pages of mapped files count, libraries
    and captures alike, though the kernel may drop them at any time.
    """
    own_kib = int(first_line_of("/proc/self/status", "VmHWM").split()[0])
    return 1024 * max(own_kib, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def parser(benchmark: str, first_line: str, *, runs: int) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark takes."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=first_line)
    made.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    made.add_argument("--runs", type=int, default=runs, help=f"measured turns, at least 5 for a result ({runs})")
    made.add_argument("--keep", action="store_true", help="write the results that are committed, not the local ones")
    return made


def result_path(benchmark: str, suffix: str, *, keep: bool) -> Path:
    """Return where a benchmark's result goes: the committed file, or a local one that git ignores."""
    return RESULTS / f"{benchmark}{'' if keep else '.local'}.{suffix}"


def write_json(result: Mapping[str, object], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def write_plot(panels: Sequence[Bars], *, title: str, path: Path) -> None:
    """Write horizontal bars, one panel beside the other, whiskers from the smallest run to the largest."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 2.8), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[0], panels, strict=True):
        medians = [spread.median for spread in panel.values.values()]
        below = [spread.median - spread.low for spread in panel.values.values()]
        above = [spread.high - spread.median for spread in panel.values.values()]
        bars = axis.barh(list(panel.values), medians, xerr=(below, above), color="#3b6ea5", ecolor="#222222", capsize=3)
        axis.bar_label(bars, labels=[f"{median:,.{panel.digits}f}" for median in medians], padding=14)
        axis.set(title=panel.title, xlabel=panel.unit)
        axis.margins(x=0.3)
        if panel.is_logarithmic:
            axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.invert_yaxis()
    figure.suptitle(textwrap.fill(title, 100), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_lines(lines: Sequence[Line], *, across: str, up: str, title: str, path: Path) -> None:
    """Write lines over a logarithmic horizontal axis, whiskers from the smallest run to the largest."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for line in lines:
        medians = [spread.median for spread in line.values.values()]
        below = [spread.median - spread.low for spread in line.values.values()]
        above = [spread.high - spread.median for spread in line.values.values()]
        axis.errorbar(list(line.values), medians, yerr=(below, above), label=line.label, marker="o", capsize=3)
    axis.set(xscale="log", xlabel=across, ylabel=up)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.suptitle(textwrap.fill(title, 90), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
