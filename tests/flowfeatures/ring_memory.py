"""A TPACKET_V3 ring forged in a bytearray, as the kernel would have written it, or as it never would.

Written from <linux/if_packet.h>: struct tpacket_block_desc (48 octets), struct tpacket3_hdr (48), struct sockaddr_ll
(20), then the frame.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_HEADER, FRAME_HEADER = 48, 68
KERNEL, USER, LOSING, TIMED_OUT = 0, 1, 4, 32
VLAN_VALID, TPID_VALID = 0x10, 0x40
HOST, OUTGOING = 0, 4


@dataclass(frozen=True)
class Forged:
    """One frame and what the kernel says of it; None: what is true."""

    octets: bytes
    ts_us: int = 1_700_000_000_000_000
    nanoseconds: int = 0
    wire: int | None = None
    status: int = 0
    vlan_tci: int = 0
    vlan_tpid: int = 0
    packet_type: int = HOST
    snap: int | None = None
    mac_offset: int | None = None
    next_offset: int | None = None


def frame_octets(frame: Forged, *, is_last: bool) -> bytes:
    """Return the frame with its headers, padded to where the next one begins."""
    mac_offset = 82  # behind the headers, so that what lies behind 14 octets of Ethernet is aligned to 16
    length = (mac_offset + len(frame.octets) + 7) & ~7
    header = struct.pack(
        "=6I2H2IHH8x",
        (0 if is_last else length) if frame.next_offset is None else frame.next_offset,
        frame.ts_us // 1_000_000,
        frame.ts_us % 1_000_000 * 1000 + frame.nanoseconds,
        len(frame.octets) if frame.snap is None else frame.snap,
        len(frame.octets) if frame.wire is None else frame.wire,
        frame.status,
        mac_offset if frame.mac_offset is None else frame.mac_offset,
        mac_offset + 14,
        0,
        frame.vlan_tci,
        frame.vlan_tpid,
        0,
    )
    address = struct.pack("=HHiHBB8x", 17, 0x0300, 1, 1, frame.packet_type, 6)
    return (header + address).ljust(mac_offset, b"\0") + frame.octets.ljust(length - mac_offset, b"\0")


def block_octets(
    frames: Sequence[Forged],
    *,
    block_bytes: int,
    status: int = USER,
    count: int | None = None,
    first: int = BLOCK_HEADER,
) -> bytes:
    """Return one block of the ring; what is too long for it is cut."""
    body = b"".join(frame_octets(frame, is_last=frame is frames[-1]) for frame in frames)
    count = len(frames) if count is None else count
    header = struct.pack("=5I", 3, BLOCK_HEADER, status, count, first)
    used = struct.pack("=I", BLOCK_HEADER + len(body))
    return ((header + used).ljust(BLOCK_HEADER, b"\0") + body)[:block_bytes].ljust(block_bytes, b"\0")


class Memory:
    """A ring of `block_count` blocks, all the kernel's until `write` fills one."""

    def __init__(self, *, block_count: int = 4, block_bytes: int = 4096) -> None:
        self.octets = bytearray(block_count * block_bytes)
        self.block_count, self.block_bytes = block_count, block_bytes

    def write(self, index: int, frames: Sequence[Forged], **form: int) -> None:
        """Let the block of that number be one the kernel has just filled."""
        at = index * self.block_bytes
        self.octets[at : at + self.block_bytes] = block_octets(frames, block_bytes=self.block_bytes, **form)

    def set_word(self, index: int, offset: int, value: int) -> None:
        """Overwrite 32 bits of a block."""
        struct.pack_into("=I", self.octets, index * self.block_bytes + offset, value)

    def status(self, index: int) -> int:
        """Return the status of a block: KERNEL, or with the bit USER."""
        return int(struct.unpack_from("=I", self.octets, index * self.block_bytes + 8)[0])
