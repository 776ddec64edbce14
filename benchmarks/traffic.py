"""Generated captures that benchmarks read: the same bytes on every machine, for the same number of packets.

Two kinds. `mixed` is what a gateway with some forty devices carries: many lookups of two packets, web and MQTT
sessions, a few long transfers. `flood` is a spoofed SYN flood: every second packet a new flow, each answered once.
The trap: this is traffic for timing, not for training. Payload is noise, and TCP and UDP checksums are left zero.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

CACHE = Path(".cache") / "bench"

START_US = 1_700_000_000_000_000
MIXED_SPAN_US = 600_000_000
FLOOD_GAP_US = 200  # between SYNs: 5,000 of them per second
FLOOD_VICTIM = 0x0A000005

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ICMP, TCP, UDP = 1, 6, 17
MAC_LAN, MAC_GATEWAY = bytes.fromhex("02000000000a"), bytes.fromhex("020000000001")
NOISE = random.Random(0).randbytes(4096)

Event = tuple[int, bytes]  # time in us, frame


def ipv4(source: int, destination: int, protocol: int, body: bytes) -> bytes:
    """Return an Ethernet frame around one IPv4 packet, its header checksum right."""
    header = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0, source, destination)
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return MAC_GATEWAY + MAC_LAN + b"\x08\x00" + header[:10] + struct.pack(">H", checksum) + header[12:] + body


class Conversation:
    """Two ends that speak in turn; collects the frames and their times."""

    def __init__(self, rng: random.Random, *, protocol: int, start_us: int, peer: int, port: int) -> None:
        self.rng, self.protocol, self.now_us = rng, protocol, start_us
        self.ends = (0x0A000000 | rng.randrange(2, 42), peer)
        self.ports = (rng.randrange(32768, 61000), port)
        self.sequence = [rng.getrandbits(32), rng.getrandbits(32)]
        self.events: list[Event] = []

    def send(self, sender: int, length: int, *, flags: int = ACK, after_us: float = 1000.0) -> None:
        """Append a packet of `length` payload bytes from end 0 or 1, a random time around `after_us` later."""
        self.now_us += 1 + int(self.rng.expovariate(1.0 / after_us))
        source, destination = self.ends[sender], self.ends[1 - sender]
        ports = self.ports if sender == 0 else self.ports[::-1]
        payload = NOISE[:length]
        if self.protocol == TCP:
            acknowledged = self.sequence[1 - sender] if flags & ACK else 0
            head = struct.pack(">HHIIBBHHH", *ports, self.sequence[sender], acknowledged, 0x50, flags, 64240, 0, 0)
            self.sequence[sender] = (self.sequence[sender] + length + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        elif self.protocol == UDP:
            head = struct.pack(">HHHH", *ports, 8 + length, 0)
        else:
            head = struct.pack(">BBHHH", 0 if sender else 8, 0, 0, self.ports[0], len(self.events))
        self.events.append((self.now_us, ipv4(source, destination, self.protocol, head + payload)))

    def open(self) -> None:
        self.send(0, 0, flags=SYN)
        self.send(1, 0, flags=SYN | ACK, after_us=20_000.0)
        self.send(0, 0)

    def close(self) -> None:
        self.send(0, 0, flags=FIN | ACK)
        self.send(1, 0, flags=FIN | ACK, after_us=20_000.0)
        self.send(0, 0)


def lookup(rng: random.Random, start_us: int) -> list[Event]:
    """A name looked up, or the time asked for: two UDP packets."""
    talk = Conversation(rng, protocol=UDP, start_us=start_us, peer=0x0A000001, port=rng.choice((53, 53, 53, 53, 123)))
    talk.send(0, rng.randrange(30, 60))
    talk.send(1, rng.randrange(60, 300), after_us=15_000.0)
    return talk.events


def ping(rng: random.Random, start_us: int) -> list[Event]:
    talk = Conversation(rng, protocol=ICMP, start_us=start_us, peer=0x0A000001, port=0)
    for _ in range(rng.randrange(1, 5)):
        talk.send(0, 56, after_us=1_000_000.0)
        talk.send(1, 56)
    return talk.events


def refused(rng: random.Random, start_us: int) -> list[Event]:
    """A connection to a closed port."""
    talk = Conversation(
        rng, protocol=TCP, start_us=start_us, peer=0x0A000000 | rng.randrange(2, 42), port=rng.randrange(1, 1024)
    )
    talk.send(0, 0, flags=SYN)
    talk.send(1, 0, flags=RST | ACK)
    return talk.events


def web(rng: random.Random, start_us: int) -> list[Event]:
    talk = Conversation(rng, protocol=TCP, start_us=start_us, peer=0x5DB80000 | rng.getrandbits(10), port=443)
    talk.open()
    for _ in range(rng.randrange(1, 5)):
        talk.send(0, rng.randrange(80, 900), flags=PSH | ACK, after_us=50_000.0)
        for _ in range(rng.randrange(1, 8)):
            talk.send(1, 1400)
        talk.send(0, 0)
    talk.close()
    return talk.events


def telemetry(rng: random.Random, start_us: int) -> list[Event]:
    """An MQTT session that publishes every few seconds and never closes."""
    talk = Conversation(rng, protocol=TCP, start_us=start_us, peer=0x0A000001, port=1883)
    talk.open()
    for _ in range(rng.randrange(10, 30)):
        talk.send(0, rng.randrange(30, 120), flags=PSH | ACK, after_us=4_000_000.0)
        talk.send(1, 4, flags=PSH | ACK)
        talk.send(0, 0)
    return talk.events


def transfer(rng: random.Random, start_us: int) -> list[Event]:
    """A camera's clip or an update: long, and full packets one way."""
    talk = Conversation(rng, protocol=TCP, start_us=start_us, peer=0x5DB80000 | rng.getrandbits(10), port=443)
    talk.open()
    for _ in range(rng.randrange(300, 900)):
        talk.send(0, 1400)
        talk.send(0, 1400)
        talk.send(1, 0)
    talk.close()
    return talk.events


# Out of a thousand conversations. The mean is some 15.6 packets, so 100,000 packets are about 6,400 flows.
SHARES: tuple[tuple[Callable[[random.Random, int], list[Event]], int], ...] = (
    (lookup, 607),
    (web, 245),
    (refused, 62),
    (telemetry, 53),
    (ping, 30),
    (transfer, 3),
)


def mixed(packets: int) -> Iterator[Event]:
    """Yield ordinary traffic of many devices in order of time."""
    rng = random.Random(packets)
    thousand = [script for script, share in SHARES for _ in range(share)]
    events: list[Event] = []
    while len(events) < packets:
        rng.shuffle(thousand)
        for script in thousand:
            events += script(rng, START_US + rng.randrange(MIXED_SPAN_US))
    events.sort(key=lambda event: event[0])
    yield from events[:packets]


def flood_flows(packets: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each flow of the flood of so many packets: time of its SYN in us, source address, port, sequence number."""
    rng = random.Random(packets)
    for index in range((packets + 1) // 2):
        # An odd multiplier makes i -> i * odd a permutation of the 32-bit numbers: no address comes twice.
        source = 0x2545F491 * (index + 1) & 0xFFFFFFFF
        yield START_US + index * FLOOD_GAP_US, source, rng.randrange(1024, 65536), rng.getrandbits(32)


def flood(packets: int) -> Iterator[Event]:
    """Yield a SYN flood from as many addresses as it has SYNs; the victim answers each half a gap later."""
    for index, (now_us, source, port, sequence) in enumerate(flood_flows(packets)):
        syn = struct.pack(">HHIIBBHHH", port, 80, sequence, 0, 0x50, SYN, 512, 0, 0)
        yield now_us, ipv4(source, FLOOD_VICTIM, TCP, syn)
        if 2 * index + 1 < packets:
            answer = struct.pack(">HHIIBBHHH", 80, port, index, sequence + 1 & 0xFFFFFFFF, 0x50, SYN | ACK, 64240, 0, 0)
            yield now_us + FLOOD_GAP_US // 2, ipv4(FLOOD_VICTIM, source, TCP, answer)


KINDS: dict[str, Callable[[int], Iterator[Event]]] = {"mixed": mixed, "flood": flood}


def capture(kind: str, *, packets: int, folder: Path = CACHE) -> Path:
    """Return a pcap of `packets` packets of a kind named in KINDS, generated if it is not there yet.

    The name carries a digest of this module, so that a changed generator never meets an old file.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = folder / f"{kind}-{packets}-{digest}.pcap"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for ts_us, frame in KINDS[kind](packets):
            file.write(struct.pack("<IIII", *divmod(ts_us, 1_000_000), len(frame), len(frame)) + frame)
    unfinished.replace(path)
    return path
