"""Single frames as the wire and the capturing may leave them: link types, tags, header chains, lengths that lie, cuts.

Streams of flows are `streams.py`'s. Here a frame is more often odd than not, and several link types may share a file.
"""

import struct
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.flowfeatures.packets import (
    COOKED,
    COOKED_2,
    ETHERNET,
    LOOP,
    NULL,
    RAW,
    START_US,
    enhanced_packet,
    extension,
    fragment_header,
    interface_block,
    ipv4,
    ipv6,
    mac_bytes,
    section_header,
    tcp,
    udp,
)

ICMP, IGMP, TCP, UDP, GRE, ESP, ICMPV6, NO_NEXT, SCTP = 1, 2, 6, 17, 47, 50, 58, 59, 132
FRAGMENT, AUTHENTICATION = 44, 51
OPTIONS = (0, 43, 60, 135, 139, 140)  # hop-by-hop, routing, destination, mobility, HIP, shim6: all of one form
RAW_TYPES, UNSUPPORTED = (RAW, 12, 14, 228, 229), (105, 9)
ENDS = (("10.0.0.1", "10.0.0.2"), ("10.0.0.1", "239.1.2.3"), ("10.0.0.1", "10.0.0.1"))
ENDS_6 = (("fe80::1", "fe80::2"), ("fe80::1", "ff02::fb"), ("::1", "::1"))
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00")
LENGTHS = ("true", "true", "true", "zero", "less", "more", "most")


class Wire(NamedTuple):
    """One frame, small enough to read in a failing example."""

    after_us: int
    link: int
    version: int
    proto: int
    ends: int
    ports: tuple[int, int]
    is_back: bool
    flags: str
    payload_bytes: int
    absent_bytes: int
    """Payload that was on the wire and that the capture leaves out: a snap length, or a super-frame."""
    length: str
    """What the IP header says of its length."""
    options_bytes: int
    data_offset: int | None
    """Of TCP, in words, where it is not the true one."""
    chain: tuple[tuple[int, int], ...]
    """IPv6 extension headers: (kind, units of length; of a fragment header, its offset in bytes)."""
    fragment: tuple[int, bool]
    tags: tuple[tuple[int, int], ...]
    """VLAN tags, outer first: (type, id)."""
    macs: tuple[str, str]
    packet_type: int
    """Of a cooked frame: 0 to us, 1 broadcast, 2 multicast, 3 to others, 4 outgoing."""
    family: bytes
    """Of a null or loopback frame, as it stands there."""
    cut: int | None
    """Octets captured of what is built."""
    damage: tuple[tuple[int, int], ...]
    """(place, value) of octets that are overwritten."""


def chains() -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    """Return a strategy for up to four extension headers, any of which may name a first or a later fragment."""
    options = st.tuples(st.sampled_from(OPTIONS), st.sampled_from((0, 0, 1, 3)))
    fragments = st.tuples(st.just(FRAGMENT), st.sampled_from((0, 0, 8, 1448)))
    authentication = st.tuples(st.just(AUTHENTICATION), st.sampled_from((0, 2, 4)))
    return st.lists(st.one_of(options, fragments, authentication), max_size=4).map(tuple)


def wires(*, links: tuple[int, ...] = (ETHERNET, COOKED, COOKED_2, *RAW_TYPES, NULL, LOOP, *UNSUPPORTED)):
    """Return a strategy for one frame; half of them are Ethernet."""
    families = tuple(struct.pack(order + "I", family) for order in "<>" for family in (2, 10, 24, 28, 30, 7))
    return st.builds(
        Wire,
        after_us=st.sampled_from((0, 0, 1, 1_000_001, 5_000_001, -1, -1_000_000)),
        link=st.one_of(st.just(ETHERNET), st.sampled_from(links)),
        version=st.sampled_from((4, 6)),
        proto=st.sampled_from((*[TCP] * 8, *[UDP] * 4, ICMP, ICMPV6, IGMP, GRE, ESP, SCTP, NO_NEXT, 255)),
        ends=st.sampled_from((0, 0, 0, 1, 2)),
        ports=st.sampled_from(((40000, 80), (53, 53), (5353, 5353), (0, 0))),
        is_back=st.booleans(),
        flags=st.sampled_from(("S", "SA", "A", "PA", "FA", "R", "", "SECPUFRA")),
        payload_bytes=st.sampled_from((0, 1, 8, 40)),
        absent_bytes=st.sampled_from((0, 0, 0, 1400, 1460, 1461, 9_000, 65_000, 65_483, 65_495, 200_000)),
        length=st.sampled_from(LENGTHS),
        options_bytes=st.sampled_from((0, 0, 4, 40)),
        data_offset=st.sampled_from((None, None, None, 0, 4, 5, 15)),
        chain=st.one_of(st.just(()), chains()),
        fragment=st.sampled_from(((0, False), (0, False), (0, True), (8, True), (1480, False))),
        tags=st.lists(
            st.tuples(st.sampled_from((0x8100, 0x88A8, 0x9100)), st.sampled_from((0, 1, 10, 20, 4095, 0xE00A))),
            max_size=3,
        ).map(tuple),
        macs=st.tuples(st.sampled_from(MACS), st.sampled_from(MACS)),
        packet_type=st.integers(0, 4),
        family=st.sampled_from(families),
        cut=st.one_of(st.none(), st.none(), st.integers(0, 130), st.integers(34, 80)),
        damage=st.one_of(
            st.just(()), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=2).map(tuple)
        ),
    )


def stated(wire: Wire, true_bytes: int) -> int:
    """Return what the 16 bits of the IP header's length say."""
    lengths = {"true": true_bytes, "zero": 0, "less": max(0, true_bytes - 9), "more": true_bytes + 9, "most": 0xFFFF}
    return lengths[wire.length] & 0xFFFF


def ip_packet(wire: Wire) -> bytes:
    """Return the IP packet as far as it is at hand."""
    ports = wire.ports[::-1] if wire.is_back else wire.ports
    if wire.proto == TCP:
        segment = tcp(*ports, wire.flags, wire.payload_bytes, seq=100, ack=101, options_bytes=wire.options_bytes)
        if wire.data_offset is not None:
            segment = segment[:12] + bytes([wire.data_offset << 4]) + segment[13:]
    elif wire.proto == UDP:
        segment = udp(*ports, wire.payload_bytes)
    else:
        segment = bytes(wire.payload_bytes)
    src, dst = (ENDS if wire.version == 4 else ENDS_6)[wire.ends][:: -1 if wire.is_back else 1]
    if wire.version == 4:
        length = stated(wire, 20 + wire.options_bytes + len(segment) + wire.absent_bytes)
        offset, more = wire.fragment
        return ipv4(
            segment,
            wire.proto,
            src=src,
            dst=dst,
            fragment_offset=offset,
            more_fragments=more,
            options_bytes=wire.options_bytes,
            total_length=length,
        )
    proto = wire.proto
    for kind, size in reversed(wire.chain):
        if kind == FRAGMENT:
            header = fragment_header(proto, offset=size, more=True)
        elif kind == AUTHENTICATION:
            header = struct.pack(">BB", proto, size) + bytes((size + 2) * 4 - 2)
        else:
            header = extension(proto, size)
        segment, proto = header + segment, kind
    return ipv6(segment, proto, src=src, dst=dst, payload_length=stated(wire, len(segment) + wire.absent_bytes))


def frame(wire: Wire) -> bytes:
    """Return the frame as far as it is at hand, before damage and cut."""
    packet = ip_packet(wire)
    ether_type = 0x0800 if wire.version == 4 else 0x86DD
    if wire.link in (NULL, LOOP):
        return wire.family + packet
    if wire.link not in (ETHERNET, COOKED, COOKED_2):
        return packet
    src, dst = (mac_bytes(mac) for mac in wire.macs)
    first_type, behind = ether_type, b""
    if wire.tags:
        types = [kind for kind, _ in wire.tags] + [ether_type]
        first_type = types[0]
        behind = b"".join(struct.pack(">HH", wire.tags[i][1], types[i + 1]) for i in range(len(wire.tags)))
    if wire.link == ETHERNET:
        return dst + src + struct.pack(">H", first_type) + behind + packet
    address_bytes = 6 if any(src) else 0
    if wire.link == COOKED:
        head = struct.pack(">HHH8sH", wire.packet_type, 1, address_bytes, src, first_type)
    else:
        head = struct.pack(">HHIHBB8s", first_type, 0, 3, 1, wire.packet_type, address_bytes, src)
    return head + behind + packet


def write_wires(path: Path, sequence: list[Wire]) -> Path:
    """Write the frames to a pcapng file with one interface per link type; return the path."""
    links = list(dict.fromkeys(wire.link for wire in sequence))
    content, at_us = section_header() + b"".join(interface_block(link) for link in links), START_US
    for wire in sequence:
        at_us += wire.after_us
        whole = bytearray(frame(wire))
        for at, value in wire.damage:
            if at < len(whole):
                whole[at] = value
        captured = bytes(whole[: wire.cut])
        on_wire = len(whole) + wire.absent_bytes
        content += enhanced_packet(at_us, captured, interface=links.index(wire.link), wire_bytes=on_wire)
    path.write_bytes(content)
    return path
