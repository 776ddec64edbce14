"""One measured extraction, run as a process: `python -m benchmarks.extractors SIDE CAPTURE` prints a JSON object.

Both sides read the same file and leave every flow's statistics where Python can see them: we as numpy records, nfstream
as the NFlow objects it yields, each looked at once. Imports stand outside the clock, opening the file inside it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The same time-outs on both sides, so that both cut the packets into the same flows.
ACTIVE_TIMEOUT_S = 1800
IDLE_TIMEOUT_S = 120

Extraction = Callable[[], tuple[int, int]]  # () -> flows, packets


def penstock(capture: str) -> Extraction:
    return metered(capture, live=False)


def penstock_live(capture: str) -> Extraction:
    """Return our extraction as the agent runs it: shorter time-outs and partial records of flows that still live."""
    return metered(capture, live=True)


def metered(capture: str, *, live: bool) -> Extraction:
    from flowfeatures import FlowMeter, FlowSettings, open_capture

    compared = FlowSettings(
        active_timeout_s=ACTIVE_TIMEOUT_S,
        tcp_idle_timeout_s=IDLE_TIMEOUT_S,
        other_idle_timeout_s=IDLE_TIMEOUT_S,
        half_open_timeout_s=IDLE_TIMEOUT_S,
    )

    def extract() -> tuple[int, int]:
        records = packets = 0
        meter = FlowMeter(FlowSettings(partials=True) if live else compared)
        with open_capture(Path(capture)) as opened:
            for part in (meter.read(opened), meter.flush()):
                for batch in part:
                    whole = batch[batch["partial"] == 0]
                    records += len(whole)
                    packets += int(whole["fwd_packets"].sum()) + int(whole["bwd_packets"].sum())
        return records, packets

    return extract


def nfstream(capture: str) -> Extraction:
    """Return nfstream's extraction, statistics on, nDPI's dissection off: so neither side looks into payload."""
    from nfstream import NFStreamer

    def extract() -> tuple[int, int]:
        flows = packets = 0
        streamer = NFStreamer(
            source=capture,
            statistical_analysis=True,
            n_dissections=0,
            active_timeout=ACTIVE_TIMEOUT_S,
            idle_timeout=IDLE_TIMEOUT_S,
            n_meters=1,
        )
        for flow in streamer:
            flows += 1
            packets += flow.bidirectional_packets
        return flows, packets

    return extract


SIDES: dict[str, Callable[[str], Extraction]] = {
    "penstock": penstock,
    "penstock_live": penstock_live,
    "nfstream": nfstream,
}


def cpu_s() -> float:
    """Return the CPU seconds of this process and of the children it has waited for (nfstream's meter is one)."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Return the largest resident size of this process or of one of its children.

    VmHWM, since ru_maxrss of a started process begins at what its parent held. The pages of a mapped capture count,
    though the kernel may drop them at any time: of ours on `mixed`, some 64 MiB.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    own_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * max(own_kib, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def main(arguments: list[str]) -> int:
    side, capture = arguments
    extract = SIDES[side](capture)
    started_cpu_s, started_ns = cpu_s(), time.monotonic_ns()
    flows, packets = extract()
    wall_s = (time.monotonic_ns() - started_ns) / 1e9
    sample = {"flows": flows, "packets": packets, "wall_s": wall_s, "cpu_s": cpu_s() - started_cpu_s}
    print(json.dumps({**sample, "peak_bytes": peak_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
