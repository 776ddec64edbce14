"""Frames of a pcap or pcapng file, from its bytes.

Time stamps are floored to integer microseconds. A file that ends inside a frame or block yields every whole frame
before it and then raises `Truncated`; what is no capture raises `NotACapture`. The trap: a pcapng file may change
byte order, interfaces and time resolution in the middle.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PCAP_MAGICS = {0xA1B2C3D4: 1, 0xA1B23C4D: 1000}  # ticks per microsecond
SECTION_HEADER, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
IF_TSRESOL, IF_TSOFFSET = 9, 14

NULL, ETHERNET, RAW, LOOP, COOKED, IPV4_ONLY, IPV6_ONLY, COOKED_2 = 0, 1, 101, 108, 113, 228, 229, 276
RAW_TYPES = (RAW, 12, 14, IPV4_ONLY, IPV6_ONLY)  # 12 and 14: DLT_RAW as some systems wrote it into files
LINK_TYPES = (NULL, ETHERNET, LOOP, COOKED, COOKED_2, *RAW_TYPES)


class NotACapture(Exception):
    """Empty, of another format, or with a broken header."""


class UnknownLink(NotACapture):
    """No frame of the file can be of a link type that is decoded: its header says so, or all its interfaces do."""


class Truncated(Exception):
    """Ends inside a frame or block."""


class Frame(NamedTuple):
    """One frame as captured: `data` may be shorter than `wire_bytes`."""

    ts: int
    link_type: int
    wire_bytes: int
    data: bytes


class Interface(NamedTuple):
    """What an interface description block says of the frames that name it."""

    link_type: int
    snap_bytes: int
    ticks_per_s: int
    offset_s: int


UNDESCRIBED = Interface(link_type=-1, snap_bytes=0, ticks_per_s=1_000_000, offset_s=0)
LARGEST_FRAME_BYTES = 1 << 20  # no link sends more: what claims to be longer is no record header
LAST_US = 253_402_300_799_999_999  # 9999-12-31 23:59:59.999999, the last a date can be written for


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield every whole frame of the file; raise NotACapture or Truncated where it stops making sense."""
    content = Path(path).read_bytes()
    if len(content) < 5:
        raise NotACapture(f"{len(content)} bytes")
    if content[:4] == b"\x0a\x0d\x0d\x0a":
        yield from read_pcapng(content)
    else:
        yield from read_pcap(content)


def read_pcap(content: bytes) -> Iterator[Frame]:
    """Yield the frames of a classic capture; the upper 16 bits of the link type (FCS length) are not part of it."""
    for order in "<>":
        ticks_per_us = PCAP_MAGICS.get(struct.unpack_from(order + "I", content)[0])
        if ticks_per_us:
            break
    else:
        raise NotACapture(f"magic {content[:4].hex()}")
    if len(content) < 24:
        raise Truncated(f"{len(content)} bytes, a header has 24")
    link_type = struct.unpack_from(order + "I", content, 20)[0] & 0xFFFF
    if link_type not in LINK_TYPES:
        raise UnknownLink(f"link type {link_type}")
    at = 24
    while at < len(content):
        if at + 16 > len(content):
            raise Truncated(f"record header at byte {at}")
        seconds, fraction, captured, wire = struct.unpack_from(order + "IIII", content, at)
        at += 16
        if captured > LARGEST_FRAME_BYTES:
            raise NotACapture(f"frame of {captured} bytes at byte {at}")
        if at + captured > len(content):
            raise Truncated(f"frame of {captured} bytes at byte {at}")
        ts = seconds * 1_000_000 + fraction // ticks_per_us
        yield Frame(ts, link_type, max(wire, captured), content[at : at + captured])
        at += captured


def read_pcapng(content: bytes) -> Iterator[Frame]:
    """Yield the frames of all sections; blocks of other types are skipped.

    A simple packet block carries no time: it takes that of the packet before it in the file, or 0.
    """
    order, interfaces, link_types, at, ts = "<", [], set(), 0, 0
    while at < len(content):
        if at + 12 > len(content):
            raise Truncated(f"block header at byte {at}")
        kind = struct.unpack_from(order + "I", content, at)[0]
        if kind == SECTION_HEADER:
            order, interfaces = section_byte_order(content, at), []
        length = struct.unpack_from(order + "I", content, at + 4)[0]
        if length < 12 or length % 4:
            raise NotACapture(f"block of {length} bytes at byte {at}")
        if at + length > len(content):
            raise Truncated(f"block of {length} bytes at byte {at}")
        body = content[at + 8 : at + length - 4]
        if kind == INTERFACE:
            interfaces.append(read_interface(body, order))
            link_types.add(interfaces[-1].link_type)
        elif kind in (OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET):
            frame = read_packet_block(kind, body, order, interfaces, ts)
            ts = frame.ts
            yield frame
        at += length
    if link_types and not link_types & set(LINK_TYPES):
        raise UnknownLink(f"link types {sorted(link_types)}")


def section_byte_order(content: bytes, at: int) -> str:
    """Return the struct prefix that makes this section's byte-order magic read right."""
    for order in "<>":
        if struct.unpack_from(order + "I", content, at + 8)[0] == BYTE_ORDER_MAGIC:
            return order
    raise NotACapture(f"byte-order magic {content[at + 8 : at + 12].hex()}")


def read_interface(body: bytes, order: str) -> Interface:
    """Return link type, snap length and clock of an interface description block."""
    if len(body) < 8:
        raise NotACapture(f"interface description of {len(body)} bytes")
    link_type, _, snap = struct.unpack_from(order + "HHI", body)
    ticks_per_s, offset_s, at = 1_000_000, 0, 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0:
            break
        if len(value) < length:
            raise NotACapture(f"interface option {code} of {length} bytes, {len(value)} left")
        if code == IF_TSRESOL and length == 1:
            ticks_per_s = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        if code == IF_TSOFFSET and length == 8:
            offset_s = struct.unpack(order + "q", value)[0]
        at += 4 + length + -length % 4
    return Interface(link_type, snap, ticks_per_s, offset_s)


def read_packet_block(kind: int, body: bytes, order: str, interfaces: list[Interface], ts_before: int) -> Frame:
    """Return the frame of an enhanced, simple or obsolete packet block.

    The frame of an interface nobody described has no link type, which the decoder does not support. A time before
    1970 or after the year 9999 is one of these ends.
    """
    fixed = {ENHANCED_PACKET: 20, OLD_PACKET: 20, SIMPLE_PACKET: 4}[kind]
    if len(body) < fixed:
        raise NotACapture(f"packet block of {len(body)} bytes")
    number, ticks = 0, None
    if kind == SIMPLE_PACKET:
        captured = wire = struct.unpack_from(order + "I", body)[0]
    else:
        fields = struct.unpack_from(order + ("IIIII" if kind == ENHANCED_PACKET else "HHIIII"), body)
        number, (high, low, captured, wire) = fields[0], fields[-4:]
        ticks = high << 32 | low
    if kind == SIMPLE_PACKET and not interfaces:
        raise NotACapture("simple packet before any interface")
    interface = interfaces[number] if number < len(interfaces) else UNDESCRIBED
    if kind == SIMPLE_PACKET:  # tells no captured length: what the snap length and the block leave of the wire's
        captured = min(captured, interface.snap_bytes or captured, len(body) - fixed)
    if fixed + captured > len(body):
        raise NotACapture(f"packet of {captured} bytes in a block of {len(body)}")
    ts = ts_before
    if ticks is not None:
        ts = ticks * 1_000_000 // interface.ticks_per_s + interface.offset_s * 1_000_000
        ts = min(max(ts, 0), LAST_US)
    return Frame(ts, interface.link_type, max(wire, captured), body[fixed : fixed + captured])
