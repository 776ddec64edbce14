"""A process that sends many frames: `python -m benchmarks.floods INTERFACE KIND PACKETS RATE` says what it sent.

Kinds: `spoofed`, SYNs at one home device from sources drawn at random; `busy`, the traffic of two hundred home devices
that talk to many servers, answered. Frames stand ready in memory; packets and rate are bounded by the command line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks import tuples
from benchmarks.sender import Messages, Sender

VICTIM = "192.168.1.10"
SOURCES = 1 << 17  # distinct spoofed sources before they come again
DEVICES, FLOWS = 200, 150_000  # more flows than a table holds
FIRST_DEVICE = 0xC0A80A0A  # 192.168.10.10
PROTO_AT, SRC_AT, DST_AT, PORTS_AT, FLAGS_AT = 23, 26, 30, 34, 46  # in an Ethernet frame with IPv4 and no options
TCP, SYN, HEADER_WORDS = 6, 2, 5


def spoofed() -> NDArray[np.uint8]:
    """Return uint8[n, bytes]: SYNs to port 80 whose sources and source ports are random, neither home nor special."""
    rng = np.random.default_rng(1)
    flows = np.zeros(SOURCES, tuples.TUPLE)
    octets = rng.integers(1, 255, (SOURCES, 4)).astype(np.uint32)
    octets[:, 0] = rng.integers(20, 120, SOURCES)
    flows["src"] = octets @ np.array([1 << 24, 1 << 16, 1 << 8, 1], np.uint32)
    flows["dst"] = int.from_bytes(map(int, VICTIM.split(".")), "big")
    flows["src_port"], flows["dst_port"] = rng.integers(1024, 65_535, SOURCES), 80
    made = tuples.frames(flows).view(np.uint8).reshape(SOURCES, -1)
    made[:, PROTO_AT] = TCP  # which leaves the checksum of a datagram: a meter does not read it
    made[:, PORTS_AT + 4 :] = 0
    made[:, FLAGS_AT], made[:, FLAGS_AT + 1] = HEADER_WORDS << 4, SYN
    return made


def busy() -> NDArray[np.uint8]:
    """Return uint8[n, bytes]: a question and its answer of each flow, the flows in a random order."""
    rng = np.random.default_rng(2)
    flows = np.zeros(FLOWS, tuples.TUPLE)
    flows["src"] = FIRST_DEVICE + np.arange(FLOWS) % DEVICES
    flows["dst"] = rng.integers(0x20000000, 0x7F000000, FLOWS)
    flows["src_port"], flows["dst_port"] = 1024 + np.arange(FLOWS) // DEVICES, rng.choice([53, 123, 443], FLOWS)
    there = rng.permutation(flows)
    packets = tuples.frames(np.stack([there, tuples.reversed_ends(there)], axis=1).ravel())
    return packets.view(np.uint8).reshape(len(packets), -1)


KINDS: dict[str, Callable[[], NDArray[np.uint8]]] = {"spoofed": spoofed, "busy": busy}


def main(arguments: list[str]) -> int:
    interface, kind, (packets, rate_per_s) = arguments[0], arguments[1], map(int, arguments[2:])
    made = KINDS[kind]()
    sender = Sender(interface, Messages(made.tobytes(), frame_bytes=made.shape[1]))
    print("ready", flush=True)
    print(json.dumps(sender.run(packets, rate_per_s=rate_per_s)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
