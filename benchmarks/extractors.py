"""One measured extraction, run as a process: `python -m benchmarks.extractors SIDE CAPTURE [IDLE_S]` prints JSON.

All sides read the same file and leave every flow's statistics where Python can see them: we as numpy records, nfstream
as the NFlow objects it yields, each looked at once. Imports stand outside the clock, opening the file inside it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import harness

if TYPE_CHECKING:
    from flowfeatures import FlowSettings

# The same time-outs on both sides, so that both cut the packets into the same flows.
ACTIVE_TIMEOUT_S = 1800
IDLE_TIMEOUT_S = 120
ROOM_FOR_ALL = 1 << 20

Counts = dict[str, int]  # "flows" and "packets" on every side
Extraction = Callable[[], Counts]


def compared(*, idle_timeout_s: int, max_flows: int) -> FlowSettings:
    """Return our settings with the time-outs both sides have."""
    from flowfeatures import FlowSettings

    return FlowSettings(
        active_timeout_s=ACTIVE_TIMEOUT_S,
        tcp_idle_timeout_s=idle_timeout_s,
        other_idle_timeout_s=idle_timeout_s,
        half_open_timeout_s=idle_timeout_s,
        max_flows=max_flows,
    )


def penstock(capture: str, idle_timeout_s: int = IDLE_TIMEOUT_S) -> Extraction:
    """Return our extraction with room for every flow, as nfstream has."""
    return metered(capture, compared(idle_timeout_s=idle_timeout_s, max_flows=ROOM_FOR_ALL))


def penstock_live(capture: str, _: int = IDLE_TIMEOUT_S) -> Extraction:
    """Return our extraction as the agent runs it: shorter time-outs and partial records of flows that still live."""
    from flowfeatures import FlowSettings

    return metered(capture, FlowSettings(partials=True))


def penstock_default(capture: str, _: int = IDLE_TIMEOUT_S) -> Extraction:
    """Return our extraction with the default settings, the cap on live flows among them."""
    return metered(capture, None)


def metered(capture: str, settings: FlowSettings | None) -> Extraction:
    from flowfeatures import FlowMeter, open_capture

    def extract() -> Counts:
        records = packets = 0
        meter = FlowMeter(settings)
        with open_capture(Path(capture)) as opened:
            for part in (meter.read(opened), meter.flush()):
                for batch in part:
                    whole = batch[batch["partial"] == 0]
                    records += len(whole)
                    packets += int(whole["fwd_packets"].sum()) + int(whole["bwd_packets"].sum())
        counted = meter.counters
        return {
            "flows": records,
            "packets": packets,
            "decoded": counted["decoded"],
            "evicted": counted["evicted_flows"],
            "emergencies": counted.get("emergencies", 0),
            "own_bytes": own_bytes(),
        }

    return extract


def nfstream(capture: str, idle_timeout_s: int = IDLE_TIMEOUT_S) -> Extraction:
    """Return nfstream's extraction, statistics on, nDPI's dissection off: so neither side looks into payload."""
    from nfstream import NFStreamer

    def extract() -> Counts:
        flows = packets = 0
        streamer = NFStreamer(
            source=capture,
            statistical_analysis=True,
            n_dissections=0,
            active_timeout=ACTIVE_TIMEOUT_S,
            idle_timeout=idle_timeout_s,
            n_meters=1,
        )
        for flow in streamer:
            flows += 1
            packets += flow.bidirectional_packets
        return {"flows": flows, "packets": packets}

    return extract


SIDES: dict[str, Callable[[str, int], Extraction]] = {
    "penstock": penstock,
    "penstock_live": penstock_live,
    "penstock_default": penstock_default,
    "nfstream": nfstream,
}


def own_bytes() -> int:
    """Return the resident memory no file stands behind; the table gives none back, so at the end it is the peak."""
    return 1024 * int(harness.first_line_of("/proc/self/status", "RssAnon").split()[0])


def main(arguments: list[str]) -> int:
    side, capture = arguments[:2]
    extract = SIDES[side](capture, int(arguments[2]) if len(arguments) > 2 else IDLE_TIMEOUT_S)
    started_cpu_s, started_ns = harness.cpu_s(), time.monotonic_ns()
    counts = extract()
    wall_s = (time.monotonic_ns() - started_ns) / 1e9
    sample = {**counts, "wall_s": wall_s, "cpu_s": harness.cpu_s() - started_cpu_s}
    print(json.dumps({**sample, "peak_bytes": harness.peak_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
