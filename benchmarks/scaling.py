"""What does a packet cost while so many flows are alive?

    python -m benchmarks.scaling [--json] [--runs N] [--packets N] [--flows N ...] [--keep]

The flows are opened first and given a few packets each, past whatever a table spares the young. Then the same number of
packets goes to flows drawn at random, half in each direction: the worst order for caches. Decoding is in it; records
and timers that fire are not. What is left of a rise from few flows to many is memory that no cache holds: `touch`
copies 512 octets from a random place for each packet, out of as much memory as so many flows take (on huge pages, where
the kernel gives numpy any), and shows how far this machine rises without a table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import harness, lookups, tuples
from benchmarks.harness import Line, Spread
from benchmarks.traffic import CACHE

CAPTION = "CPU per packet against live flows; packets to flows drawn at random, both directions, no records"
FLOWS = (1_000, 10_000, 100_000, 1_000_000)
TOUCHED_BYTES = 512  # about what a live flow and its place in the index take
TOUCHED_AT_ONCE = 64
RIPE_PACKETS = 5  # of each flow before the clock runs; a flow is spared its full state until its fourth
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """The figures with so many flows alive."""

    flows: int
    packet_ns: Spread
    opening_ns: Spread
    touch_ns: Spread

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Point:
        return cls(
            flows=int(samples[0]["flows"]),
            packet_ns=Spread.of([1e9 * sample["steady_s"] / sample["steady_packets"] for sample in samples]),
            opening_ns=Spread.of([1e9 * sample["opening_s"] / sample["flows"] for sample in samples]),
            touch_ns=Spread.of([sample["touch_ns"] for sample in samples]),
        )


def captures(flows: int, *, packets: int) -> list[str]:
    """Return the captures that open the flows and ripen them, and the one with the packets that are timed."""
    sources = b"".join(Path(path or "").read_bytes() for path in (__file__, lookups.__file__, tuples.__file__))
    folder = CACHE / f"scaling-{packets}-{hashlib.sha256(sources).hexdigest()[:8]}"
    if not (folder / f"{flows}-steady.pcap").exists():
        keys, rng = tuples.distinct(flows, seed=flows), np.random.default_rng(flows)
        drawn = keys[rng.integers(0, flows, packets)]
        is_answer = rng.random(packets) < 0.5
        drawn[is_answer] = tuples.reversed_ends(drawn[is_answer])
        stages = {"opening": keys, "ripening": np.tile(keys, RIPE_PACKETS - 1), "steady": drawn}
        return lookups.write_series(folder, str(flows), stages)
    return [str(folder / f"{flows}-{stage}.pcap") for stage in ("opening", "ripening", "steady")]


def touch_ns(flows: int, *, packets: int) -> float:
    """Return CPU nanoseconds of copying 512 octets from a random place, out of as much memory as so many flows take."""
    memory = np.ones((flows, TOUCHED_BYTES // 8))
    order = np.random.default_rng(1).integers(0, flows, (packets // TOUCHED_AT_ONCE, TOUCHED_AT_ONCE))
    copied = np.empty((TOUCHED_AT_ONCE, TOUCHED_BYTES // 8))
    started_ns = time.process_time_ns()
    for places in order:
        np.take(memory, places, axis=0, out=copied, mode="clip")
    return (time.process_time_ns() - started_ns) / order.size


def one_run(flows: int, *, packets: int) -> Sample:
    timed = harness.run_worker("benchmarks.lookups", *captures(flows, packets=packets))
    return {**timed, "touch_ns": touch_ns(flows, packets=packets)}


def measure(flows: Sequence[int], *, packets: int, runs: int) -> list[Point]:
    turns = {str(count): partial(one_run, count, packets=packets) for count in flows}
    return [Point.of(samples) for samples in harness.interleave(turns, runs=runs).values()]


def plot(points: Sequence[Point]) -> list[Line]:
    return [
        Line("a packet of a live flow", {point.flows: point.packet_ns for point in points}),
        Line("a packet that opens a flow", {point.flows: point.opening_ns for point in points}),
        Line("512 octets copied out of as much memory", {point.flows: point.touch_ns for point in points}),
    ]


def table(points: Sequence[Point]) -> list[str]:
    lines = [
        f"{point.flows:9,d} flows  packet {point.packet_ns.text(0)} ns  opening {point.opening_ns.text(0)} ns  "
        f"touch {point.touch_ns.text(1)} ns"
        for point in points
    ]
    rise = points[-1].packet_ns.median / points[0].packet_ns.median
    touched_ns = points[-1].touch_ns.median - points[0].touch_ns.median
    risen_ns = points[-1].packet_ns.median - points[0].packet_ns.median
    ends = f"from {points[0].flows:,} to {points[-1].flows:,} flows"
    return [*lines, f"{ends}: x {rise:.2f}, {risen_ns:.0f} ns more; copying 512 octets {touched_ns:.0f} ns more"]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.parser("scaling", __doc__.splitlines()[0], runs=7)
    parser.add_argument("--packets", type=int, default=1_000_000, help="packets timed at each point (1000000)")
    parser.add_argument("--flows", type=int, nargs="+", default=list(FLOWS), help="live flows at each point")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    machine = harness.fingerprint(["numpy"])
    points = measure(sorted(settings.flows), packets=settings.packets, runs=settings.runs)
    result = {
        "benchmark": "scaling",
        "caption": CAPTION,
        "machine": machine,
        "packets": settings.packets,
        "points": [asdict(point) for point in points],
    }
    harness.write_json(result, harness.result_path("scaling", "json", keep=settings.keep))
    harness.write_lines(
        plot(points), across="live flows", up="CPU ns", title=CAPTION,
        path=harness.result_path("scaling", "png", keep=settings.keep),
    )  # fmt: skip
    print(json.dumps(result, indent=2) if settings.json else "\n".join(table(points)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
