"""The table of incidents a person reads at the end of a replay: who attacks whom, since when, and why we think so."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from agent.console.terminal import BOLD, DIM, RED, YELLOW, Paint, is_terminal
from contracts.eve import timestamp_text
from contracts.terminal import printable
from detection.incidents import IncidentUpdate
from detection.tally import MAX_ADDRESSES, Parties
from flowfeatures import address_text

HEADINGS = ("device", "who attacks whom", "class", "first seen (UTC)", "flows", "score", "columns that said so")
RIGHT_ALIGNED = {"flows", "score"}
GAP = "  "


def write_incidents(incidents: Sequence[IncidentUpdate], stream: TextIO) -> None:
    """Write one row per incident. A narrow terminal gets the columns that said so on a line of their own."""
    if not incidents:
        stream.write("no incidents\n")
        return
    paint = Paint(stream)
    rows = [_cells(incident) for incident in incidents]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    is_narrow = is_terminal(stream) and sum(widths) + len(GAP) * len(widths) > shutil.get_terminal_size().columns
    shown = len(HEADINGS) - is_narrow
    stream.write(paint(_line(HEADINGS[:shown], widths), BOLD) + "\n")
    for incident, cells in zip(incidents, rows, strict=True):
        stream.write(paint(_line(cells[:shown], widths), RED if incident.severity == 1 else YELLOW) + "\n")
        if is_narrow:
            stream.write(paint(f"{GAP}said so: {cells[-1]}", DIM) + "\n")


def who_attacks_whom(parties: Parties) -> str:
    """Return the two ends of an incident; where nobody did half of it, how many there were."""
    attacker = _end(parties.attacker, parties.attackers, is_named=parties.attacker_named, many="sources")
    victim = _end(parties.victim, parties.victims, is_named=parties.victim_named, many="addresses")
    return f"{attacker} -> {victim}"


def _end(address: bytes, count: int, *, is_named: bool, many: str) -> str:
    at_least = "+" if count >= MAX_ADDRESSES else ""
    if not is_named:
        return f"{count}{at_least} {many}"
    others = f" (+{count - 1}{at_least})" if count > 1 else ""
    return f"{address_text(address)}{others}"


def _cells(incident: IncidentUpdate) -> tuple[str, ...]:
    return (
        address_text(incident.device),
        who_attacks_whom(incident.parties),
        incident.class_name,
        timestamp_text(max(0, incident.first_us))[:19].replace("T", " "),
        f"{incident.flows:,}",
        f"{incident.score:.3f}",
        printable(", ".join(each.column for each in incident.columns)),
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        f"{cell:>{width}}" if heading in RIGHT_ALIGNED else f"{cell:<{width}}"
        for cell, width, heading in zip(cells, widths, HEADINGS, strict=False)
    )
    return GAP.join(aligned).rstrip()
