"""Sweeps of a home's own addresses, written into a recording: who looks for neighbours before he does anything else.

The lab cannot record them: where nobody answers ARP, no probe of an absent address ever leaves. In other people's
captures it does (a switch told the tool, the sweep came through a router), and what a gateway routes it does too. So
the probes are made here, as the tools send them: echo requests, SYN to one port, datagrams to one port, each to a
hundred addresses and more, of which few are there and answer. Two traps: an operator's inventory sweeps as well, of the
few dozen addresses he has, so what is written here asks for at least LEAST_ADDRESSES; and to whom is asked one probe
among thousands is nothing, yet his window is labelled as the attack, so only MOST_THERE devices are asked, and each
sweep asks in a network of its own, lest addresses where nobody is are taken for devices.
"""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from training.frames import ACK, ICMP, LEAST_FRAME_BYTES, SYN, TCP, UDP, Frame

LEAST_ADDRESSES: Final = 90
MOST_THERE: Final = 2
LONGEST_OF_TWO_TRIES_US: Final = 4_000_000  # later the second try is a flow of its own
MOST_AT_ONCE: Final = 40  # probes of one burst
SWEEPS: Final = 10  # of a recording
RATES: Final = (8.0, 3000.0)  # probes a second, drawn evenly over the logarithm
TCP_PORTS: Final = (21, 22, 23, 80, 80, 80, 139, 443, 443, 445, 502, 1883, 3389, 5555, 5900, 7547, 8080, 8443, 9100)
UDP_PORTS: Final = (53, 123, 137, 161, 500, 1900, 5060, 5353, 5683, 47808)
ECHO_BYTES: Final = (0, 0, 32, 48, 56)  # nmap and hping, Windows, fping, ping
TCP_OPTIONS: Final = (b"", bytes.fromhex("020405b4"), bytes.fromhex("020405b40402080a0000000000000000010303ff"))
RST: Final = 0x04
ANSWER_US: Final = (300, 9000)


@dataclass(frozen=True)
class _Sweep:
    proto: int
    port: int
    source_port: int  # 0: another one for each probe
    body: bytes  # echo or datagram payload, or TCP options
    tries: int


def with_sweeps(frames: list[Frame], *, devices: list[str], seed: int) -> tuple[list[Frame], list[dict[str, Any]]]:
    """Return the frames with SWEEPS sweeps among them, in order of time, and their intervals of ground truth.

    `devices` are the IPv4 addresses of the home; the networks that are swept, each interval's `victim`, are to be home
    too. A recording without devices or frames stays as it is.
    """
    rng = random.Random(seed)
    if not frames or not devices:
        return frames, []
    first_us, last_us = frames[0].at_us, frames[-1].at_us
    added, intervals = [], []
    neighbours = iter(rng.sample(range(256), SWEEPS))
    for number in range(SWEEPS):
        attacker, sweep = rng.choice(devices), _drawn(rng)
        swept = ipaddress.IPv4Network(f"{attacker}/24" if number == 0 else f"10.201.{next(neighbours)}.0/24", False)
        at_us = rng.randint(first_us, max(first_us, last_us - 10_000_000))
        probes = list(_probes(sweep, attacker, swept, set(devices), at_us=at_us, rng=rng))
        added += probes
        intervals.append(
            {
                "start": at_us / 1e6,
                "end": max(each.at_us for each in probes) / 1e6,
                "class": {ICMP: "host_scan_icmp", TCP: "host_scan_tcp", UDP: "host_scan_udp"}[sweep.proto],
                "attacker": [attacker],
                "victim": [str(swept)],
                "proto": {ICMP: "icmp", TCP: "tcp", UDP: "udp"}[sweep.proto],
                "technique": "T1018",
            }
            | ({"ports": [sweep.port]} if sweep.port else {})
        )
    return sorted([*frames, *added], key=lambda each: each.at_us), intervals


def _drawn(rng: random.Random) -> _Sweep:
    proto = rng.choice((ICMP, TCP, TCP, UDP))
    source_port = 0 if proto == ICMP or rng.random() < 0.5 else rng.randint(32768, 60999)
    if proto == ICMP:
        return _Sweep(proto, 0, 0, bytes(rng.choice(ECHO_BYTES)), rng.choice((1, 1, 2)))
    if proto == TCP:
        return _Sweep(proto, rng.choice(TCP_PORTS), source_port, rng.choice(TCP_OPTIONS), rng.choice((1, 1, 2)))
    return _Sweep(proto, rng.choice(UDP_PORTS), source_port, bytes(rng.choice((0, 12, 40))), rng.choice((1, 1, 2)))


def _probes(
    sweep: _Sweep, attacker: str, swept: ipaddress.IPv4Network, there: set[str], *, at_us: int, rng: random.Random
) -> Iterator[Frame]:
    addresses = [str(each) for each in swept.hosts()]
    spared = set(rng.sample(sorted(there), max(0, len(there) - MOST_THERE))) | {attacker}
    asked = [each for each in addresses if each not in spared]
    asked = asked[: rng.randint(LEAST_ADDRESSES, len(asked))]
    if rng.random() < 0.5:
        rng.shuffle(asked)
    gap_us = 1e6 / RATES[0] * (RATES[0] / RATES[1]) ** rng.random()
    burst = rng.choice((1, rng.randint(2, MOST_AT_ONCE)))
    is_answered = rng.random() < 0.6  # else the tap sees one way alone
    tries = sweep.tries if gap_us * len(asked) < LONGEST_OF_TWO_TRIES_US else 1
    rounds = [(address, again) for again in range(tries) for address in asked]
    if tries > 1:  # who was silent is asked again while others are asked first
        behind = rng.randint(burst, len(asked))
        rounds.sort(key=lambda each: asked.index(each[0]) + each[1] * behind)
    for number, (address, again) in enumerate(rounds):
        if again and address in there:
            continue
        now_us = at_us + round(number // burst * burst * gap_us) + number % burst * 60
        port = sweep.source_port or 32768 + (asked.index(address) * 7) % 28000
        yield _frame(attacker, address, _question(sweep, port, number), sweep.proto, now_us)
        if address in there and is_answered:
            yield from _answers(sweep, attacker, address, port, number, at_us=now_us + rng.randint(*ANSWER_US))


def _question(sweep: _Sweep, port: int, number: int) -> bytes:
    if sweep.proto == ICMP:
        return struct.pack(">BBHHH", 8, 0, 0, port & 0xFFFF, number & 0xFFFF) + sweep.body
    if sweep.proto == UDP:
        return struct.pack(">HHHH", port, sweep.port, 8 + len(sweep.body), 0) + sweep.body
    return _segment(port, sweep.port, SYN, seq=number * 977, ack=0, options=sweep.body)


def _answers(sweep: _Sweep, attacker: str, address: str, port: int, number: int, *, at_us: int) -> Iterator[Frame]:
    if sweep.proto == ICMP:
        said = struct.pack(">BBHHH", 0, 0, 0, port & 0xFFFF, number & 0xFFFF) + sweep.body
        yield _frame(address, attacker, said, ICMP, at_us)
    elif sweep.proto == UDP:
        quoted = _packet(attacker, address, _question(sweep, port, number), UDP)[:28]
        yield _frame(address, attacker, struct.pack(">BBHI", 3, 3, 0, 0) + quoted, ICMP, at_us)
    elif sweep.port in (22, 23, 80, 443) and number % 3 == 0:  # open: the tool hangs up
        yield _frame(address, attacker, _segment(sweep.port, port, SYN | ACK, seq=1, ack=number * 977 + 1), TCP, at_us)
        said = _segment(port, sweep.port, RST, seq=number * 977 + 1, ack=0)
        yield _frame(attacker, address, said, TCP, at_us + 90)
    else:
        yield _frame(address, attacker, _segment(sweep.port, port, RST | ACK, seq=0, ack=number * 977 + 1), TCP, at_us)


def _segment(source: int, target: int, flags: int, *, seq: int, ack: int, options: bytes = b"") -> bytes:
    words = (20 + len(options)) // 4
    window = 0 if flags & RST else 1024 if len(options) <= 4 else 64240
    return (
        struct.pack(">HHIIBBHHH", source, target, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, words << 4, flags, window, 0, 0)
        + options
    )


def _packet(source: str, target: str, body: bytes, proto: int) -> bytes:
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, proto, 0) + ends + body


def _frame(source: str, target: str, body: bytes, proto: int, at_us: int) -> Frame:
    ethernet = b"\x02\x00" + ipaddress.IPv4Address(target).packed + b"\x02\x00" + ipaddress.IPv4Address(source).packed
    octets = ethernet + b"\x08\x00" + _packet(source, target, body, proto)
    octets += bytes(max(0, LEAST_FRAME_BYTES - len(octets)))
    return Frame(at_us, len(octets), octets)
