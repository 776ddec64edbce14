"""Frames of a classic pcap, and what an attacker who sends them can change: payload length, ports, time.

Reads and writes Ethernet with IPv4; everything else is carried along unchanged. What is changed stays consistent where
a flow meter looks: lengths in IP and UDP headers, wire length, ports. The trap: checksums and sequence numbers are left
as they were, as captures with offloading have them too; nothing that checks those may judge what is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

ETHERNET = 1
MAGICS = {b"\xd4\xc3\xb2\xa1": ("<", 1), b"\xa1\xb2\xc3\xd4": (">", 1), b"\x4d\x3c\xb2\xa1": ("<", 1000)}
ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, PSH, ACK = 0x01, 0x02, 0x08, 0x10
IP_AT = 14  # of an Ethernet frame without tags
MTU_BYTES = 1500
LEAST_FRAME_BYTES = 60


@dataclass(frozen=True)
class Frame:
    """One frame: its time, how long it was on the wire, and the octets kept of it."""

    at_us: int
    wire_bytes: int
    octets: bytes


@dataclass(frozen=True)
class Heads:
    """Where things stand in an IPv4 frame. Ends are (address, port), port 0 where there is none."""

    source: tuple[bytes, int]
    target: tuple[bytes, int]
    proto: int
    l4_at: int
    payload_bytes: int
    flags: int  # of TCP, else 0


def read_frames(path: Path) -> list[Frame] | None:
    """Return the frames of a classic pcap of Ethernet; None for any other file. A torn last frame is left out."""
    raw = path.read_bytes()
    if raw[:4] not in MAGICS or len(raw) < 24:
        return None
    order, nanoseconds = MAGICS[raw[:4]]
    if struct.unpack_from(f"{order}I", raw, 20)[0] & 0xFFFF != ETHERNET:
        return None
    frames, at = [], 24
    while at + 16 <= len(raw):
        seconds, fraction, kept, wire = struct.unpack_from(f"{order}IIII", raw, at)
        if at + 16 + kept > len(raw):
            break
        frames.append(Frame(seconds * 1_000_000 + fraction // nanoseconds, wire, raw[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return frames


def write_frames(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames, in their order, as a classic pcap of Ethernet."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, ETHERNET))
        for frame in frames:
            seconds, fraction = divmod(frame.at_us, 1_000_000)
            file.write(struct.pack("<IIII", seconds, fraction, len(frame.octets), frame.wire_bytes))
            file.write(frame.octets)


def heads_of(octets: bytes) -> Heads | None:
    """Return what the headers of a frame say; None for what is no whole IPv4 packet or is a later fragment."""
    if len(octets) < IP_AT + 20 or octets[12:14] != b"\x08\x00" or octets[IP_AT] >> 4 != 4:
        return None
    l4_at = IP_AT + (octets[IP_AT] & 15) * 4
    total, _, fragment = struct.unpack_from(">HHH", octets, IP_AT + 2)
    proto = octets[IP_AT + 9]
    if fragment & 0x1FFF:
        return None
    ports, header, flags = (0, 0), 8 if proto == ICMP else 0, 0
    if proto in (TCP, UDP):
        if len(octets) < l4_at + (14 if proto == TCP else 8):
            return None
        ports = struct.unpack_from(">HH", octets, l4_at)
        header = (octets[l4_at + 12] >> 4) * 4 if proto == TCP else 8
        flags = octets[l4_at + 13] if proto == TCP else 0
    payload = max(0, total - (l4_at - IP_AT) - header)
    ends = [(octets[IP_AT + 12 + 4 * n : IP_AT + 16 + 4 * n], ports[n]) for n in (0, 1)]
    return Heads(ends[0], ends[1], proto, l4_at, payload, flags)


def padded(frame: Frame, heads: Heads, more_bytes: int) -> Frame:
    """Return the frame with so many octets more of payload, as far as the MTU lets it grow."""
    total = struct.unpack_from(">H", frame.octets, IP_AT + 2)[0]
    more = min(more_bytes, MTU_BYTES - total)
    if more <= 0:
        return frame
    octets = bytearray(frame.octets[: IP_AT + total])  # less what filled it up to 60
    is_whole = len(frame.octets) >= frame.wire_bytes
    struct.pack_into(">H", octets, IP_AT + 2, total + more)
    if heads.proto == UDP:
        struct.pack_into(">H", octets, heads.l4_at + 4, total + more - (heads.l4_at - IP_AT))
    if is_whole:
        octets += bytes(more)
    wire = max(LEAST_FRAME_BYTES, IP_AT + total + more)
    return Frame(frame.at_us, wire, bytes(octets))


def with_port(frame: Frame, heads: Heads, *, end: tuple[bytes, int], port: int) -> Frame:
    """Return the frame with another port at the end that is `end` now."""
    octets = bytearray(frame.octets)
    struct.pack_into(">H", octets, heads.l4_at + (0 if heads.source == end else 2), port)
    return replace(frame, octets=bytes(octets))


def bare_tcp(like: Frame, heads: Heads, *, flags: int, at_us: int, reverse: bool, seq: int, ack: int) -> Frame:
    """Return a TCP segment without payload or options between the ends of another frame, or the other way round."""
    ethernet = like.octets[:IP_AT]
    source, target = heads.source, heads.target
    if reverse:
        ethernet = ethernet[6:12] + ethernet[:6] + ethernet[12:]
        source, target = target, source
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], seq, ack, 0x50, flags, 64240, 0, 0)
    packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, TCP, 0, source[0], target[0]) + tcp
    return Frame(at_us, LEAST_FRAME_BYTES, ethernet + packet + bytes(LEAST_FRAME_BYTES - IP_AT - len(packet)))
