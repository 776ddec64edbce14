"""The flow table alone: flows opened, then found again, each timed apart.

`python -m benchmarks.lookups OPENING STEADY [SEED]` reads one capture that opens every flow and one whose packets all
belong to them, and prints CPU seconds of both as JSON. No flow leaves meanwhile, so no record is written. Decoding is
in the figures, the same for every key; what differs is where the table finds them. SEED is 32 hexadecimal digits.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks import tuples
from benchmarks.traffic import START_US
from benchmarks.tuples import Tuples

SPAN_US = 1_000_000  # of each capture: shorter than every timeout


def write_pair(folder: Path, name: str, *, opening: Tuples, steady: Tuples) -> tuple[str, str]:
    """Write both captures, unless they stand there, and return their paths."""
    paths = folder / f"{name}-opening.pcap", folder / f"{name}-steady.pcap"
    for number, (path, packets) in enumerate(zip(paths, (opening, steady), strict=True)):
        if not path.exists():
            tuples.write(packets, path, start_us=START_US + number * SPAN_US, span_us=SPAN_US)
    return str(paths[0]), str(paths[1])


def measure(opening: Path, steady: Path, *, hash_seed: bytes | None) -> dict[str, float]:
    """Return CPU seconds and counts. Raises RuntimeError where flows left, or packets opened flows they should not."""
    from flowfeatures import FlowMeter, FlowSettings, open_capture

    # Room for twice the flows, and not for millions: an index made for more places would hide collisions.
    flows_opened = opening.stat().st_size // tuples.PCAP_RECORD.itemsize
    meter = FlowMeter(FlowSettings(max_flows=2 * flows_opened), hash_seed=hash_seed)
    cpu_s, flows, packets = [], [], []
    for path in (opening, steady):
        with open_capture(path) as capture:
            started_ns = time.process_time_ns()
            records = sum(len(batch) for batch in meter.read(capture))
            cpu_s.append((time.process_time_ns() - started_ns) / 1e9)
        flows.append(meter.counters["flows"])
        packets.append(meter.counters["decoded"])
        if records:
            raise RuntimeError(f"{path}: {records} records left, wanted none")
    if flows[0] != flows[1] or flows[0] != packets[0]:
        raise RuntimeError(f"{flows[0]} flows of {packets[0]} packets, then {flows[1]}: wanted one number thrice")
    return {
        "flows": flows[0], "opening_s": cpu_s[0], "steady_s": cpu_s[1], "both_s": sum(cpu_s),
        "steady_packets": packets[1] - packets[0],
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    opening, steady = map(Path, arguments[:2])
    hash_seed = bytes.fromhex(arguments[2]) if len(arguments) > 2 else None
    print(json.dumps(measure(opening, steady, hash_seed=hash_seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
