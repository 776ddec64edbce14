"""What an attacker can do so as not to be seen, done to recorded attacks: pad, pace, split, mimic.

Only frames of an attack are touched, and of these only what its initiator decides; answers keep their distance from
what they answer. An evaded capture is a new capture with packet labels, so that flows and windows are computed anew:
    pad      every packet with payload (and every UDP or ICMP one) carries so many octets more
    pace     what the attack sends comes so many times slower, counted from its first packet
    split    a connection ends after so many packets with payload; the next ones come from another port
    mimic    a share of the packets with payload is padded to sizes drawn from the benign ones of the capture
The trap: benign traffic is not repeated, so a paced attack that outlasts its capture ends up in windows of its own,
where it is easier to see than it would be at home. Reads classic pcap of Ethernet only.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contracts.classes import NAMES
from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from flowfeatures import FLOW_META
from training.frames import (
    ACK,
    FIN,
    ICMP,
    SYN,
    TCP,
    UDP,
    Frame,
    Heads,
    bare_tcp,
    heads_of,
    padded,
    read_frames,
    with_port,
    write_frames,
)

EVADED = Path(__file__).resolve().parents[1] / ".cache" / "evaded"
FIRST_NEW_PORT, NEW_PORTS = 20_000, 12_000  # below the range Linux takes ports from, so that none is met twice
LEAST_RTT_US = 200
_Flow = tuple[tuple[bytes, int], tuple[bytes, int], int]  # initiator, responder, protocol


@dataclass(frozen=True)
class Evasion:
    """One evasion at one level; 0, 1 and 0.0 leave things as they are."""

    name: str
    level: str
    pad_bytes: int = 0
    pace: float = 1.0
    split_packets: int = 0
    mimic_share: float = 0.0


NOTHING = Evasion("none", "as recorded")
EVASIONS: tuple[Evasion, ...] = (
    NOTHING,
    *(Evasion("pad", f"+{more} octets", pad_bytes=more) for more in (16, 128, 512)),
    *(Evasion("pace", f"{times}x slower", pace=times) for times in (4, 16, 64)),
    *(Evasion("split", f"every {packets} packets", split_packets=packets) for packets in (8, 2, 1)),
    *(Evasion("mimic", f"{share:.0%} of packets", mimic_share=share) for share in (0.25, 0.5, 1.0)),
    Evasion("all", "4x, every 2, 100 %", pace=4.0, split_packets=2, mimic_share=1.0),
    Evasion("all", "16x, every 2, 100 %", pace=16.0, split_packets=2, mimic_share=1.0),
)


@dataclass(frozen=True)
class Marked:
    """A frame, the class it is an attack of (0: none), its headers, and whether the flow's initiator sent it."""

    frame: Frame
    label: int
    heads: Heads | None = None
    flow: _Flow | None = None
    is_initiators: bool = False

    @property
    def is_attackers(self) -> bool:
        return self.label > 0 and self.is_initiators

    @property
    def payload_bytes(self) -> int:
        return self.heads.payload_bytes if self.heads else 0


@dataclass(frozen=True)
class Effort:
    """What an evasion cost its attacker: packets, octets and seconds of the attacks, as multiples of before."""

    packets: float
    octets: float
    seconds: float


def read_marked(truth: GroundTruth) -> list[Marked] | None:
    """Return the frames of a capture with their labels.

    None where the capture is no classic pcap of Ethernet, has packet labels already, or holds no attack.
    """
    if truth.entry.labels or truth.attack == "benign" or (frames := read_frames(truth.path)) is None:
        return None
    marked = mark(truth, frames)
    return marked if any(each.label for each in marked) else None


def evade(
    truth: GroundTruth, before: list[Marked], evasion: Evasion, *, folder: Path | None = None, seed: int = 1
) -> tuple[GroundTruth, Effort]:
    """Return the ground truth of the evaded capture, written under a folder, and its cost."""
    after = apply(before, evasion, random.Random(seed))
    home = (
        (folder or EVADED)
        / f"{evasion.name} {evasion.level}".replace(" ", "_").replace("%", "pct")
        / "/".join(truth.path.resolve().parts[-3:-1])
    )
    return _write(truth, after, home / truth.path.stem), _effort(before, after)


def mark(truth: GroundTruth, frames: Iterable[Frame]) -> list[Marked]:
    """Return every frame with its label by the ground truth, asked as if each frame were a record of its flow."""
    initiator: dict[tuple[frozenset[tuple[bytes, int]], int], tuple[bytes, int]] = {}
    parsed: list[tuple[Frame, Heads | None, _Flow | None]] = []
    for frame in frames:
        heads = heads_of(frame.octets)
        if heads is None:
            parsed.append((frame, None, None))
            continue
        is_answer = heads.flags & (SYN | ACK) == SYN | ACK
        key = (frozenset((heads.source, heads.target)), heads.proto)
        first = initiator.setdefault(key, heads.target if is_answer else heads.source)
        other = heads.target if heads.source == first else heads.source
        parsed.append((frame, heads, (first, other, heads.proto)))
    labels = iter(_labels(truth, [(frame, flow) for frame, _, flow in parsed if flow is not None]))
    return [
        Marked(frame, next(labels), heads, flow, is_initiators=heads.source == flow[0])
        if heads is not None and flow is not None
        else Marked(frame, 0)
        for frame, heads, flow in parsed
    ]


def apply(capture: list[Marked], evasion: Evasion, rng: random.Random) -> list[Marked]:
    """Return the capture as the attacker would have made it, in order of time."""
    frames = capture
    if evasion.split_packets:
        frames = _split(frames, evasion.split_packets)
    if evasion.mimic_share:
        frames = _mimic(frames, evasion.mimic_share, rng)
    if evasion.pad_bytes:
        frames = [_padded(each, evasion.pad_bytes) if _carries(each) else each for each in frames]
    if evasion.pace != 1.0:
        frames = _paced(frames, evasion.pace)
    return sorted(frames, key=lambda each: each.frame.at_us)


def _labels(truth: GroundTruth, frames: list[tuple[Frame, _Flow]]) -> list[int]:
    records = np.zeros(len(frames), FLOW_META)
    records["ip_version"] = 4
    mapped = bytes(10) + b"\xff\xff"
    ends = [flow[:2] for _, flow in frames]
    for end, place in (("src", 0), ("dst", 1)):
        addresses = b"".join(mapped + pair[place][0] for pair in ends)
        records[end] = np.frombuffer(addresses, np.uint8).reshape(-1, 16)
        records[f"{end}_port"] = [pair[place][1] for pair in ends]
        macs = b"".join(frame.octets[6 - 6 * place : 12 - 6 * place] for frame, _ in frames)
        records[f"{end}_mac"] = np.frombuffer(macs, np.uint8).reshape(-1, 6)
    records["proto"] = [flow[2] for _, flow in frames]
    records["start_us"] = records["end_us"] = [frame.at_us for frame, _ in frames]
    truth.label(records)
    return [max(0, int(label)) for label in records["label"]]


def _carries(each: Marked) -> bool:
    """Whether the attacker can put more into a packet: one with payload, or a datagram; a bare SYN stays bare."""
    if not each.is_attackers or each.heads is None:
        return False
    return each.payload_bytes > 0 or each.heads.proto in (UDP, ICMP)


def _padded(each: Marked, more: int) -> Marked:
    assert each.heads is not None
    frame = padded(each.frame, each.heads, more)
    return replace(each, frame=frame, heads=heads_of(frame.octets))


def _mimic(capture: list[Marked], share: float, rng: random.Random) -> list[Marked]:
    sizes: dict[int, list[int]] = defaultdict(list)
    for each in capture:
        if each.label == 0 and each.is_initiators and each.heads is not None and each.payload_bytes:
            sizes[each.heads.proto].append(each.payload_bytes)
    found = []
    for each in capture:
        own = sizes.get(each.heads.proto) if each.heads else None
        if own and _carries(each) and rng.random() < share:
            found.append(_padded(each, max(0, rng.choice(own) - each.payload_bytes)))
        else:
            found.append(each)
    return found


def _paced(capture: list[Marked], pace: float) -> list[Marked]:
    """Delay what the attacker decides: each attack by one initiator is stretched from its first packet on."""
    begun: dict[tuple[int, bytes], int] = {}
    shift: dict[_Flow, int] = {}
    found = []
    for each in capture:
        if each.label == 0 or each.flow is None or each.heads is None:
            found.append(each)
            continue
        at_us = each.frame.at_us
        start_us = begun.setdefault((each.label, each.flow[0][0]), at_us)
        decides = each.payload_bytes > 0 or each.heads.proto != TCP or each.heads.flags & (SYN | ACK) == SYN
        if each.flow not in shift or (each.is_initiators and decides):
            shift[each.flow] = round((at_us - start_us) * (pace - 1))
        found.append(replace(each, frame=replace(each.frame, at_us=at_us + shift[each.flow])))
    return found


def _split(capture: list[Marked], packets: int) -> list[Marked]:
    """Cut every attack flow of TCP or UDP anew after so many of the attacker's packets with payload."""
    splitters: dict[_Flow, _Splitter] = {}
    ports = iter(FIRST_NEW_PORT + number % NEW_PORTS for number in range(1 << 40))
    found: list[Marked] = []
    for each in capture:
        if each.label == 0 or each.flow is None or each.flow[2] not in (TCP, UDP):
            found.append(each)
            continue
        splitter = splitters.setdefault(each.flow, _Splitter(packets))
        if splitter.is_full(each):
            found += splitter.reopen(each, port=next(ports))
        found.append(splitter.moved(each))
    return found


class _Splitter:
    """One flow on its way through several connections."""

    def __init__(self, packets: int) -> None:
        self._packets, self._sent = packets, 0
        self._port: int | None = None
        self._shift_us = 0
        self._syn_us: int | None = None
        self._rtt_us = LEAST_RTT_US

    def is_full(self, each: Marked) -> bool:
        """Count a packet; say whether it must open a new connection first."""
        if each.heads is not None and each.heads.flags & SYN:
            if each.is_initiators:
                self._syn_us = each.frame.at_us
            elif self._syn_us is not None:
                self._rtt_us = max(LEAST_RTT_US, each.frame.at_us - self._syn_us)
        if not _carries(each):
            return False
        self._sent += 1
        return self._sent > self._packets

    def reopen(self, each: Marked, *, port: int) -> list[Marked]:
        """Return what closes the old connection and opens the next one, from another port."""
        assert each.heads is not None
        self._sent = 1
        made: list[Marked] = []
        if each.heads.proto == TCP:
            made += self._segments(each, [(FIN | ACK, False), (FIN | ACK, True), (ACK, False)])
        self._port = port
        if each.heads.proto == TCP:
            made += self._segments(each, [(SYN, False), (SYN | ACK, True), (ACK, False)])
        return made

    def moved(self, each: Marked) -> Marked:
        """Return a packet in the connection and at the time it has now."""
        assert each.heads is not None
        assert each.flow is not None
        frame = replace(each.frame, at_us=each.frame.at_us + self._shift_us)
        if self._port is None:
            return replace(each, frame=frame)
        frame = with_port(frame, each.heads, end=each.flow[0], port=self._port)
        flow = ((each.flow[0][0], self._port), each.flow[1], each.flow[2])
        return replace(each, frame=frame, heads=heads_of(frame.octets), flow=flow)

    def _segments(self, each: Marked, wanted: list[tuple[int, bool]]) -> list[Marked]:
        made = []
        for number, (flags, reverse) in enumerate(wanted):
            like = self.moved(each)
            assert like.heads is not None
            # Sequence numbers are our own, only the handshake's must fit: the meter looks at no others.
            seq, ack = (2000, 1001) if reverse else (1000 + (flags != SYN), 2001 if flags != SYN else 0)
            frame = bare_tcp(
                like.frame, like.heads, flags=flags, at_us=like.frame.at_us, reverse=reverse, seq=seq, ack=ack
            )
            made.append(replace(like, frame=frame, heads=heads_of(frame.octets), is_initiators=not reverse))
            self._shift_us += self._rtt_us // 2 if number < 2 else 1
        return made


def _effort(before: list[Marked], after: list[Marked]) -> Effort:
    def sums(capture: list[Marked]) -> tuple[int, int, int]:
        own = [each for each in capture if each.is_attackers]
        begun: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for each in own:
            assert each.flow is not None
            begun[each.label, each.flow[0][0]].append(each.frame.at_us)
        lasted_us = sum(max(times) - min(times) for times in begun.values())
        return len(own), sum(each.frame.wire_bytes for each in own), lasted_us

    was, now = sums(before), sums(after)
    return Effort(*(round(b / a, 3) if a else 1.0 for a, b in zip(was, now, strict=True)))


def _write(truth: GroundTruth, capture: list[Marked], home: Path) -> GroundTruth:
    home.mkdir(parents=True, exist_ok=True)
    write_frames(home / "capture.pcap", (each.frame for each in capture))
    lines = (f"{number};{NAMES[each.label]}\n" for number, each in enumerate(capture, start=1) if each.label)
    (home / "labels.txt").write_text("".join(lines))
    entry = truth.entry.model_dump(mode="json", by_alias=True, exclude_none=True)
    for key in ("intervals", "flows", "attacker", "victim", "proto", "ports"):
        entry.pop(key, None)
    entry |= {"file": "capture.pcap", "labels": "labels.txt", "attack": "mixed"}
    if truth.attack == "malicious":
        entry["rest"] = "exclude"
    (home / "ground_truth.json").write_text(json.dumps([entry]))
    return load_ground_truth(home / "ground_truth.json")[0]
