"""The flow table alone: flows opened, then found again, each timed apart.

`python -m benchmarks.lookups OPENING [BETWEEN ...] STEADY [--seed HEX]` reads one capture that opens every flow,
perhaps others, and one whose packets all belong to those flows, and prints the CPU seconds of the first and the last.
No flow leaves meanwhile, so no record is written. The trap: decoding is in the figures; it is the same for every key,
so what differs between two runs is where the table finds them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import tuples
from benchmarks.traffic import START_US
from benchmarks.tuples import Tuples

SPAN_US = 1_000_000  # of each capture: all of them are shorter than every timeout


def write_series(folder: Path, name: str, captures: Mapping[str, Tuples]) -> list[str]:
    """Write captures that follow each other in time, unless they stand there, and return their paths."""
    paths = [folder / f"{name}-{stage}.pcap" for stage in captures]
    for number, (path, packets) in enumerate(zip(paths, captures.values(), strict=True)):
        if not path.exists():
            tuples.write(packets, path, start_us=START_US + number * SPAN_US, span_us=SPAN_US)
    return [str(path) for path in paths]


def measure(paths: Sequence[Path], *, hash_seed: bytes | None) -> dict[str, float]:
    """Return CPU seconds and counts. Raises RuntimeError where flows left, or packets opened flows they should not."""
    from flowfeatures import FlowMeter, FlowSettings, open_capture

    # Room for twice the flows, and not for millions: an index made for more places would hide collisions.
    flows_opened = paths[0].stat().st_size // tuples.PCAP_RECORD.itemsize
    meter = FlowMeter(FlowSettings(max_flows=2 * flows_opened), hash_seed=hash_seed)
    cpu_s, flows, packets = [], [], [0]
    for path in paths:
        with open_capture(path) as capture:
            started_ns = time.process_time_ns()
            records = sum(len(batch) for batch in meter.read(capture))
            cpu_s.append((time.process_time_ns() - started_ns) / 1e9)
        flows.append(meter.counters["flows"])
        packets.append(meter.counters["decoded"])
        if records:
            raise RuntimeError(f"{path}: {records} records left, wanted none")
    if flows[0] != flows[-1] or flows[0] != packets[1]:
        raise RuntimeError(f"{flows[0]} flows of {packets[1]} packets, then {flows[-1]}: wanted one number thrice")
    return {
        "flows": flows[0], "opening_s": cpu_s[0], "steady_s": cpu_s[-1], "both_s": cpu_s[0] + cpu_s[-1],
        "steady_packets": packets[-1] - packets[-2],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lookups", description=__doc__.splitlines()[0])
    parser.add_argument(
        "captures", nargs="+", type=Path, help="the one that opens the flows, ..., the one that finds them"
    )
    parser.add_argument("--seed", type=bytes.fromhex, help="16 octets that place the flows (random)")
    settings = parser.parse_args(arguments)
    print(json.dumps(measure(settings.captures, hash_seed=settings.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
