"""What came of a replay, for a program (one JSON object) and for a person (a table and a few lines)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from agent.console.report import write_incidents
from agent.delivery import Delivery
from agent.pipeline import Pipeline
from contracts.bundle import Bundle
from contracts.errors import PenstockError
from contracts.eve import timestamp_text
from contracts.terminal import printable
from detection.incidents import IncidentUpdate
from flowfeatures import FlowFeaturesError, address_text


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A replay that ended. `errors` in the order they happened; `stopped_code` is not 0 where a signal ended it."""

    captures: Sequence[Path]
    bundle: Bundle
    pipeline: Pipeline
    delivery: Delivery
    seconds: dict[str, float]
    errors: Sequence[PenstockError | FlowFeaturesError]
    stopped_code: int

    @property
    def exit_code(self) -> int:
        """Return the signal's code, else that of the first error, else 0."""
        return self.stopped_code or next((error.exit_code for error in self.errors), 0)

    @property
    def incidents(self) -> list[IncidentUpdate]:
        return self.pipeline.detector.incidents

    @property
    def forgotten_incidents(self) -> int:
        """Return how many incidents were opened and are no longer in `incidents`."""
        return self.pipeline.detector.opened - len(self.incidents)


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return the JSON object of `penstock replay --json`; counts are numbers, `incident_list` says what they were."""
    meter, delivery = outcome.pipeline.meter.counters, outcome.delivery
    manifest = outcome.bundle.manifest
    return {
        "captures": [str(path) for path in outcome.captures],
        "bundle": {"name": manifest.name, "release": manifest.release, "unsigned": outcome.bundle.unsigned},
        "packets": meter["packets"],
        "decoded": meter["decoded"],
        "undecoded": meter["undecoded"],
        "flows": meter["flows"],
        "records": meter["records"],
        "partial_records": meter["partial_records"],
        "super_frames": meter["super_frames"],
        "evicted_flows": meter["evicted_flows"],
        "emergencies": meter["emergencies"],
        "evicted_devices": outcome.pipeline.windows.counters["evicted_devices"],
        "windows": outcome.pipeline.detector.windows,
        "detections": outcome.pipeline.detector.detections,
        "incidents": outcome.pipeline.detector.opened,
        "forgotten_incidents": outcome.forgotten_incidents,
        "alerts": outcome.pipeline.alerts_made,
        "delivery": {
            "delivered": delivery.delivered,
            "undelivered": delivery.left,
            "dropped": delivery.dropped,
            "outbox": str(delivery.outbox_path) if delivery.left else None,
        },
        "seconds": {stage: round(spent_s, 6) for stage, spent_s in outcome.seconds.items()},
        "incident_list": [incident_object(incident) for incident in outcome.incidents],
        "errors": [str(error) for error in outcome.errors],
        "exit_code": outcome.exit_code,
    }


def incident_object(incident: IncidentUpdate) -> dict[str, Any]:
    """Return an incident as plain JSON; attacker and victim are null where there were too many to name one."""
    parties = incident.parties
    return {
        "incident_id": incident.incident_id,
        "device": address_text(incident.device),
        "class": incident.class_name,
        "attacker": address_text(parties.attacker) if parties.attacker_named else None,
        "attackers": parties.attackers,
        "victim": address_text(parties.victim) if parties.victim_named else None,
        "victims": parties.victims,
        "spoofable": parties.spoofable,
        "severity": incident.severity,
        "opened": timestamp_text(max(0, incident.opened_us)),
        "first_seen": timestamp_text(max(0, incident.first_us)),
        "last_seen": timestamp_text(max(0, incident.last_us)),
        "flows": incident.flows,
        "score": round(incident.score, 4),
        "columns": {column: round(fall, 4) for column, fall in incident.columns},
    }


def write_report(outcome: Outcome, stream: TextIO) -> None:
    """Write the table of incidents and what was read, for a person."""
    write_incidents(outcome.incidents, stream)
    meter, detector = outcome.pipeline.meter.counters, outcome.pipeline.detector
    undecoded = ", ".join(f"{count:,} {reason}" for reason, count in meter["undecoded"].items())
    counts = [
        f"{_count(meter['packets'], 'packet')}{f' (not decoded: {undecoded})' if undecoded else ''}",
        _count(meter["flows"], "flow"),
        _count(detector.windows, "window"),
        _count(detector.opened, "incident"),
        _count(outcome.pipeline.alerts_made, "alert"),
    ]
    stream.write(f"\n{', '.join(counts)} in {outcome.seconds['total']:.1f} s\n")
    if overload := _overload(outcome):
        stream.write(f"more than there was room for: {', '.join(overload)}\n")
    if outcome.delivery.left:
        stream.write(f"{_count(outcome.delivery.left, 'alert')} undelivered, kept in {outcome.delivery.outbox_path}\n")
    if outcome.bundle.unsigned:
        stream.write(f"bundle {printable(str(outcome.bundle.path))}: unsigned\n")


def _overload(outcome: Outcome) -> list[str]:
    """Return what had to make room: with it, detections may be missing, or rows of this table."""
    gone = {
        "flows cut short": outcome.pipeline.meter.counters["evicted_flows"],
        "devices forgotten": outcome.pipeline.windows.counters["evicted_devices"],
        "incidents not listed": outcome.forgotten_incidents,
        "alerts dropped": outcome.delivery.dropped,
    }
    return [f"{number:,} {what}" for what, number in gone.items() if number]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
