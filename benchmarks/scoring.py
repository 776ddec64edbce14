"""One bundle scored by the agent's engine: what a window alone costs, and how many a batch carries.

`python -m benchmarks.scoring BUNDLE CAPTURE [--alone N] [--batches N]` takes the capture's windows as the agent would
and prints microseconds and windows a second as JSON. The trap: wall clock holds what the neighbours on the machine did
meanwhile, CPU time does not, but a window that waits is late all the same; both are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.measure.timing import Floats, timed
from detection.engine import Engine

WARM_UP = 200
MOST_WINDOWS = 4096
BATCH = 256


def windows_of(capture: Path) -> tuple[Floats, Floats]:
    """Return the first windows float32[N, W, F] of a capture and their masks, with the agent's partial records."""
    from flowfeatures import DEFAULT_HOME_NETS, DeviceWindows, FlowMeter, FlowSettings, open_capture

    meter, windows = FlowMeter(FlowSettings(partials=True)), DeviceWindows(home_nets=DEFAULT_HOME_NETS)
    values, masks = [], []
    with open_capture(capture) as packets:
        for records in meter.read(packets):
            for batch in windows.add(records):
                values.append(batch.values)
                masks.append(batch.mask)
            if sum(map(len, masks)) >= MOST_WINDOWS:
                break
    whole, mask = np.concatenate(values)[:MOST_WINDOWS], np.concatenate(masks)[:MOST_WINDOWS]
    if len(whole) < BATCH:
        raise RuntimeError(f"{capture}: gave {len(whole)} windows, wanted at least {BATCH}")
    return whole, mask


def measure(engine: Engine, values: Floats, mask: Floats, *, alone: int, batches: int) -> dict[str, float]:
    """Return microseconds of a window alone (median and 99th percentile, wall and CPU) and windows a second."""
    singles = [(values[n : n + 1], mask[n : n + 1]) for n in range(len(values))]
    wholes = [(values[at : at + BATCH], mask[at : at + BATCH]) for at in range(0, len(values) - BATCH + 1, BATCH)]
    for n in range(WARM_UP):
        engine.score(*singles[n % len(singles)])
    wall_ns, cpu_ns = timed(engine, [singles[n % len(singles)] for n in range(alone)])
    for whole in wholes[:4]:
        engine.score(*whole)
    many_wall_ns, many_cpu_ns = timed(engine, [wholes[n % len(wholes)] for n in range(batches)])
    p50, p99 = (float(np.percentile(wall_ns, q)) / 1e3 for q in (50, 99))
    cpu_p50, cpu_p99 = (float(np.percentile(cpu_ns, q)) / 1e3 for q in (50, 99))
    return {
        "windows": len(values), "alone_p50_us": p50, "alone_p99_us": p99,
        "alone_cpu_p50_us": cpu_p50, "alone_cpu_p99_us": cpu_p99,
        "windows_per_s": BATCH * batches / many_wall_ns.sum() * 1e9,
        "windows_per_cpu_s": BATCH * batches / many_cpu_ns.sum() * 1e9,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--alone", type=int, default=5000, help="windows scored one by one (5000)")
    parser.add_argument("--batches", type=int, default=200, help=f"batches of {BATCH} (200)")
    settings = parser.parse_args(arguments)
    from contracts.bundle import load_bundle
    from detection.onnx_engine import OnnxEngine

    engine = OnnxEngine(load_bundle(settings.bundle), threads=1)
    values, mask = windows_of(settings.capture)
    print(json.dumps(measure(engine, values, mask, alone=settings.alone, batches=settings.batches)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
