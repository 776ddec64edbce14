"""Ground truth of a recording, known because the lab attacked, and the check that capture and truth agree.

Owns the JSON beside a capture. An interval begins just before its tool was started and ends with the last packet that
the attack caused; only that end is looked up in the capture (a victim repeats a SYN+ACK for seconds). The trap:
spoofed sources are written as all addresses except the lab's own, or clients of a flooded device would be attackers.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import GroundTruthError
from lab.frames import Frame, number_of, read_frames
from lab.plan import ANY_HOST, AWAY_PREFIX, EVERY_HOME_HOST, Attack, Plan

TAIL_S = 20.0  # how long after its tool an attack may still cause packets: SYN+ACKs are repeated for 15 s at most
SLACK_S = 0.001
NOT_UNICAST = ("0.0.0.0/8", "224.0.0.0/3")


@dataclass(frozen=True)
class Outcome:
    """When an attack's tool ran, in epoch seconds, and how it ended (None: it was stopped at its limit)."""

    attack: Attack
    started_s: float
    ended_s: float
    exit_code: int | None


class Matcher:
    """Which packets an interval of the ground truth speaks of."""

    def __init__(self, interval: dict[str, Any]) -> None:
        self.start_s, self.end_s = float(interval["start"]), float(interval["end"])
        self._attacker = _ranges(interval["attacker"])
        self._victim = _ranges(interval["victim"])
        self._proto = interval.get("proto")
        self._ports = frozenset(interval.get("ports") or ())

    def is_sent(self, frame: Frame) -> bool:
        """Does the attacker send this packet to the victim?"""
        return self._fits(frame) and self._goes(frame.source, frame.target, frame.target_port)

    def is_exchanged(self, frame: Frame) -> bool:
        """Does this packet pass between attacker and victim, in either direction?"""
        return self._fits(frame) and (
            self._goes(frame.source, frame.target, frame.target_port)
            or self._goes(frame.target, frame.source, frame.source_port)
        )

    def _fits(self, frame: Frame) -> bool:
        return self._proto is None or frame.proto == self._proto

    def _goes(self, attacker: int, victim: int, port: int) -> bool:
        if self._ports and port not in self._ports:
            return False
        return _lies_in(attacker, self._attacker) and _lies_in(victim, self._victim)


def _ranges(addresses: Sequence[str]) -> list[tuple[int, int]]:
    if not addresses or ANY_HOST in addresses or "spoofed" in addresses:
        return [(0, 2**32 - 1)]
    networks = [ipaddress.IPv4Network(address) for address in addresses]
    return [(int(network.network_address), int(network.broadcast_address)) for network in networks]


def _lies_in(number: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(low <= number <= high for low, high in ranges)


def everyone_but(*networks: str) -> list[str]:
    """Return the fewest prefixes that hold every IPv4 address outside the given networks.

    >>> everyone_but("128.0.0.0/1", "0.0.0.0/2")
    ['64.0.0.0/2']
    """
    left = [ipaddress.IPv4Network("0.0.0.0/0")]
    for text in networks:
        hole = ipaddress.IPv4Network(text)
        left = [
            part
            for network in left
            if not network.subnet_of(hole)
            for part in (network.address_exclude(hole) if hole.subnet_of(network) else [network])
        ]
    return [str(network) for network in sorted(left)]


def spoofed_sources(plan: Plan, *, proto: str | None) -> list[str]:
    """Return the addresses a spoofed packet may come from that nobody in the lab has or speaks to.

    Over TCP and ICMP that includes multicast and the like, which no benign activity has as an end there; without a
    protocol the victim's own announcements and DHCP would match them.
    """
    spoken_to = [plan.lan, plan.internet, AWAY_PREFIX]
    return everyone_but(*spoken_to, *([] if proto in ("tcp", "icmp") else NOT_UNICAST))


def interval_of(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """Return the ground-truth interval of an attack as its tool's start and end bound it."""
    attack = outcome.attack
    attacker = spoofed_sources(plan, proto=attack.proto) if attack.spoofed else [plan.address(attack.attacker)]
    return {
        "start": round(outcome.started_s, 6),
        "end": round(outcome.ended_s, 6),
        "class": attack.label,
        "attacker": attacker,
        "victim": _addresses(plan, attack.victim),
        "proto": attack.proto,
        "ports": list(attack.ports),
        "technique": attack.mitre,
        "spoofed": attack.spoofed,
        "sent_by": plan.address(attack.attacker),
        "tool": attack.technique,
        "arguments": list(attack.argv),
        "exit_code": outcome.exit_code,
    }


def _addresses(plan: Plan, victim: str) -> list[str]:
    if victim == ANY_HOST:
        return [ANY_HOST]
    if victim == EVERY_HOME_HOST:
        return [plan.lan]
    return [victim if victim in plan.silent else plan.address(victim)]


def write_truth(plan: Plan, outcomes: Sequence[Outcome], *, capture: Path) -> list[dict[str, Any]]:
    """Write ground_truth.json beside a capture and return its entries."""
    frames = list(read_frames(capture))
    if not frames:
        raise GroundTruthError(f"{capture}: no packet was recorded")
    intervals = [interval_of(plan, outcome) for outcome in outcomes]
    for interval in intervals:
        matcher, ended_s = Matcher(interval), interval["end"]
        tail = (frame.time_s for frame in frames if frame.time_s <= ended_s + TAIL_S and matcher.is_exchanged(frame))
        interval["end"] = round(max([ended_s, *tail]) + SLACK_S, 6)
    entry: dict[str, Any] = {
        "file": capture.name,
        "attack": "mixed" if intervals else "benign",
        "class": "lab",
        "home_nets": [plan.lan],
        "certainty": "certain: the lab that recorded it also attacked",
        "note": f"penstock-lab, seed {plan.seed}",
        "linktype": "ether",
        "first": round(frames[0].time_s, 6),
        "last": round(frames[-1].time_s, 6),
        "seed": plan.seed,
        "devices": {host.name: host.address for host in plan.devices},
        "outside": {host.name: host.address for host in plan.hosts if not host.is_inside},
    }
    if intervals:
        entry["intervals"] = intervals
    capture.with_name("ground_truth.json").write_text(json.dumps([entry], indent=1) + "\n")
    return [entry]


def check(capture: Path, truth: Path) -> list[str]:
    """Return what is wrong between a capture and its ground truth, one line each; an empty list is agreement.

    Wrong is an interval without a packet, and a packet from attacker to victim (protocol, port) at another time.
    """
    try:
        entries = [entry for entry in json.loads(truth.read_text()) if entry["file"] == capture.name]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise GroundTruthError(f"{truth}: {exc}") from exc
    if len(entries) != 1:
        raise GroundTruthError(f"{truth}: {len(entries)} entries for {capture.name}, expected 1")
    matchers = [Matcher(interval) for interval in entries[0].get("intervals", [])]
    labelled, strays = [0] * len(matchers), [0] * len(matchers)
    for frame in read_frames(capture):
        sent = [number for number, matcher in enumerate(matchers) if matcher.is_sent(frame)]
        at_its_time = [n for n in sent if matchers[n].start_s <= frame.time_s <= matchers[n].end_s]
        for number in at_its_time or sent:
            (labelled if at_its_time else strays)[number] += 1
    problems = []
    for number, interval in enumerate(entries[0].get("intervals", [])):
        name = f"interval {number} ({interval['class']}, {interval.get('tool', 'unknown tool')})"
        if not labelled[number]:
            problems.append(f"{name}: no packet from attacker to victim")
        if strays[number]:
            problems.append(f"{name}: {strays[number]} packets from attacker to victim outside it")
    return problems


__all__ = ["Matcher", "Outcome", "check", "everyone_but", "interval_of", "number_of", "write_truth"]
