"""Why an incident was raised, as a person reads it and as JSON: who and when, the flows, the columns that stand out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

import numpy as np

from agent.console.column_words import told, words
from agent.console.terminal import BOLD, DIM, Paint
from agent.state.explanations import Explanation, KeptFlow, unpacked
from agent.state.incident_record import RecordedIncident
from contracts.alert import protocol_name
from contracts.eve import timestamp_text
from contracts.terminal import printable
from detection.usual import standing_out
from flowfeatures import WINDOW_COLUMNS, address_text

MOST_COLUMNS: Final = 8
PROTOCOLS_WITH_PORTS: Final = (6, 17)


@dataclass(frozen=True)
class ColumnSeen:
    """A column of the evidence against what is usual; `fall` is by how much the score falls without it."""

    column: str
    here: float
    low: float | None
    high: float | None
    median: float
    fall: float | None


@dataclass(frozen=True)
class PacketSeen:
    """A packet that was kept: when it came, its length on the wire, and what Scapy calls it."""

    at_us: int
    wire_bytes: int
    words: str


@dataclass(frozen=True)
class Case:
    """All that is known of an incident. `standing` says what the operator said of it, one line each."""

    incident: RecordedIncident
    explanation: Explanation | None
    standing: Sequence[str]
    packets: Sequence[PacketSeen] = ()
    trouble: str = ""  # why packets that were kept cannot be shown

    @property
    def flows(self) -> list[KeptFlow]:
        """Return the window's records, those that counted most first."""
        flows = [] if self.explanation is None else self.explanation.flows
        return sorted(flows, key=lambda flow: flow.alone if flow.attention is None else flow.attention, reverse=True)

    @property
    def looked_at(self) -> list[ColumnSeen]:
        """Return the columns without which the score falls most."""
        explanation = self.explanation
        names = {} if explanation is None else explanation.columns
        return [self._seen(WINDOW_COLUMNS.index(name)) for name in names if name in WINDOW_COLUMNS]

    @property
    def outside(self) -> list[ColumnSeen]:
        """Return the columns whose evidence lies farthest outside what is usual for the device, or anywhere."""
        if self.explanation is None:
            return []
        low, high = self._range()
        found: dict[tuple[float | None, ...], ColumnSeen] = {}
        for place, _ in standing_out(self._evidence(), low, high):
            seen = self._seen(place)
            found.setdefault((seen.here, seen.low, seen.high), seen)  # many columns say the same of small flows
        return list(found.values())[:MOST_COLUMNS]

    def _evidence(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        assert self.explanation is not None
        made_it = [flow.made_it for flow in self.explanation.flows]
        window = self.explanation.window
        return window[made_it] if any(made_it) else window

    def _range(self) -> tuple[Any, Any]:
        assert self.explanation is not None
        usual, columns = self.explanation.usual, len(WINDOW_COLUMNS)
        if usual is None:
            medians = unpacked(self.explanation.medians, columns)
            return medians, medians
        return unpacked(usual.low, columns), unpacked(usual.high, columns)

    def _seen(self, place: int) -> ColumnSeen:
        assert self.explanation is not None
        low, high = self._range()
        is_known = self.explanation.usual is not None
        return ColumnSeen(
            column=WINDOW_COLUMNS[place],
            here=float(np.median(self._evidence()[:, place])),
            low=float(low[place]) if is_known else None,
            high=float(high[place]) if is_known else None,
            median=float(unpacked(self.explanation.medians, len(WINDOW_COLUMNS))[place]),
            fall=self.explanation.columns.get(WINDOW_COLUMNS[place]),
        )


def as_json(case: Case) -> dict[str, Any]:
    """Return the case as plain JSON: addresses as text, times in microseconds since 1970."""
    incident, explanation = case.incident, case.explanation
    found: dict[str, Any] = {
        "incident_id": incident.incident_id,
        "device": _address(incident.device),
        "mac": incident.mac,
        "class": incident.attack_class,
        "score": incident.score,
        "flows": incident.flows,
        "manifest_sha256": incident.manifest_sha256,
        "told": None if incident.told is None else incident.told.model_dump(),
        "standing": list(case.standing),
        "window": None,
        "packets": [vars(packet) for packet in case.packets],
    }
    if explanation is not None:
        flows = [flow.model_dump() | {"src": _address(flow.src), "dst": _address(flow.dst)} for flow in case.flows]
        found["window"] = {
            "device": _address(explanation.device),
            "due_us": explanation.due_us,
            "bundle": explanation.bundle,
            "records": flows,
            "usual_records": None if explanation.usual is None else explanation.usual.records,
            "looked_at": [vars(each) for each in case.looked_at],
            "outside": [vars(each) for each in case.outside],
        }
    return found


def write_case(case: Case, stream: TextIO) -> None:
    """Write the case for a person."""
    paint = Paint(stream)
    incident = case.incident
    told_of = incident.told
    who = _address(incident.device) if told_of is None else told_of.who
    stream.write(paint(printable(f"{incident.attack_class}: {who}"), BOLD) + "\n")
    for line in _facts(case):
        stream.write(f"  {printable(line)}\n")
    if case.explanation is None:
        stream.write("\nnothing was kept of how it opened\n")
        return
    explanation = case.explanation
    evidence = sum(flow.made_it for flow in explanation.flows)
    heading = (
        f"the window of {_address(explanation.device)} when it opened: {len(explanation.flows)} records, "
        f"{evidence} of them evidence (*)"
    )
    stream.write("\n" + paint(heading, BOLD) + "\n")
    stream.write(paint(f"  {_order(explanation)}", DIM) + "\n")
    _write_table(stream, list(_flow_rows(case)), right=("attention", "alone", "packets", "bytes", "like it"))
    stream.write("\n" + paint("what the network looked at: without it the score falls", BOLD) + "\n")
    _write_table(stream, list(_column_rows(case.looked_at, is_known=explanation.usual is not None)))
    usual = explanation.usual
    outside = (
        f"farthest outside what this device does otherwise ({usual.records:,} records seen, 5 % to 95 %)"
        if usual is not None
        else "farthest from benign traffic (too little was seen of this device to say what it does otherwise)"
    )
    stream.write("\n" + paint(outside, BOLD) + "\n")
    _write_table(stream, list(_column_rows(case.outside, is_known=usual is not None)))
    if case.packets:
        stream.write("\n" + paint(f"its packets: {len(case.packets)} were kept (evidence is on)", BOLD) + "\n")
    for packet in case.packets:
        line = f"{timestamp_text(packet.at_us)[11:26]}  {packet.wire_bytes:>5} B  {packet.words}"
        stream.write(f"  {printable(line)}\n")
    if case.trouble:
        stream.write(f"\n{printable(case.trouble)}\n")


def _facts(case: Case) -> Iterator[str]:
    incident, told_of = case.incident, case.incident.told
    named = f" ({incident.mac})" if incident.mac else ""
    yield f"incident   {incident.incident_id}, device {_address(incident.device)}{named}"
    if told_of is not None:
        first, last = (
            timestamp_text(max(0, told_of.first_us))[:23].replace("T", " "),
            timestamp_text(max(0, told_of.last_us))[11:23],
        )
        after_s = (told_of.opened_us - told_of.first_us) / 1e6
        yield f"when       {first} to {last} UTC; said {after_s:.2f} s after its first packet; now: {told_of.reason}"
        forged = "; its source may be forged" if told_of.spoofable else ""
        yield f"severity   {told_of.severity}{forged}"
        yield (
            f"how sure   score {incident.score:.3f}, threshold {told_of.threshold:.3f}, "
            f"{told_of.detections:,} windows above it, {incident.flows:,} flows"
        )
    bundle = "" if case.explanation is None else f"{case.explanation.bundle}, "
    yield f"judged by  {bundle}manifest {incident.manifest_sha256[:16]}"
    for line in case.standing or ("no verdict was given, no rule is on it",):
        yield f"verdict    {line}"


def _order(explanation: Explanation) -> str:
    if any(flow.attention is not None for flow in explanation.flows):
        return "by attention: how much each record counted for the score of all"
    return "by what each record scores alone; this network has no attention"


def _flow_rows(case: Case) -> Iterator[tuple[str, ...]]:
    explanation = case.explanation
    assert explanation is not None
    has_attention = any(flow.attention is not None for flow in explanation.flows)
    yield "", *(["attention"] * has_attention), "alone", "flow", "began (UTC)", "lasted", "packets", "bytes", "like it"
    for flow in case.flows:
        is_out = flow.src == explanation.device
        peer = _address(flow.dst if is_out else flow.src)
        port = f" port {flow.dst_port}" if flow.proto in PROTOCOLS_WITH_PORTS else ""
        yield (
            f"{'*' if flow.made_it else ' '}{'' if flow.is_new else ' before'}",
            *([f"{flow.attention or 0.0:.3f}"] * has_attention),
            f"{flow.alone:.3f}",
            f"{'to' if is_out else 'from'} {peer} {protocol_name(flow.proto)}{port}",
            timestamp_text(max(0, flow.start_us))[11:23],
            told("duration_us", flow.end_us - flow.start_us),
            f"{flow.fwd_packets:,}/{flow.bwd_packets:,}",
            f"{flow.fwd_wire_bytes:,}/{flow.bwd_wire_bytes:,}",
            f"{flow.repeats:,}",
        )


def _column_rows(seen: Sequence[ColumnSeen], *, is_known: bool) -> Iterator[tuple[str, ...]]:
    if not seen:
        yield ("none",)
        return
    usual = ("this device",) if is_known else ()
    yield "", "in the evidence", *usual, "benign anywhere", "fall"
    for each in seen:
        low_high: tuple[str, ...] = ()
        if each.low is not None and each.high is not None:
            low, high = told(each.column, each.low), told(each.column, each.high)
            low_high = (low if low == high else f"{low} to {high}",)
        fall = "" if each.fall is None else f"{each.fall:.3f}"
        yield words(each.column), told(each.column, each.here), *low_high, told(each.column, each.median), fall


def _write_table(stream: TextIO, rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(rows[0], row, widths, strict=True)
        ]
        stream.write(f"  {'  '.join(cells)}".rstrip() + "\n")


def _address(octets: str) -> str:
    return address_text(bytes.fromhex(octets))
