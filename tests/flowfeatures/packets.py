"""Frames and capture files for tests, built from bytes.

Addresses are text, ports and lengths integers; payload bytes are zeros, since nobody looks at them. Times are integer
microseconds. Checksums are left 0: the meter does not read them.
"""

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

ETHERNET, RAW, COOKED, COOKED_2, NULL, LOOP = 1, 101, 113, 276, 0, 108
DEVICE, SERVER = "192.168.1.10", "203.0.113.5"
DEVICE_MAC, ROUTER_MAC = "02:00:00:00:00:10", "02:00:00:00:00:01"
START_US = 1_700_000_000_000_000
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}

TimedFrame = tuple[int, bytes]


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of aa:bb:cc:dd:ee:ff."""
    return bytes.fromhex(mac.replace(":", ""))


def tcp(
    src_port: int,
    dst_port: int,
    flags: str = "A",
    payload_bytes: int = 0,
    *,
    window: int = 1000,
    seq: int = 0,
    ack: int = 0,
    options_bytes: int = 0,
) -> bytes:
    """Return a TCP segment; `flags` is a string of F S R P A U E C."""
    bits = sum(FLAGS[letter] for letter in flags)
    offset = (20 + options_bytes) // 4 << 4
    header = struct.pack(">HHIIBBHHH", src_port, dst_port, seq, ack, offset, bits, window, 0, 0)
    return header + bytes(options_bytes + payload_bytes)


def udp(src_port: int, dst_port: int, payload_bytes: int = 0) -> bytes:
    """Return a UDP datagram."""
    return struct.pack(">HHHH", src_port, dst_port, 8 + payload_bytes, 0) + bytes(payload_bytes)


def ipv4(
    segment: bytes,
    proto: int,
    *,
    src: str = DEVICE,
    dst: str = SERVER,
    fragment_offset: int = 0,
    more_fragments: bool = False,
    options_bytes: int = 0,
    total_length: int | None = None,
) -> bytes:
    """Return an IPv4 packet; `fragment_offset` is in bytes, a multiple of 8."""
    length = 20 + options_bytes + len(segment) if total_length is None else total_length
    fragment = fragment_offset // 8 | (0x2000 if more_fragments else 0)
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | (20 + options_bytes) // 4,
        0,
        length,
        1,
        fragment,
        64,
        proto,
        0,
        ipaddress.IPv4Address(src).packed,
        ipaddress.IPv4Address(dst).packed,
    )
    return header + bytes(options_bytes) + segment


def ipv6(
    segment: bytes,
    next_header: int,
    *,
    src: str = "2001:db8::10",
    dst: str = "2001:db8:ffff::5",
    payload_length: int | None = None,
) -> bytes:
    """Return an IPv6 packet; extension headers are part of `segment`, built by `extension` and `fragment_header`."""
    length = len(segment) if payload_length is None else payload_length
    addresses = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    return struct.pack(">IHBB", 6 << 28, length, next_header, 64) + addresses + segment


def extension(next_header: int, units: int = 0) -> bytes:
    """Return a hop-by-hop, routing or destination options header of 8 * (units + 1) bytes."""
    return struct.pack(">BB", next_header, units) + bytes(6 + 8 * units)


def fragment_header(next_header: int, *, offset: int, more: bool) -> bytes:
    """Return an IPv6 fragment header; `offset` in bytes."""
    return struct.pack(">BBHI", next_header, 0, offset // 8 << 3 | more, 7)


def ethernet(
    packet: bytes,
    *,
    src: str = DEVICE_MAC,
    dst: str = ROUTER_MAC,
    vlans: Sequence[int] = (),
    ether_type: int | None = None,
    pad_to: int = 0,
) -> bytes:
    """Return an Ethernet II frame; `vlans` outer first, as 802.1Q or (outer of two) 802.1ad tags."""
    if ether_type is None:
        ether_type = 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800
    tags = b""
    for depth, vlan in enumerate(vlans):
        is_service_tag = len(vlans) - depth == 2
        tags += struct.pack(">HH", 0x88A8 if is_service_tag else 0x8100, vlan)
    frame = mac_bytes(dst) + mac_bytes(src) + tags + struct.pack(">H", ether_type) + packet
    return frame.ljust(pad_to, b"\0")


def cooked(packet: bytes, *, ether_type: int = 0x0800, packet_type: int = 0, mac: str = DEVICE_MAC) -> bytes:
    """Return a Linux cooked (v1) frame."""
    return struct.pack(">HHH8sH", packet_type, 1, 6, mac_bytes(mac), ether_type) + packet


def cooked_2(packet: bytes, *, ether_type: int = 0x0800, packet_type: int = 0, mac: str = DEVICE_MAC) -> bytes:
    """Return a Linux cooked v2 frame."""
    return struct.pack(">HHIHBB8s", ether_type, 0, 3, 1, packet_type, 6, mac_bytes(mac)) + packet


class Conversation:
    """Frames between two ends over Ethernet: `out` from the device, `back` from the other side.

    Times are seconds after `START_US`, exact to the microsecond when written with six digits or as integers.
    """

    def __init__(
        self, *, device_port: int = 40000, server_port: int = 80, device: str = DEVICE, server: str = SERVER
    ) -> None:
        self.frames: list[TimedFrame] = []
        self.ports = device_port, server_port
        self.addresses = device, server
        self._ip = ipv6 if ":" in device else ipv4

    def out(self, at_s: float, flags: str = "A", payload_bytes: int = 0, **fields: int) -> "Conversation":
        """Add a TCP packet from the device."""
        src, dst = self.addresses
        packet = self._ip(tcp(*self.ports, flags, payload_bytes, **fields), 6, src=src, dst=dst)
        self.frames.append((time_us(at_s), ethernet(packet)))
        return self

    def back(self, at_s: float, flags: str = "A", payload_bytes: int = 0, **fields: int) -> "Conversation":
        """Add a TCP packet to the device."""
        dst, src = self.addresses
        packet = self._ip(tcp(*self.ports[::-1], flags, payload_bytes, **fields), 6, src=src, dst=dst)
        self.frames.append((time_us(at_s), ethernet(packet, src=ROUTER_MAC, dst=DEVICE_MAC)))
        return self


def time_us(at_s: float) -> int:
    """Return the absolute time of a number of seconds after START_US."""
    return START_US + round(at_s * 1_000_000)


def udp_frame(
    at_s: float, *, payload_bytes: int = 0, back: bool = False, ports: tuple[int, int] = (5000, 53)
) -> TimedFrame:
    """Return a timed UDP frame from the device, or to it when `back`."""
    src, dst = (SERVER, DEVICE) if back else (DEVICE, SERVER)
    segment = udp(*(ports[::-1] if back else ports), payload_bytes)
    return time_us(at_s), ethernet(ipv4(segment, 17, src=src, dst=dst))


def pcap_bytes(
    frames: Iterable[TimedFrame],
    *,
    order: str = "<",
    nanoseconds: bool = False,
    link_type: int = ETHERNET,
    snap: int = 0,
) -> bytes:
    """Return a pcap file in either byte order and resolution; `snap` cuts what is captured, 0 keeps all."""
    magic, ticks_per_us = (0xA1B23C4D, 1000) if nanoseconds else (0xA1B2C3D4, 1)
    content = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap or 262_144, link_type)
    for ts, frame in frames:
        captured = frame[:snap] if snap else frame
        seconds, micros = divmod(ts, 1_000_000)
        content += struct.pack(order + "IIII", seconds, micros * ticks_per_us, len(captured), len(frame)) + captured
    return content


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a pcapng block, padded to four bytes."""
    padded = body + bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(padded) + 12)
    return struct.pack(order + "I", kind) + length + padded + length


def section_header(order: str = "<") -> bytes:
    """Return a section header block of unknown section length."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface_block(
    link_type: int = ETHERNET, order: str = "<", *, tsresol: int | None = None, offset_s: int = 0
) -> bytes:
    """Return an interface description; `tsresol` is the option's byte (6 = microseconds, 0x80 | n = powers of two)."""
    options = b""
    if tsresol is not None:
        options += struct.pack(order + "HHBxxx", 9, 1, tsresol)
    if offset_s:
        options += struct.pack(order + "HHq", 14, 8, offset_s)
    return block(1, struct.pack(order + "HHI", link_type, 0, 0) + options + (bytes(4) if options else b""), order)


def enhanced_packet(
    ticks: int, frame: bytes, order: str = "<", *, interface: int = 0, wire_bytes: int | None = None
) -> bytes:
    """Return an enhanced packet block; `ticks` in the resolution of its interface."""
    wire = len(frame) if wire_bytes is None else wire_bytes
    fields = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), wire)
    return block(6, fields + frame, order)


def pcapng_bytes(frames: Iterable[TimedFrame], *, order: str = "<", link_type: int = ETHERNET) -> bytes:
    """Return a pcapng file of one section and one interface, in microseconds."""
    packets = b"".join(enhanced_packet(ts, frame, order) for ts, frame in frames)
    return section_header(order) + interface_block(link_type, order) + packets


def write_pcap(path: Path, frames: Iterable[TimedFrame], **form: int) -> Path:
    """Write the frames as pcap; return the path."""
    path.write_bytes(pcap_bytes(frames, **form))
    return path
