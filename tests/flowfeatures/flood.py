"""A spoofed SYN flood through one meter, and in its midst a connection that was there before: prints what came of it.

Run as a process of its own, so that its memory is its own: `python -m tests.flowfeatures.flood PACKETS`.
"""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowfeatures import END_REASONS, FlowMeter, FrameBlock, address_text
from tests.flowfeatures.packets import START_US, ethernet, ipv4, tcp

BLOCK = 50_000
RATE_PER_S = 200_000
SYN_BYTES = 54
ATTACKER, VICTIM = "203.0.113.66", "192.168.1.5"


def syns(first: int, count: int) -> FrameBlock:
    """Return a block of SYNs to one port, each from an address of its own."""
    template = np.frombuffer(ethernet(ipv4(tcp(40000, 80, "S", 0), 6, src="0.0.0.0", dst=VICTIM)), np.uint8)
    frames = np.tile(template, (count, 1))
    number = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    # An odd multiplier permutes the 32-bit numbers: no source comes twice.
    sources = (number * np.uint64(0x2545F491)).astype(np.uint32)
    frames[:, 26:30] = sources.astype(">u4").view(np.uint8).reshape(-1, 4)
    offsets = np.arange(count) * SYN_BYTES
    times_us = START_US + (number.astype(np.int64) * 1_000_000) // RATE_PER_S
    return FrameBlock.view(frames.reshape(-1), offsets, np.full(count, SYN_BYTES), times_us)


def guess(at_us: int, attempt: int) -> FrameBlock:
    """Return a piece of the connection under way: the attacker sends, the victim answers."""
    asks = ethernet(
        ipv4(tcp(50000, 23, "S" if attempt == 0 else "PA", 10 * bool(attempt)), 6, src=ATTACKER, dst=VICTIM)
    )
    says = ethernet(
        ipv4(tcp(23, 50000, "SA" if attempt == 0 else "PA", 5 * bool(attempt)), 6, src=VICTIM, dst=ATTACKER)
    )
    return FrameBlock.of([asks, says], [at_us, at_us + 1])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(packets: int) -> dict[str, object]:
    meter, records, resident = FlowMeter(), 0, []
    connection: list[NDArray[np.void]] = []
    accounted = 0

    def look(batch: NDArray[np.void]) -> None:
        nonlocal records, accounted
        records += len(batch)
        accounted += int(batch["fwd_packets"].sum() + batch["bwd_packets"].sum())
        connection.extend(batch[batch["dst_port"] == 23])

    for attempt in range(3):  # six packets: no embryo any more when the flood begins
        for batch in meter.add(guess(START_US - 3_000 + 1_000 * attempt, attempt)):
            look(batch)
    for first in range(0, packets, BLOCK):
        block = syns(first, min(BLOCK, packets - first))
        for batch in meter.add(block):
            look(batch)
        for batch in meter.add(guess(meter.clock_us, 1 + first)):
            look(batch)
        resident.append(resident_bytes())
    for batch in meter.flush():
        look(batch)
    return {
        "records": records,
        "packets_in_records": accounted,
        "counters": meter.counters,
        "resident_bytes": resident,
        "connection": [
            {
                "src": address_text(record["src"]),
                "end_reason": END_REASONS[record["end_reason"]],
                "packets": int(record["fwd_packets"] + record["bwd_packets"]),
            }
            for record in connection
        ],
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
