"""What a recording holds: packets, flows and seconds per attack technique and per benign kind.

Benign flows are told apart by who sent them (`flows.csv`); what no activity of the lab sent, such as the answers of a
kernel or a DHCP client, is counted as `(nobody's)`. Seconds are those that an attack's interval lasts, or that a benign
kind has a flow open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.agreement import read_entry
from lab.flows import FLOW_FILE, Flow, read_flows, trace
from lab.frames import number_of, read_claims, read_frames

NOBODY = "(nobody's)"


@dataclass
class Row:
    """One line of the table."""

    label: str
    name: str
    packets: int = 0
    flows: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The length of the union of its spans."""
        total_s, end_s = 0.0, float("-inf")
        for start_s, stop_s in sorted(self.spans):
            total_s += max(0.0, stop_s - max(start_s, end_s))
            end_s = max(end_s, stop_s)
        return round(total_s, 1)


def tally(capture: Path, truth: Path) -> list[Row]:
    """Return the rows of a recording: attacks by class and technique, then benign kinds."""
    entry = read_entry(capture, truth)
    intervals = entry.get("intervals", [])
    if entry.get("flow_file"):
        flows = read_flows(capture.with_name(FLOW_FILE))
    else:
        flows = trace(read_frames(capture), intervals, sent={})
    return sorted([*rows_of(flows, intervals), *_lies(capture, intervals)], key=_place)


def _place(row: Row) -> tuple[bool, str, str]:
    return row.label == "benign", row.label, row.name


def rows_of(flows: Iterable[Flow], intervals: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows for flows of these intervals."""
    rows: dict[tuple[str, str], Row] = {}

    def count(label: str, name: str, packets: int, span: tuple[float, float]) -> None:
        row = rows.setdefault((label, name), Row(label, name))
        row.packets += packets
        row.flows += 1
        row.spans.append(span)

    for flow in flows:
        if flow.interval is not None:
            interval = intervals[flow.interval]
            name = str(interval.get("attack_kind", interval.get("tool")))
            count(str(interval["class"]), name, flow.attack_packets, (interval["start"], interval["end"]))
        if benign := flow.packets - flow.attack_packets:
            kinds = sorted({sender for sender in flow.senders if not sender.startswith("attack ")})
            count("benign", " or ".join(kinds) or NOBODY, benign, (flow.start_s, flow.end_s))
    return sorted(rows.values(), key=_place)


def _lies(capture: Path, intervals: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows of attacks that have ARP packets and no flow."""
    rows: dict[str, Row] = {}
    claims = list(read_claims(capture)) if any(each.get("layer") == "arp" for each in intervals) else []
    for interval in (each for each in intervals if each.get("layer") == "arp"):
        own, start_s, end_s = number_of(interval["attacker"][0]), interval["start"], interval["end"]
        name = str(interval.get("attack_kind", interval.get("tool")))
        row = rows.setdefault(name, Row(str(interval["class"]), name))
        lies = [c for c in claims if c.mac == interval["mac"] and c.address != own and start_s <= c.time_s <= end_s]
        row.packets += len(lies)
        row.spans += [(lies[0].time_s, lies[-1].time_s)] if lies else []
    return list(rows.values())


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, with what they come to."""
    lines = [f"{'label':<20} {'technique or kind':<24} {'packets':>9} {'flows':>7} {'seconds':>8}"]
    lines += [f"{row.label:<20} {row.name:<24} {row.packets:>9} {row.flows:>7} {row.seconds:>8.1f}" for row in rows]
    attacks, kinds = counts(rows)
    return "\n".join([*lines, f"{attacks} attack techniques and {kinds} benign kinds with packets"])


def counts(rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many techniques and how many benign kinds have packets."""
    names = {(row.label == "benign", name) for row in rows if row.packets for name in row.name.split(" or ")}
    names.discard((True, NOBODY))
    return sum(not benign for benign, _ in names), sum(benign for benign, _ in names)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows for `--json`."""
    return [
        {"label": row.label, "name": row.name, "packets": row.packets, "flows": row.flows, "seconds": row.seconds}
        for row in rows
    ]
