"""The listening end of the capture benchmark: `python -m benchmarks.receivers RECEIVER INTERFACE` prints what it got.

It says `ready` when it listens, reads until its standard input ends (the sender is done) and nothing is left, and then
prints its counts as JSON. CPU seconds are user and system time of this process from `ready` to the end, waiting
included. The trap: our two go as far as the flow table, `sniff` as far as a callback that counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness

IDLE_S = 0.05
QUIET_S = 0.5  # nothing came for so long after the sender was done: nothing more will
SOL_PACKET, PACKET_STATISTICS = 263, 6

Sample = dict[str, float]


def sender_is_done() -> bool:
    """Return whether our standard input has ended; never waits."""
    return bool(select.select([0], [], [], 0)[0]) and os.read(0, 1) == b""


def ready() -> float:
    """Say that the receiver listens; return the CPU seconds of this process until now."""
    print("ready", flush=True)
    return harness.cpu_s()


def ring(interface: str) -> Sample:
    """Read our ring into our flow table, with the settings of an agent."""
    from agent.capture.ring_source import RingSource
    from agent.capture.source import CaptureSettings

    return metered(RingSource(CaptureSettings(interface=interface)))


def portable(interface: str) -> Sample:
    """Read our portable source, which is Scapy's socket, into our flow table."""
    from agent.capture.portable import PortableSource
    from agent.capture.source import CaptureSettings

    return metered(PortableSource(CaptureSettings(interface=interface)))


def metered(source: Any) -> Sample:
    """Read a live source until the sender is done and the source is drained."""
    from flowfeatures import FlowMeter, FlowSettings
    from flowfeatures.frames import FrameBlock

    meter, block, records = FlowMeter(FlowSettings(partials=True)), FrameBlock(), 0
    is_stopped = False
    with source:
        started_cpu_s = ready()
        while not source.is_drained:
            taken = source.read_block(block, 0.0 if is_stopped else IDLE_S)
            for batch in meter.add(block) if taken else meter.advance(source.clock_us):
                records += len(batch)
            if not taken and not is_stopped and sender_is_done():
                source.stop()
                is_stopped = True
        cpu_s = harness.cpu_s() - started_cpu_s
        counts, counted = source.counts(), meter.counters
    beside = counts.outgoing + counts.malformed + counts.standing + counts.abandoned
    return {
        "seen": counts.seen,
        "read": counts.read,
        "dropped": counts.dropped,
        "unaccounted": counts.seen - counts.read - counts.dropped - beside,
        "decoded": counted["decoded"],
        "flows": counted["flows"],
        "records": records,
        "cpu_s": cpu_s,
    }


def sniff(interface: str) -> Sample:
    """Let scapy.sniff(store=False) call a function that counts."""
    from scapy.all import AsyncSniffer, conf

    read = 0

    def count(_: object) -> None:
        nonlocal read
        read += 1

    listening = conf.L2listen(iface=interface)
    sniffer = AsyncSniffer(opened_socket=listening, store=False, prn=count)
    sniffer.start()
    while not sniffer.running:
        time.sleep(0.01)
    started_cpu_s = ready()
    os.read(0, 1)
    quiet_from, last = time.monotonic(), -1
    while time.monotonic() - quiet_from < QUIET_S:
        if read != last:
            quiet_from, last = time.monotonic(), read
        time.sleep(IDLE_S)
    cpu_s = harness.cpu_s() - started_cpu_s
    seen, dropped = kernel_counts(listening.ins)
    with contextlib.suppress(Exception):  # Scapy may close the socket under its own thread; the counts are taken
        sniffer.stop()
    return {"seen": seen, "read": read, "dropped": dropped, "unaccounted": seen - read - dropped, "cpu_s": cpu_s}


def kernel_counts(packet_socket: socket.socket) -> tuple[int, int]:
    """Return the frames the kernel had for a packet socket, the dropped ones among them, and those; sets both to 0."""
    seen, dropped = struct.unpack("=II", packet_socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return seen, dropped


RECEIVERS: dict[str, Callable[[str], Sample]] = {"ring": ring, "portable": portable, "sniff": sniff}


def main(arguments: list[str]) -> int:
    receiver, interface = arguments
    sample = RECEIVERS[receiver](interface)
    print(json.dumps({**sample, "peak_bytes": harness.peak_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
