"""Small captures of every kind the readers and the decoder know: what mutations and the fuzzing corpus start from.

All are built from bytes by the builders of the flow tests; none comes from a wire. `traffic()` is what one link sees:
TCP in all its states, UDP, fragments, options, extension headers, tags, trains, quiet spells, and what is no IP.
"""

import struct
from collections.abc import Callable
from functools import cache

from tests.flowfeatures.packets import (
    COOKED,
    COOKED_2,
    ETHERNET,
    LOOP,
    NULL,
    RAW,
    START_US,
    Conversation,
    TimedFrame,
    block,
    cooked,
    cooked_2,
    enhanced_packet,
    ethernet,
    extension,
    fragment_header,
    interface_block,
    ipv4,
    ipv6,
    pcap_bytes,
    pcapng_bytes,
    section_header,
    tcp,
    udp,
    udp_frame,
)

SECOND_US = 1_000_000


def conversations() -> list[TimedFrame]:
    """Return TCP flows: closed by FINs, reset, refused, half-open, reopened, cut, with late packets."""
    closed = Conversation().out(0, "S").back(0.01, "SA", seq=100).out(0.02, "A", ack=101, payload_bytes=300)
    closed.back(0.03, "PA", 1400).out(0.5, "FA").back(0.51, "FA").out(0.52, "A").out(0.6, "S")
    reset = Conversation(device_port=40001).out(0.1, "S").back(0.11, "SA").out(0.2, "PA", 10).back(7, "R")
    refused = Conversation(device_port=40002, server_port=23).out(0.3, "S").back(0.31, "RA")
    half_open = Conversation(device_port=40003, server_port=22)
    for at_s in (0.4, 1.4, 3.4, 9.5):
        half_open.out(at_s, "S")
    answered_first = Conversation(device_port=40004).back(0.5, "SA").out(0.6, "A")
    odd = Conversation(device_port=40005).out(0.7, "").back(0.7, "SFRPAUEC", 3, options_bytes=12)
    long = Conversation(device_port=40006)
    for at_s in range(0, 130, 10):
        long.out(at_s, "PA", 100).back(at_s + 0.25, "A", window=at_s)
    late = Conversation(device_port=40007).out(8, "S").out(2, "A").out(8, "A", 5)
    every = (closed, reset, refused, half_open, answered_first, odd, long, late)
    return [frame for each in every for frame in each.frames]


def datagrams() -> list[TimedFrame]:
    """Return UDP both ways, a train of it, ICMP, GRE, ESP-like, a multicast and a broadcast, both ends the same."""
    frames = [udp_frame(1, payload_bytes=30), udp_frame(1.02, payload_bytes=200, back=True)]
    frames += [udp_frame(2 + i / 1000, payload_bytes=10 * i, ports=(6000, 5683)) for i in range(9)]
    others = [
        ipv4(b"\x08\0" + bytes(30), 1),
        ipv4(bytes(60), 47),
        ipv4(bytes(8), 50),
        ipv4(udp(5353, 5353, 40), 17, dst="224.0.0.251"),
        ipv4(udp(68, 67, 240), 17, src="0.0.0.0", dst="255.255.255.255"),
        ipv4(udp(7, 7, 1), 17, src="10.0.0.1", dst="10.0.0.1"),
        ipv4(udp(1, 2), 17, total_length=0),
    ]
    return frames + [(START_US + 3 * SECOND_US + i, ethernet(packet)) for i, packet in enumerate(others)]


def odd_packets() -> list[bytes]:
    """Return IP packets with options, extension headers, fragments, and lengths that lie."""
    return [
        ipv4(tcp(1, 2, "S", options_bytes=20), 6, options_bytes=40),
        ipv4(udp(9, 9, 1480), 17, more_fragments=True),
        ipv4(bytes(600), 17, fragment_offset=1480),
        ipv4(tcp(3, 4, "S"), 6, total_length=65535),
        ipv4(tcp(3, 4, "S")[:12], 6),
        b"\x43" + ipv4(b"", 6)[1:],
        ipv6(extension(60) + extension(43, 1) + extension(6, 2) + tcp(5, 6, "S"), 0),
        ipv6(extension(51) + struct.pack(">BB", 17, 1) + bytes(10) + udp(7, 8, 5), 0),
        ipv6(fragment_header(17, offset=0, more=True) + udp(7, 8, 100), 44),
        ipv6(fragment_header(6, offset=1480, more=False) + bytes(100), 44),
        ipv6(b"\x80\0" + bytes(20), 58, dst="ff02::1"),
        ipv6(extension(0, 255)[:16], 0),
        ipv6(udp(1, 1), 17, payload_length=65535),
    ]


@cache
def traffic() -> tuple[TimedFrame, ...]:
    """Return one link's frames, by time but for one that comes late."""
    tagged = [
        (START_US + 4 * SECOND_US, ethernet(ipv4(udp(1, 2, 3), 17), vlans=(10,))),
        (START_US + 4 * SECOND_US + 1, ethernet(ipv6(tcp(1, 2, "S"), 6), vlans=(10, 20))),
        (START_US + 4 * SECOND_US + 2, ethernet(ipv4(udp(1, 2, 3), 17), vlans=(1, 2, 3, 4095))),
        (START_US + 4 * SECOND_US + 3, ethernet(bytes(28), ether_type=0x0806, pad_to=60)),
        (START_US + 4 * SECOND_US + 4, ethernet(ipv4(udp(1, 2), 17), pad_to=60)),
    ]
    odd = [(START_US + 5 * SECOND_US + i, ethernet(packet)) for i, packet in enumerate(odd_packets())]
    late_us = START_US + 2 * SECOND_US
    every = [*conversations(), *datagrams(), *tagged, *odd]
    in_order = sorted((each for each in every if each[0] != late_us), key=lambda each: each[0])
    return (*in_order, *(each for each in every if each[0] == late_us))


def packets_at(link: Callable[[bytes], bytes], *, count: int = 25) -> list[TimedFrame]:
    """Return some IP packets behind another link header; half a second lies between any two."""
    packets = [*odd_packets(), *(frame[14:] for _, frame in (*conversations()[:8], *datagrams()[:8]))]
    return [(START_US + i * SECOND_US // 2, link(packet)) for i, packet in enumerate(packets[:count])]


def version_of(packet: bytes) -> int:
    """Return 4 or 6."""
    return 6 if packet[:1] and packet[0] >> 4 == 6 else 4


def ether_type_of(packet: bytes) -> int:
    """Return the EtherType of an IP packet."""
    return 0x86DD if version_of(packet) == 6 else 0x0800


def loopback(packet: bytes, *, order: str, ipv6_family: int) -> bytes:
    """Return a BSD loopback frame."""
    return struct.pack(order + "I", ipv6_family if version_of(packet) == 6 else 2) + packet


def many_interfaces(order: str) -> bytes:
    """Return a pcapng of two sections, six interfaces of several links and clocks, and every kind of packet block."""
    clocks = ((None, 0), (9, 0), (0x8A, 0), (3, 3600), (0xFF, -(2**40)), (19, 2**62))
    links = (ETHERNET, RAW, COOKED_2, ETHERNET, 147, LOOP)
    content = section_header(order)
    for link, (tsresol, offset_s) in zip(links, clocks, strict=True):
        content += interface_block(link, order, tsresol=tsresol, offset_s=offset_s)
    content += block(5, bytes(12), order) + block(4, bytes(4), order)
    for i, (ts_us, frame) in enumerate(traffic()[:18]):
        interface = i % 7
        octets = frame if interface in (0, 3, 6) else cooked_2(frame[14:]) if interface == 2 else frame[14:]
        content += enhanced_packet(ts_us * (1000 if interface == 1 else 1), octets, order, interface=interface)
    simple = ethernet(ipv4(udp(3, 3, 3), 17))
    content += block(3, struct.pack(order + "I", len(simple)) + simple, order)
    old = struct.pack(order + "HHIIII", 1, 0, 0, 5, len(simple) - 14, len(simple) - 14) + simple[14:]
    content += block(2, old, order)
    return content + section_header(order) + interface_block(ETHERNET, order) + block(6, bytes(20), order)


@cache
def captures() -> dict[str, bytes]:
    """Return the captures by name; each is a whole file."""
    frames = traffic()
    return {
        "pcap": pcap_bytes(frames),
        "pcap_big_endian": pcap_bytes(frames[:40], order=">"),
        "pcap_ns": pcap_bytes(frames[:40], nanoseconds=True),
        "pcap_ns_big_endian": pcap_bytes(frames[-40:], order=">", nanoseconds=True),
        "pcap_snapped": pcap_bytes(frames[:60], snap=58),
        "pcap_empty": pcap_bytes([]),
        "cooked": pcap_bytes(packets_at(lambda it: cooked(it, ether_type=ether_type_of(it))), link_type=COOKED),
        "cooked_2": pcap_bytes(packets_at(lambda it: cooked_2(it, ether_type=ether_type_of(it))), link_type=COOKED_2),
        "raw": pcap_bytes(packets_at(lambda it: it), link_type=RAW),
        "null": pcap_bytes(packets_at(lambda it: loopback(it, order="<", ipv6_family=10)), link_type=NULL),
        "loop": pcap_bytes(packets_at(lambda it: loopback(it, order=">", ipv6_family=24)), link_type=LOOP),
        "pcapng": pcapng_bytes(frames[:60]),
        "pcapng_big_endian": pcapng_bytes(frames[-40:], order=">"),
        "interfaces": many_interfaces("<"),
        "interfaces_big_endian": many_interfaces(">"),
    }
