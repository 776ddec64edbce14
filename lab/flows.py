"""The flows of a recording with what is known of each: class, how many of its packets are attack, and who sent.

Traced by the lab's own reader, not by flowfeatures. A flow is both directions of a 5-tuple until a pause; one that both
an attack and a benign activity touched is labelled attack and says `both`. The file has the columns of a ground
truth's `flows`, and some of its own.
"""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import GroundTruthError
from lab.frames import FlowKey, Frame, flow_key
from lab.matching import Matcher

FLOW_FILE = "flows.csv"
PAUSE_S = 120.0
FIELDS = ("src_ip", "src_port", "dst_ip", "dst_port", "proto", "start", "end", "class")
OWN_FIELDS = ("packets", "attack_packets", "touched_by", "interval", "senders")
BENIGN = "benign"


@dataclass
class Flow:
    """One flow; `interval` is that of its first attack packet, None where it has none."""

    proto: str
    source: tuple[str, int]
    target: tuple[str, int]
    start_s: float
    end_s: float
    label: str = BENIGN
    packets: int = 0
    attack_packets: int = 0
    interval: int | None = None
    senders: tuple[str, ...] = field(default=())

    @property
    def ends(self) -> str:
        return f"{self.proto} {self.source[0]}:{self.source[1]} > {self.target[0]}:{self.target[1]}"

    @property
    def is_all_attack(self) -> bool:
        """Did attacks alone send in it, as far as is known?"""
        return all(sender.startswith("attack ") for sender in self.senders)

    @property
    def is_all_benign(self) -> bool:
        """Did benign activities alone send in it, as far as is known?"""
        return not any(sender.startswith("attack ") for sender in self.senders)

    @property
    def touched_by(self) -> str:
        """Return `attack`, `benign` or `both`."""
        if not self.attack_packets:
            return BENIGN
        return "attack" if self.attack_packets == self.packets and self.is_all_attack else "both"


def trace(
    frames: Iterable[Frame], intervals: Sequence[Mapping[str, Any]], *, sent: Mapping[FlowKey, set[str]]
) -> list[Flow]:
    """Return the flows of a capture in the order of their first packets."""
    matchers = [Matcher(dict(interval)) for interval in intervals]
    flows: list[Flow] = []
    open_flows: dict[FlowKey, tuple[Flow, list[int]]] = {}
    for frame in frames:
        source, target = (frame.source, frame.source_port), (frame.target, frame.target_port)
        key = flow_key(frame.proto, source, target)
        flow, may_match = open_flows.get(key, (None, []))
        if flow is None or frame.time_s - flow.end_s > PAUSE_S:
            may_match = [number for number, matcher in enumerate(matchers) if matcher.is_exchanged(frame)]
            flow = Flow(frame.proto, _text(source), _text(target), frame.time_s, frame.time_s)
            flow.senders = tuple(sorted(sent.get(key, ())))
            flows.append(flow)
            open_flows[key] = flow, may_match
        flow.end_s = frame.time_s
        flow.packets += 1
        for number in may_match:
            if matchers[number].start_s <= frame.time_s <= matchers[number].end_s:
                flow.attack_packets += 1
                if flow.interval is None:
                    flow.interval, flow.label = number, str(intervals[number]["class"])
                break
    return flows


def _text(end: tuple[int, int]) -> tuple[str, int]:
    return str(ipaddress.IPv4Address(end[0])), end[1]


def write_flows(flows: Iterable[Flow], path: Path) -> None:
    """Write flows as CSV."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(FIELDS + OWN_FIELDS)
        for flow in flows:
            times = f"{flow.start_s:.6f}", f"{flow.end_s:.6f}"
            interval = "" if flow.interval is None else flow.interval
            own = flow.packets, flow.attack_packets, flow.touched_by, interval, "; ".join(flow.senders)
            rows.writerow([*flow.source, *flow.target, flow.proto, *times, flow.label, *own])


def read_flows(path: Path) -> list[Flow]:
    """Return the flows of a file that `write_flows` wrote; raises GroundTruthError."""
    try:
        with path.open(newline="") as file:
            return [_flow(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as exc:
        raise GroundTruthError(f"{path}: not a list of flows: {exc}") from exc


def _flow(row: dict[str, str]) -> Flow:
    return Flow(
        proto=row["proto"],
        source=(row["src_ip"], int(row["src_port"])),
        target=(row["dst_ip"], int(row["dst_port"])),
        start_s=float(row["start"]),
        end_s=float(row["end"]),
        label=row["class"],
        packets=int(row["packets"]),
        attack_packets=int(row["attack_packets"]),
        interval=int(row["interval"]) if row["interval"] else None,
        senders=tuple(row["senders"].split("; ")) if row["senders"] else (),
    )
