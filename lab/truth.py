"""Ground truth of a recording, known because the lab attacked: the JSON beside a capture.

An interval begins just before its tool was started and ends with the last packet that
the attack caused; only that end is looked up in the capture (a victim repeats a SYN+ACK for seconds). The trap:
spoofed sources are written as all addresses except the lab's own, or clients of a flooded device would be attackers.
"""

from __future__ import annotations

import bisect
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import GroundTruthError
from lab.flows import FLOW_FILE, trace, write_flows
from lab.frames import FlowKey, number_of, read_frames
from lab.matching import Matcher
from lab.plan import ANY_HOST, AWAY_PREFIX, EVERY_HOME_HOST, Attack, Plan

TAIL_S = 20.0  # how long after its tool an attack may still cause packets: SYN+ACKs are repeated for 15 s at most
SLACK_S = 0.001
NOT_UNICAST = ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")
GROUP_PORTS = frozenset({67, 68, 1900, 5353, 5355, 6666, 56700})  # of what hosts say to groups and to everyone


@dataclass(frozen=True)
class Outcome:
    """When an attack's tool ran, in epoch seconds, and how it ended (None: it was stopped at its limit)."""

    attack: Attack
    started_s: float
    ended_s: float
    exit_code: int | None


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


def spoofed_sources(plan: Plan, *, proto: str | None, ports: Sequence[int] = ()) -> list[str]:
    """Return the addresses a spoofed packet may come from that nobody in the lab has or speaks to.

    That includes multicast and the like, which no benign activity has as an end over TCP and ICMP, nor on ports that no
    group is spoken to on; else the victim's own announcements and DHCP would match.
    """
    spoken_to = [plan.lan, plan.internet, AWAY_PREFIX, *plan.beyond]
    no_groups = proto in ("tcp", "icmp") or (ports and not GROUP_PORTS & set(ports))
    return everyone_but(*spoken_to, *([] if no_groups else NOT_UNICAST))


def interval_of(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """Return the ground-truth interval of an attack as its tool's start and end bound it."""
    attack = outcome.attack
    # A lie about addresses has no flow: the interval names who met, and no flow of theirs lies in it.
    is_arp = attack.proto == "arp"
    is_spoofed = attack.spoofed and not is_arp
    attacker = (
        spoofed_sources(plan, proto=attack.proto, ports=attack.ports) if is_spoofed else [plan.address(attack.attacker)]
    )
    return {
        "start": round(outcome.started_s, 6),
        "end": round(outcome.ended_s, 6),
        "class": attack.label,
        "attacker": attacker,
        "victim": _addresses(plan, attack.victim),
        **({"layer": "arp", "mac": plan.host(attack.attacker).mac} if is_arp else {"proto": attack.proto}),
        "ports": list(attack.ports),
        "technique": attack.mitre,
        "spoofed": attack.spoofed,
        "sent_by": plan.address(attack.attacker),
        "tool": attack.technique,
        "attack_kind": attack.drawn_as or attack.technique,
        "arguments": list(attack.argv),
        "exit_code": outcome.exit_code,
        "seed": plan.seed,
    }


def _addresses(plan: Plan, victim: str) -> list[str]:
    if victim == ANY_HOST:
        return [ANY_HOST]
    if victim == EVERY_HOME_HOST:
        return [plan.lan]
    return [victim] if victim in plan.silent else list(plan.addresses(victim))


def _near_sources(plan: Plan, attack: Attack, sent: Mapping[FlowKey, set[str]]) -> list[str]:
    """Return the sources of a spoofed attack in the lab's own prefixes, at addresses that nobody has."""
    held = {number_of(address) for host in plan.hosts for address in plan.addresses(host.name)}
    held |= {number_of(address) for address in (plan.gateway_address, plan.wan_address, *plan.silent)}
    held |= {number_of(public) for _, public in plan.exposed}
    spoken_to = [ipaddress.IPv4Network(prefix) for prefix in (plan.lan, plan.internet, *plan.beyond)]
    name = f"attack {plan.attacks.index(attack)} {attack.drawn_as or attack.technique}"
    ends = {end for key, senders in sent.items() if name in senders for end, _ in key[1:]} - held
    near = [ipaddress.IPv4Address(end) for end in ends]
    return sorted(f"{each}/32" for each in near if any(each in network for network in spoken_to))


def write_truth(
    plan: Plan, outcomes: Sequence[Outcome], *, capture: Path, sent: Mapping[FlowKey, set[str]] | None = None
) -> list[dict[str, Any]]:
    """Write ground_truth.json beside a capture and return its entries; with `sent` (lab.senders) also flows.csv."""
    frames = list(read_frames(capture))
    if not frames:
        raise GroundTruthError(f"{capture}: no packet was recorded")
    intervals = [interval_of(plan, outcome) for outcome in outcomes]
    for interval, outcome in zip(intervals, outcomes, strict=True):
        if outcome.attack.spoofed and sent:
            interval["attacker"] += _near_sources(plan, outcome.attack, sent)
    times = [frame.time_s for frame in frames]
    answers = [
        {**each, "proto": "icmp", "ports": [], "is_answer": True} for each in intervals if each.get("proto") == "udp"
    ]
    kept = []
    for interval in (*intervals, *answers):
        matcher, ended_s = Matcher(interval), interval["end"]
        first, last = bisect.bisect_left(times, interval["start"]), bisect.bisect_right(times, ended_s + TAIL_S)
        exchanged = [frame.time_s for frame in frames[first:last] if matcher.is_exchanged(frame)]
        interval["end"] = round(max([ended_s, *exchanged]) + SLACK_S, 6)
        if exchanged or "is_answer" not in interval:
            kept.append(interval)
    intervals = sorted(kept, key=lambda each: each["start"])
    entry: dict[str, Any] = {
        "file": capture.name,
        "attack": "mixed" if intervals else "benign",
        "class": "lab",
        "home_nets": [plan.lan],
        "certainty": "certain: the lab that recorded it also attacked",
        "note": f"penstock-lab, {f'plan {plan.name}, ' if plan.name else ''}seed {plan.seed}",
        "linktype": "ether",
        "first": round(frames[0].time_s, 6),
        "last": round(frames[-1].time_s, 6),
        "seed": plan.seed,
        "devices": {host.name: host.address for host in plan.devices},
        "outside": {host.name: host.address for host in plan.hosts if not host.is_inside},
    }
    if intervals:
        entry["intervals"] = intervals
    if sent is not None:
        entry["flow_file"] = FLOW_FILE  # not `flows`: the intervals say it all, and the loader would read both
        write_flows(trace(frames, intervals, sent=sent), capture.with_name(FLOW_FILE))
    capture.with_name("ground_truth.json").write_text(json.dumps([entry], indent=1) + "\n")
    return [entry]
