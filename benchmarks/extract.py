"""How much faster than nfstream do we turn packets into flow statistics?

    python -m benchmarks.extract [--json] [--runs N] [--packets N] [--million N] [--keep]

The same generated captures, a process per run, our run beside nfstream's in turn. The ratio is taken within each turn;
its median and its smallest and largest value are reported. Above 1 we are faster. Then a flood of a million flows, for
its memory (benchmarks/million.py). Not in it: starting Python, reading from a cold disk, a network interface.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec

from benchmarks import harness, million, traffic
from benchmarks.extractors import ACTIVE_TIMEOUT_S, IDLE_TIMEOUT_S
from benchmarks.harness import Bars, Spread
from benchmarks.marks import Marked, mark_lines

BASELINE = "nfstream"
COMPARED = ("penstock", "penstock_live", BASELINE)
MARKS = {"mixed": 20.0, "flood": 40.0}  # times fewer CPU seconds than nfstream
CAPTION = (
    "flow statistics of every flow, Python-visible; nfstream with statistical_analysis=True, nDPI off; "
    f"idle {IDLE_TIMEOUT_S} s, active {ACTIVE_TIMEOUT_S} s on both sides; page cache warm; imports not in it"
)
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """One side's figures on one capture."""

    flows: int
    packets: int
    cpu_s: Spread
    wall_s: Spread
    packets_per_cpu_s: Spread
    peak_mib: Spread

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Side:
        first = samples[0]
        return cls(
            flows=int(first["flows"]),
            packets=int(first["packets"]),
            cpu_s=Spread.of([sample["cpu_s"] for sample in samples]),
            wall_s=Spread.of([sample["wall_s"] for sample in samples]),
            packets_per_cpu_s=Spread.of([sample["packets"] / sample["cpu_s"] for sample in samples]),
            peak_mib=Spread.of([sample["peak_bytes"] / 2**20 for sample in samples]),
        )


@dataclass(frozen=True)
class Comparison:
    """All sides on one capture, and how many times less than nfstream each of ours needs."""

    capture: str
    sides: Mapping[str, Side]
    cpu_ratio: Mapping[str, Spread]
    wall_ratio: Mapping[str, Spread]

    @classmethod
    def of(cls, capture: str, samples: Mapping[str, Sequence[Sample]]) -> Comparison:
        def ratio(unit: str) -> dict[str, Spread]:
            return {
                name: Spread.of([slow[unit] / ours[unit] for slow, ours in zip(samples[BASELINE], taken, strict=True)])
                for name, taken in samples.items()
                if name != BASELINE
            }

        sides = {name: Side.of(taken) for name, taken in samples.items()}
        return cls(capture, sides, ratio("cpu_s"), ratio("wall_s"))


def compare(kind: str, *, packets: int, runs: int) -> Comparison:
    capture = str(traffic.capture(kind, packets=packets))
    turns = {side: partial(harness.run_worker, "benchmarks.extractors", side, capture) for side in COMPARED}
    return Comparison.of(kind, harness.interleave(turns, runs=runs))


def marked(comparisons: Sequence[Comparison]) -> list[Marked]:
    return [
        Marked.at_least(
            f"{comparison.capture}: {BASELINE}'s CPU seconds over penstock's",
            comparison.cpu_ratio["penstock"].median,
            MARKS[comparison.capture],
            "x",
        )
        for comparison in comparisons
    ]


def table(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the figures as lines of text, medians with smallest .. largest."""
    lines = []
    for comparison in comparisons:
        lines.append(f"{comparison.capture}:")
        for name, side in comparison.sides.items():
            lines.append(
                f"  {name:14s} {side.flows:6d} flows {side.packets:7d} packets  "
                f"cpu {side.cpu_s.text(3)} s  wall {side.wall_s.text(3)} s  peak {side.peak_mib.median:.0f} MiB"
            )
        for name, ratio in comparison.cpu_ratio.items():
            wall_ratio = comparison.wall_ratio[name]
            lines.append(f"  {name}: {ratio.text()} x {BASELINE} by CPU seconds, {wall_ratio.text()} x by wall clock")
    return lines


def plot(comparisons: Sequence[Comparison]) -> list[Bars]:
    return [
        Bars(
            title=f"{comparison.capture}: x {comparison.cpu_ratio['penstock'].median:.1f}",
            unit="thousand packets per CPU second",
            values={name: side.packets_per_cpu_s.scaled(1e-3) for name, side in comparison.sides.items()},
        )
        for comparison in comparisons
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.parser("extract", __doc__.splitlines()[0], runs=7)
    parser.add_argument("--packets", type=int, default=100_000, help="packets of each compared capture (100000)")
    parser.add_argument(
        "--million", type=int, default=million.PACKETS, metavar="PACKETS",
        help=f"packets of the flood that fills the table, an even number, 0 to leave it out ({million.PACKETS})",
    )  # fmt: skip
    settings = parser.parse_args(arguments)
    if settings.million % 2:
        parser.error(f"--million: {settings.million}, wanted an even number")
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    if find_spec("nfstream") is None:
        print("nfstream is missing: pip install 'penstock[bench]' (in a checkout: make bench)", file=sys.stderr)
        return 69
    machine = harness.fingerprint(["numpy", "nfstream"])
    comparisons = [compare(kind, packets=settings.packets, runs=settings.runs) for kind in traffic.KINDS]
    marks, lines, panels = marked(comparisons), table(comparisons), plot(comparisons)
    result: dict[str, object] = {
        "benchmark": "extract",
        "caption": CAPTION,
        "machine": machine,
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    if settings.million:
        flood = million.measure(packets=settings.million, runs=settings.runs)
        marks += flood.marked()
        lines += flood.lines()
        panels.append(million.plot(flood))
        result["million"] = flood.record()
    result["marks"] = [each.record() for each in marks]
    harness.write_json(result, harness.result_path("extract", "json", keep=settings.keep))
    harness.write_plot(panels, title=CAPTION, path=harness.result_path("extract", "png", keep=settings.keep))
    print(json.dumps(result, indent=2) if settings.json else "\n".join([*lines, "", *mark_lines(marks)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
