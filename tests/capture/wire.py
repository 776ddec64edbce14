"""A wire between two network namespaces, bounded senders at one end of it, and a reader with a guard against hanging.

    near: eth0 ------ eth0 :far

Nothing but what a test sends crosses it: no IPv6, no addresses unless asked for, offloads off. Names are those of the
lab, so that its sweep removes what a killed test left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from agent.capture.source import LiveSource
from flowfeatures import FlowMeter, FlowSettings
from flowfeatures.frames import FrameBlock
from lab.namespaces import NAMESPACE_PREFIX, entered, remove_namespace, sweep
from tests.flowfeatures.packets import ethernet, ipv4, udp

GUARD_S = 120.0
ALL_OFF = [word for name in ("tx", "rx", "tso", "gso", "gro") for word in (name, "off")]


def ip(*arguments: str) -> str:
    """Run ip(8); its complaint becomes the test's, unless the kernel lacks what the test is about."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=120)
    if "Unknown device type" in done.stderr:
        pytest.skip(f"this kernel has no such device: ip {' '.join(arguments)}")
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


class Wire:
    """Both ends; `near` is where captures run: enter it with `lab.network.entered`."""

    def __init__(self) -> None:
        tag = f"{NAMESPACE_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"
        self.near, self.far = f"{tag}-near", f"{tag}-far"

    def lay(self, *, near_index: int | None = None) -> None:
        """Make the cable; also again, after it was cut."""
        index = () if near_index is None else ("index", str(near_index))
        ip("link", "add", "eth0", "netns", self.near, *index, "type", "veth", "peer", "name", "eth0", "netns", self.far)
        for name in (self.near, self.far):
            ip("netns", "exec", name, "ethtool", "-K", "eth0", *ALL_OFF)
            ip("-n", name, "link", "set", "eth0", "up")

    def cut(self) -> None:
        """Delete the cable, and so the interface at both ends."""
        ip("-n", self.near, "link", "del", "eth0")

    def wait_for_carrier(self) -> None:
        """Return when the far end sends: after an end went down, the kernel may drop silently for a second."""
        until_s = time.monotonic() + GUARD_S
        while " state UP " not in ip("-n", self.far, "link", "show", "dev", "eth0"):
            assert time.monotonic() < until_s, "the cable has no carrier"
            time.sleep(0.02)

    def sender(self) -> socket.socket:
        """Return a raw socket at the far end."""
        with entered(self.far):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.bind(("eth0", 0))
        return sock

    def send(self, frames: Iterable[bytes]) -> int:
        """Send the frames from the far end; return how many. One that finds no room is sent again."""
        count = 0
        with self.sender() as sock:
            for frame in frames:
                put(sock, frame)
                count += 1
        return count


def put(sock: socket.socket, frame: bytes) -> None:
    """Send a frame, again where it found no room: the kernel says so and drops it while who receives is behind."""
    while not _went_out(sock, frame):
        time.sleep(0.001)


def _went_out(sock: socket.socket, frame: bytes) -> bool:
    """Send a frame; return whether there was room: the processor that receives may be behind."""
    try:
        sock.send(frame)
    except OSError as exc:
        if exc.errno != errno.ENOBUFS:
            raise
        return False
    return True


@contextlib.contextmanager
def laid() -> Iterator[Wire]:
    """Give a wire, with nothing of it left afterwards."""
    sweep()
    wire = Wire()
    try:
        for name in (wire.near, wire.far):
            ip("netns", "add", name)
            with entered(name), open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w") as setting:
                setting.write("1")
            ip("-n", name, "link", "set", "lo", "up")
        wire.lay()
        yield wire
    finally:
        for name in (wire.near, wire.far):
            remove_namespace(name)


def datagrams(
    count: int, *, flows: int = 50, port: int = 53, vlans: Sequence[int] = (), back: bool = False
) -> list[bytes]:
    """Return UDP frames of so many flows, in turn; with `back`, every other one is an answer."""
    frames = []
    for number in range(count):
        client, is_answer = 20_000 + number % flows, back and number // flows % 2 == 1
        segment = udp(port, client, 40) if is_answer else udp(client, port, 40)
        src, dst = ("203.0.113.5", "192.168.1.10") if is_answer else ("192.168.1.10", "203.0.113.5")
        frames.append(ethernet(ipv4(segment, 17, src=src, dst=dst), vlans=tuple(vlans)))
    return frames


@dataclass
class Heard:
    """What a source gave to a meter."""

    meter: FlowMeter = field(default_factory=lambda: FlowMeter(FlowSettings(vlan_in_key=True)))
    block: FrameBlock = field(default_factory=FrameBlock)
    records: list[np.ndarray] = field(default_factory=list)

    @property
    def packets(self) -> int:
        return int(self.meter.counters["packets"])

    def listen(self, source: LiveSource, packets: int) -> Heard:
        """Read until so many packets have come, in all; the guard only ends a test that would hang."""
        until_s = time.monotonic() + GUARD_S
        while self.packets < packets and time.monotonic() < until_s:
            if source.read_block(self.block, 0.05):
                self.records += self.meter.add(self.block)
        return self

    def to_the_end(self, source: LiveSource) -> Heard:
        """Stop the source, read what it still holds, and let every flow leave."""
        source.stop()
        while source.read_block(self.block, 0.05) or not source.is_drained:
            self.records += self.meter.add(self.block)
        self.records += self.meter.flush()
        return self

    @property
    def flows(self) -> np.ndarray:
        """The records as one array."""
        return np.concatenate(self.records)

    @property
    def in_records(self) -> int:
        """Packets the records account for: counted once more, by another route."""
        return int((self.flows["fwd_packets"] + self.flows["bwd_packets"]).sum())
