"""A small reader of the lab's own captures: one tuple per IPv4 packet, nothing more.

Independent of flowfeatures on purpose, since ground truth must not lean on what it is used to judge. Reads classic
pcap with Ethernet frames, as tcpdump writes it here; fragments after the first have no ports.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contracts.errors import GroundTruthError

PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp"}
ICMP_ERRORS = (3, 4, 5, 11, 12)  # those that quote the packet they complain of
ARP_REPLY, ARP_BYTES = bytes.fromhex("08060001080006040002"), 42  # type to operation; octets of a whole one
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}


class Frame(NamedTuple):
    """One IPv4 packet. Addresses are integers; ports are 0 where the protocol has none."""

    time_s: float
    proto: str
    source: int
    target: int
    source_port: int
    target_port: int


FlowKey = tuple[str, tuple[int, int], tuple[int, int]]  # protocol and both (address, port), the lower first


def flow_key(proto: str, one: tuple[int, int], other: tuple[int, int]) -> FlowKey:
    """Return the name of a flow that is the same for both directions."""
    return (proto, one, other) if one <= other else (proto, other, one)


def number_of(address: str) -> int:
    """Return an IPv4 address as an integer.

    >>> number_of("10.0.0.1") - 10 * 2**24
    1
    """
    return int(struct.unpack(">I", socket.inet_aton(address))[0])


class Claim(NamedTuple):
    """One ARP reply: a station says which address it has. `mac` is that of the frame's sender."""

    time_s: float
    mac: str
    address: int
    told: int


def read_frames(path: Path) -> Iterator[Frame]:
    """Give the IPv4 packets of a capture; raises GroundTruthError where it is no pcap of Ethernet frames."""
    return (frame for frame, _ in read_with_octets(path))


def read_with_octets(path: Path) -> Iterator[tuple[Frame, bytes]]:
    """Give the IPv4 packets of a capture, each with what was kept of its Ethernet frame."""
    for time_s, octets in _read(path):
        if (frame := _decode(octets, time_s)) is not None:
            yield frame, octets


def quoted(frame: Frame, octets: bytes) -> Frame | None:
    """Return the packet that an ICMP error quotes, at the error's time; None for any other packet."""
    at = 14 + (octets[14] & 15) * 4
    if frame.proto != "icmp" or len(octets) <= at or octets[at] not in ICMP_ERRORS:
        return None
    return _decode(octets[:14] + octets[at + 8 :], frame.time_s)


def read_claims(path: Path) -> Iterator[Claim]:
    """Give the ARP replies of a capture."""
    for time_s, octets in _read(path):
        if octets[12:22] == ARP_REPLY and len(octets) >= ARP_BYTES:
            address, told = struct.unpack(">I6xI", octets[28:42])
            yield Claim(time_s, octets[6:12].hex(":"), address, told)


def _read(path: Path) -> Iterator[tuple[float, bytes]]:
    blob = path.read_bytes()
    if len(blob) < 24 or blob[:4] not in _MAGICS:
        raise GroundTruthError(f"{path}: not a classic pcap file")
    order, fraction_s = _MAGICS[blob[:4]]
    link_type = struct.unpack(order + "I", blob[20:24])[0] & 0xFFFF
    if link_type != 1:
        raise GroundTruthError(f"{path}: link type {link_type}, expected 1 (Ethernet)")
    record, at = struct.Struct(order + "IIII"), 24
    while at + 16 <= len(blob):
        seconds, fraction, length, _ = record.unpack_from(blob, at)
        yield seconds + fraction * fraction_s, blob[at + 16 : at + 16 + length]
        at += 16 + length


def _decode(frame: bytes, time_s: float) -> Frame | None:
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return None
    proto, source, target = struct.unpack(">xxxxxxxxxBxxII", frame[14:34])
    ports = (0, 0)
    at = 14 + (frame[14] & 15) * 4
    is_first_fragment = not (frame[20] & 0x1F or frame[21])
    if proto in (6, 17) and is_first_fragment and len(frame) >= at + 4:
        ports = struct.unpack(">HH", frame[at : at + 4])
    return Frame(time_s, PROTOCOL_NAMES.get(proto, str(proto)), source, target, *ports)
