"""A process that sends many frames: `python -m tests.faults.floods INTERFACE KIND PACKETS RATE` says what it sent.

Kinds: `spoofed`, SYNs at one home device from sources drawn at random; `busy`, the traffic of two hundred home devices
that talk to many servers, answered. Frames stand ready in memory; packets and rate are bounded by the command line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sender import Messages, Sender
from benchmarks.tuples import TUPLE, frames, reversed_ends
from lab.network import entered
from tests.faults.running import PATIENCE_S, victim
from tests.flowfeatures.packets import ethernet, ipv4, mac_bytes, tcp

VICTIM = "192.168.1.10"
SOURCES = 1 << 17  # distinct spoofed sources before they come again
DEVICES, FLOWS = 200, 60_000
SRC_AT, SRC_PORT_AT = 26, 34  # in an Ethernet frame with IPv4 and no options


def spoofed() -> NDArray[np.uint8]:
    """Return uint8[n, bytes]: SYNs whose sources and source ports are random, neither home nor special."""
    template = np.frombuffer(ethernet(ipv4(tcp(1, 80, "S"), 6, src="0.0.0.0", dst=VICTIM), pad_to=60), np.uint8)
    rng = np.random.default_rng(1)
    made = np.tile(template, (SOURCES, 1))
    made[:, SRC_AT : SRC_AT + 4] = rng.integers(1, 255, (SOURCES, 4))
    made[:, SRC_AT] = rng.integers(20, 120, SOURCES)
    made[:, SRC_PORT_AT : SRC_PORT_AT + 2] = rng.integers(4, 255, (SOURCES, 2))
    return made


def busy() -> NDArray[np.uint8]:
    """Return uint8[n, bytes]: a question and its answer of each flow, the flows in a random order."""
    rng = np.random.default_rng(2)
    flows = np.zeros(FLOWS, TUPLE)
    homes = np.array([int.from_bytes(map(int, victim(1000 + number).split("."))) for number in range(DEVICES)])
    flows["src"] = homes[np.arange(FLOWS) % DEVICES]
    flows["dst"] = rng.integers(0x20000000, 0x7F000000, FLOWS)
    flows["src_port"], flows["dst_port"] = 1024 + np.arange(FLOWS) // DEVICES, rng.choice([53, 123, 443], FLOWS)
    order = rng.permutation(FLOWS)
    there, back = flows[order], reversed_ends(flows[order])
    packets = frames(np.stack([there, back], axis=1).ravel())
    packets["macs"] = np.frombuffer(mac_bytes("02:00:00:00:00:01") + mac_bytes("02:00:00:00:00:10"), np.uint8)
    return packets.view(np.uint8).reshape(len(packets), -1)


KINDS = {"spoofed": spoofed, "busy": busy}


def main(arguments: list[str]) -> int:
    interface, kind, (packets, rate_per_s) = arguments[0], arguments[1], map(int, arguments[2:])
    made = KINDS[kind]()
    sender = Sender(interface, Messages(made.tobytes(), frame_bytes=made.shape[1]))
    print("ready", flush=True)
    print(json.dumps(sender.run(packets, rate_per_s=rate_per_s)))
    return 0


class Flood:
    """A sender at work in a namespace, from `with` to its end."""

    def __init__(self, namespace: str, *, kind: str, packets: int, rate_per_s: int) -> None:
        command = [sys.executable, "-m", "tests.faults.floods", "eth0", kind, str(packets), str(rate_per_s)]
        root = Path(__file__).resolve().parents[2]
        with entered(namespace):
            self._process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Flood:
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def sent(self) -> dict[str, float]:
        """Return what was sent, once all of it was."""
        said, _ = self._process.communicate(timeout=10 * PATIENCE_S)
        return json.loads(said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
