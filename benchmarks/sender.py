"""The loud end of the capture benchmark: `python -m benchmarks.sender INTERFACE PACKETS RATE FLOWS` says what it sent.

Frames stand ready in memory, and a vector of them goes to the kernel in one sendmmsg(2) call, so that the time is the
kernel's and not Python's. RATE is packets per second, 0 for as many as the machine can. The trap: in a veth pair the
sender's CPU carries each frame up to the receiver's socket buffer, so what it needs says nothing about the receiver.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
import time

import numpy as np

from benchmarks import tuples

VECTOR = 1024  # messages in one call at full speed
PACED_BURSTS_PER_S = 1000
PACKET_QDISC_BYPASS = 20  # <linux/if_packet.h>
SOL_PACKET = 263


class IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("name_bytes", ctypes.c_uint32),
        ("vector", ctypes.POINTER(IoVec)), ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_bytes", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


class MMsgHdr(ctypes.Structure):
    _fields_ = (("header", MsgHdr), ("sent_bytes", ctypes.c_uint))


def frame_cycle(flows: int) -> bytes:
    """Return the frames of one cycle, end to end: each flow once in each direction, in one fixed random order."""
    there = tuples.distinct(flows, seed=1)
    both = np.concatenate([there, tuples.reversed_ends(there)])
    return tuples.frames(np.random.default_rng(2).permutation(both)).tobytes()


class Messages:
    """A cycle of frames as sendmmsg wants it; keeps the memory the kernel reads alive."""

    def __init__(self, octets: bytes, *, frame_bytes: int) -> None:
        self.count = len(octets) // frame_bytes
        self._octets = ctypes.create_string_buffer(octets, len(octets))
        self._vectors = (IoVec * self.count)()
        self.headers = (MMsgHdr * self.count)()
        base = ctypes.addressof(self._octets)
        for index in range(self.count):
            self._vectors[index].base = base + index * frame_bytes
            self._vectors[index].length = frame_bytes
            self.headers[index].header.vector = ctypes.pointer(self._vectors[index])
            self.headers[index].header.vector_length = 1

    def frame(self, index: int) -> bytes:
        """Return the octets the kernel would read for one message."""
        vector = self._vectors[index]
        return ctypes.string_at(vector.base, vector.length)


class Sender:
    """A packet socket on one interface, without a queue in front of the device."""

    def __init__(self, interface: str, messages: Messages) -> None:
        self.messages = messages
        self.calls = 0
        self._at = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, 0))
        self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        self._sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

    def send(self, most: int) -> int:
        """Send up to `most` of the next frames in one call; return how many the device took.

        Raises OSError for anything but a full device.
        """
        first, self.calls = self._at, self.calls + 1
        count = min(most, self.messages.count - first)
        taken: int = self._sendmmsg(
            self._socket.fileno(), ctypes.byref(self.messages.headers, first * ctypes.sizeof(MMsgHdr)), count, 0
        )
        if taken < 0:
            number = ctypes.get_errno()
            if number not in (errno.ENOBUFS, errno.EAGAIN, errno.EINTR):
                raise OSError(number, os.strerror(number))
            return 0
        self._at = (first + taken) % self.messages.count
        return taken

    def run(self, packets: int, *, rate_per_s: int) -> dict[str, float]:
        """Send so many packets, at that rate or, for 0, as fast as can be; return what came of it."""
        burst = max(1, rate_per_s // PACED_BURSTS_PER_S) if rate_per_s else VECTOR
        started_ns, started_cpu_ns, sent = time.monotonic_ns(), time.process_time_ns(), 0
        while sent < packets:
            if rate_per_s:
                early_s = sent / rate_per_s - (time.monotonic_ns() - started_ns) / 1e9
                if early_s > 0:
                    time.sleep(early_s)
            sent += self.send(min(burst, packets - sent))
        wall_s = (time.monotonic_ns() - started_ns) / 1e9
        cpu_s = (time.process_time_ns() - started_cpu_ns) / 1e9
        return {"sent": sent, "wall_s": wall_s, "cpu_s": cpu_s, "rate_per_s": sent / wall_s, "calls": self.calls}


def main(arguments: list[str]) -> int:
    interface, (packets, rate_per_s, flows) = arguments[0], map(int, arguments[1:])
    messages = Messages(frame_cycle(flows), frame_bytes=tuples.FRAME_BYTES)
    print(json.dumps(Sender(interface, messages).run(packets, rate_per_s=rate_per_s)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
