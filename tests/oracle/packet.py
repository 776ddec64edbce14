"""One frame's headers, or the reason why they cannot be read.

Addresses are 16 bytes (IPv4 as ::ffff:a.b.c.d). Lengths come from the IP header, not from what was captured. Payload
bytes are never kept.
"""

import struct
from dataclasses import dataclass

from tests.oracle.reader import (
    COOKED,
    COOKED_2,
    ETHERNET,
    LOOP,
    NULL,
    RAW_TYPES,
    Frame,
)

VLAN_TYPES = (0x8100, 0x88A8, 0x9100)
VERSION_OF_TYPE = {0x0800: 4, 0x86DD: 6}
VERSION_OF_FAMILY = {2: 4, 10: 6, 24: 6, 28: 6, 30: 6}  # AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD, Darwin
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 51, 60, 135, 139, 140
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY, HIP, SHIM6)
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
SUPER_FRAME_ABOVE_BYTES = 1500
NO_MAC = bytes(6)


class Undecoded(Exception):
    """Carries the reason under which the frame is counted."""


@dataclass
class Packet:
    """The headers of one frame; `hdr` and `pay` as the specification defines them."""

    ts: int = 0
    wire_bytes: int = 0
    ip_version: int = 4
    src: bytes = b""
    dst: bytes = b""
    src_port: int = 0
    dst_port: int = 0
    proto: int = 0
    vlan: tuple[int, int] = (0, 0)
    src_mac: bytes = NO_MAC
    group: bool = False
    hdr: int = 0
    pay: int = 0
    win: int = 0
    flags: int = 0
    seq: int = 0
    ack: int = 0
    ip_bytes: int = 0


def decode(frame: Frame) -> Packet:
    """Return the packet of a frame; raise Undecoded with the reason where there is none."""
    packet = Packet(ts=frame.ts, wire_bytes=frame.wire_bytes)
    version, at = decode_link(frame, packet)
    if version == 4:
        decode_ipv4(frame, at, packet)
    else:
        decode_ipv6(frame, at, packet)
    return packet


def decode_link(frame: Frame, packet: Packet) -> tuple[int, int]:
    """Return (IP version, offset of the IP header); fill in MAC, VLAN ids and link-level group."""
    data = frame.data
    if frame.link_type in RAW_TYPES:
        return raw_version(frame), 0
    if frame.link_type in (NULL, LOOP):
        if len(data) < 4:
            raise Undecoded("truncated_link")
        family = int.from_bytes(data[:4], "big")
        if frame.link_type == NULL:  # in the byte order of the machine that captured; LOOP is in the network's
            family = min(family, int.from_bytes(data[:4], "little"))
        if family not in VERSION_OF_FAMILY:
            raise Undecoded("not_ip")
        return VERSION_OF_FAMILY[family], 4
    header = {ETHERNET: 14, COOKED: 16, COOKED_2: 20}.get(frame.link_type)
    if header is None:
        raise Undecoded("unsupported_link")
    if len(data) < header:
        raise Undecoded("truncated_link")
    if frame.link_type == ETHERNET:
        packet.src_mac, packet.group = data[6:12], bool(data[0] & 1)
        ether_type = int.from_bytes(data[12:14], "big")
    elif frame.link_type == COOKED:
        packet_type, _, address_bytes, address, ether_type = struct.unpack_from(">HHH8sH", data)
        packet.src_mac = address[:6] if address_bytes == 6 else NO_MAC
        packet.group = packet_type in (1, 2)
    else:
        ether_type, _, _, _, packet_type, address_bytes, address = struct.unpack_from(">HHIHBB8s", data)
        packet.src_mac = address[:6] if address_bytes == 6 else NO_MAC
        packet.group = packet_type in (1, 2)
    return skip_tags(data, header, ether_type, packet)


def raw_version(frame: Frame) -> int:
    """Return the version nibble of a raw IP frame, whatever version its link type names."""
    if not frame.data:
        raise Undecoded("truncated_ip")
    version = frame.data[0] >> 4
    if version not in (4, 6):
        raise Undecoded("not_ip")
    return version


def skip_tags(data: bytes, at: int, ether_type: int, packet: Packet) -> tuple[int, int]:
    """Return (IP version, offset of the IP header) behind any VLAN tags; keep the two outer ids."""
    vlans = []
    while ether_type in VLAN_TYPES:
        if len(data) < at + 4:
            raise Undecoded("truncated_link")
        tag, ether_type = struct.unpack_from(">HH", data, at)
        vlans.append(tag & 0x0FFF)
        at += 4
    packet.vlan = (*vlans, 0, 0)[:2]
    if ether_type not in VERSION_OF_TYPE:
        raise Undecoded("not_ip")
    return VERSION_OF_TYPE[ether_type], at


def decode_ipv4(frame: Frame, at: int, packet: Packet) -> None:
    """Fill in addresses, protocol and layer 4 of an IPv4 packet."""
    ip = frame.data[at:]
    if len(ip) < 1:
        raise Undecoded("truncated_ip")
    if ip[0] >> 4 != 4:
        raise Undecoded("not_ip")
    if len(ip) < 20:
        raise Undecoded("truncated_ip")
    header = (ip[0] & 15) * 4
    if header < 20:
        raise Undecoded("bad_ihl")
    if len(ip) < header:
        raise Undecoded("truncated_ip")
    stated, _, fragment, _, proto = struct.unpack_from(">HHHBB", ip, 2)
    on_wire = frame.wire_bytes - at
    packet.ip_version, packet.ip_bytes = 4, min(stated, on_wire) if stated else on_wire
    mapped = bytes(10) + b"\xff\xff"
    packet.src, packet.dst, packet.proto = mapped + ip[12:16], mapped + ip[16:20], proto
    packet.group = packet.group or ip[16] >> 4 == 14 or ip[16:20] == b"\xff\xff\xff\xff"
    if fragment & 0x1FFF == 0:
        decode_layer4(ip, header, packet)


def decode_ipv6(frame: Frame, at: int, packet: Packet) -> None:
    """Fill in addresses, protocol behind the extension headers, and layer 4 of an IPv6 packet.

    A later fragment's protocol is what its fragment header names, even another extension header. Mobility, HIP and
    shim6 count as extension headers (RFC 7045); ESP does not, since nothing behind it can be read.
    """
    ip = frame.data[at:]
    if len(ip) < 1:
        raise Undecoded("truncated_ip")
    if ip[0] >> 4 != 6:
        raise Undecoded("not_ip")
    if len(ip) < 40:
        raise Undecoded("truncated_ip")
    stated, proto = struct.unpack_from(">HB", ip, 4)
    on_wire = frame.wire_bytes - at
    packet.ip_version, packet.ip_bytes = 6, min(stated + 40, on_wire) if stated else on_wire
    packet.src, packet.dst = ip[8:24], ip[24:40]
    packet.group = packet.group or ip[24] == 0xFF
    header, is_later_fragment = 40, False
    while proto in EXTENSIONS and not is_later_fragment:
        if len(ip) < header + 8:
            raise Undecoded("truncated_ip")
        if proto == FRAGMENT:
            length = 8
            is_later_fragment = int.from_bytes(ip[header + 2 : header + 4], "big") >> 3 > 0
        elif proto == AUTHENTICATION:
            length = (ip[header + 1] + 2) * 4
        else:
            length = (ip[header + 1] + 1) * 8
        proto = ip[header]
        header += length
        if len(ip) < header:
            raise Undecoded("truncated_ip")
    packet.proto = proto
    if not is_later_fragment:
        decode_layer4(ip, header, packet)


def decode_layer4(ip: bytes, header: int, packet: Packet) -> None:
    """Fill in ports, `hdr`, `pay` and the TCP fields; `header` is where layer 4 begins."""
    held = packet.ip_bytes - header
    segment = ip[header:]
    if packet.proto in (ICMP, ICMPV6):
        return
    if packet.proto == TCP:
        if len(segment) < 20:
            raise Undecoded("truncated_l4")
        packet.hdr = (segment[12] >> 4) * 4
        if packet.hdr < 20 or packet.hdr > held:
            raise Undecoded("bad_offset")
        packet.src_port, packet.dst_port, packet.seq, packet.ack = struct.unpack_from(">HHII", segment)
        packet.flags, packet.win = segment[13], int.from_bytes(segment[14:16], "big")
    elif packet.proto == UDP:
        if len(segment) < 8:
            raise Undecoded("truncated_l4")
        packet.hdr = 8
        packet.src_port, packet.dst_port = struct.unpack_from(">HH", segment)
    packet.pay = max(0, held - packet.hdr)
