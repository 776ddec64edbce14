"""Packets from arrays of 5-tuples: frames of one length in one numpy array, captures of millions of them in a second.

For benchmarks whose packets differ in their addresses and ports alone: every frame is an IPv4 UDP packet of 60 octets.
`TUPLE[n]` holds host-order numbers. The trap: all of it is UDP, so nothing here is ever half-open or closes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.traffic import MAC_GATEWAY, MAC_LAN, START_US, UDP

TUPLE = np.dtype([("src", "u4"), ("dst", "u4"), ("src_port", "u2"), ("dst_port", "u2")])
FRAME_BYTES = 60  # the shortest Ethernet frame, its check sequence left off
Tuples = NDArray[np.void]

FRAME = np.dtype(
    [
        ("macs", "u1", 12), ("ether_type", ">u2"),
        ("version", "u1"), ("tos", "u1"), ("ip_bytes", ">u2"), ("id", ">u2"), ("fragment", ">u2"),
        ("ttl", "u1"), ("proto", "u1"), ("checksum", ">u2"), ("src", ">u4"), ("dst", ">u4"),
        ("src_port", ">u2"), ("dst_port", ">u2"), ("udp_bytes", ">u2"), ("udp_checksum", ">u2"),
        ("payload", "u1", FRAME_BYTES - 42),
    ]
)  # fmt: skip
PCAP_RECORD = np.dtype([("s", "<u4"), ("us", "<u4"), ("captured", "<u4"), ("wire", "<u4"), ("frame", FRAME)])
PCAP_HEADER = np.array([(0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)], dtype="<u4,<u2,<u2,<i4,<u4,<u4,<u4").tobytes()


def frames(tuples: Tuples) -> NDArray[np.void]:
    """Return FRAME[n]: a UDP packet per 5-tuple, its IPv4 header checksum right."""
    made = np.zeros(len(tuples), FRAME)
    made["macs"] = np.frombuffer(MAC_GATEWAY + MAC_LAN, np.uint8)
    made["ether_type"], made["version"], made["ttl"], made["proto"] = 0x0800, 0x45, 64, UDP
    made["ip_bytes"], made["udp_bytes"] = FRAME_BYTES - 14, FRAME_BYTES - 34
    for name in ("src", "dst", "src_port", "dst_port"):
        made[name] = tuples[name]
    total = np.full(len(tuples), 0x4500 + (FRAME_BYTES - 14) + (64 << 8 | UDP), np.uint32)
    for name in ("src", "dst"):
        total += (tuples[name] >> np.uint32(16)) + (tuples[name] & np.uint32(0xFFFF))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    made["checksum"] = ~total & 0xFFFF
    return made


def reversed_ends(tuples: Tuples) -> Tuples:
    """Return the 5-tuples as the other end sends them."""
    turned = np.empty_like(tuples)
    for name, other in (("src", "dst"), ("dst", "src"), ("src_port", "dst_port"), ("dst_port", "src_port")):
        turned[name] = tuples[other]
    return turned


def distinct(count: int, *, seed: int) -> Tuples:
    """Return `count` 5-tuples of random addresses and ports, no two of one flow: sources lie below destinations.

    >>> len(np.unique(distinct(1000, seed=1)["src"]))
    1000
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty(count, TUPLE)
    # An odd multiplier makes i -> i * odd a permutation of the numbers below 2^24.
    drawn["src"] = 0x0A000000 | (np.arange(1, count + 1, dtype=np.uint64) * 0x5851F5 & 0xFFFFFF)
    drawn["dst"] = rng.integers(0x20000000, 0xC0000000, count)
    drawn["src_port"], drawn["dst_port"] = rng.integers(1024, 65536, (2, count))
    return drawn


def write(tuples: Tuples, path: Path, *, start_us: int = START_US, span_us: int = 1_000_000) -> Path:
    """Write a pcap with a packet per 5-tuple, spread evenly over `span_us`, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(PCAP_HEADER)
        for first in range(0, len(tuples), 1 << 17):
            part = tuples[first : first + (1 << 17)]
            ts_us = start_us + (np.arange(first, first + len(part), dtype=np.int64) * span_us) // len(tuples)
            records = np.zeros(len(part), PCAP_RECORD)
            records["s"], records["us"] = ts_us // 1_000_000, ts_us % 1_000_000
            records["captured"] = records["wire"] = FRAME_BYTES
            records["frame"] = frames(part)
            file.write(records.tobytes())
    unfinished.replace(path)
    return path
