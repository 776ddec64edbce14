"""What an operator says of an alert, applied: the same code for `penstock feedback` and for verdicts over MQTT.

A benign verdict becomes a rule (`detection.rules`), a malicious one takes such a rule away again. Every verdict that is
applied, or could not be, has a line in the audit log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agent.state.audit import AUDIT_FILE, AuditEntry, AuditLog
from agent.state.incident_record import DAY_US, RECORD_FILE, RecordedIncident, find_incident
from agent.state.rules import RULES_FILE, RulesFile, with_verdict
from contracts.errors import PenstockError, UsageError
from contracts.terminal import printable
from detection.incidents import CLOSED, IncidentUpdate
from detection.renewal import flows_an_hour, renewed
from detection.rules import BENIGN_RULE_DAYS, MAX_BENIGN, BenignRule, RulesState, Verdict
from detection.sample import HOUR_US
from flowfeatures import address_text


@dataclass(frozen=True)
class Source:
    """Where a verdict comes from: `by` command or mqtt, who says to have given it, and the message's sha256."""

    by: str
    operator: str = ""
    note: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Given:
    """What came of a verdict: the incident it is about, and the rule a benign one made."""

    incident: RecordedIncident
    verdict: Verdict
    rule_id: str | None

    @property
    def device(self) -> str:
        return address_text(bytes.fromhex(self.incident.device))

    @property
    def outcome(self) -> str:
        if self.rule_id is None:
            return "malicious; it counts against no budget, and no rule keeps its like back"
        return f"benign; rule {self.rule_id} keeps its like back for {BENIGN_RULE_DAYS} days"


def give_verdict(state_dir: Path, wanted: str, verdict: Verdict, *, source: Source, now_us: int) -> Given:
    """Apply a verdict on the incident that an alert_id or incident_id names, and put it on the audit log.

    Raises DataMissing for an id nobody knows, UsageError where there are too many rules or nothing to know the like by,
    StateRefused and OutputError for broken files and full disks; what was refused is on the log too.
    """
    log = AuditLog(state_dir / AUDIT_FILE)
    try:
        given = _applied(state_dir, wanted, verdict, now_us=now_us)
    except PenstockError as exc:
        log.add(_entry(wanted, verdict, source, now_us=now_us, outcome=f"refused: {exc}"))
        raise
    about = given.incident
    entry = _entry(wanted, verdict, source, now_us=now_us, outcome=given.outcome)
    log.add(
        entry.model_copy(
            update={
                "incident_id": about.incident_id,
                "device": given.device,
                "attack_class": about.attack_class,
            }
        )
    )
    return given


def _applied(state_dir: Path, wanted: str, verdict: Verdict, *, now_us: int) -> Given:
    incident = find_incident(state_dir / RECORD_FILE, wanted)
    made: list[str] = []

    def change(state: RulesState) -> RulesState:
        kept = [each for each in state.benign if each.incident_id != incident.incident_id]
        if verdict == "benign":
            if len(kept) >= MAX_BENIGN:
                raise UsageError(f"{MAX_BENIGN} incidents are marked benign already: `penstock mute remove` one first")
            made.append(f"b-{os.urandom(4).hex()}")
            kept.append(benign_rule(incident, alert_id=wanted, name=made[-1], now_us=now_us))
        changed = RulesState(mutes=state.mutes, benign=kept, verdicts=dict(state.verdicts))
        return with_verdict(changed, incident.incident_id, verdict)

    RulesFile(state_dir / RULES_FILE).change(change, now_us=now_us)
    return Given(incident, verdict, made[-1] if made else None)


def benign_rule(incident: RecordedIncident, *, alert_id: str, name: str, now_us: int) -> BenignRule:
    """Return the rule that a benign verdict makes. Raises UsageError where nothing was kept to know its like by."""
    if not incident.prints:
        raise UsageError("nothing was kept to know this incident's like by; `penstock mute add` can silence it")
    return BenignRule(
        id=name,
        alert_id=alert_id,
        incident_id=incident.incident_id,
        device=incident.device,
        mac=incident.mac,
        attack_class=incident.attack_class,
        manifest_sha256=incident.manifest_sha256,
        score=incident.score,
        flows=_flows_an_hour(incident, now_us=now_us),
        prints=incident.prints,
        created_us=now_us,
        expires_us=now_us + BENIGN_RULE_DAYS * DAY_US,
    )


def _flows_an_hour(incident: RecordedIncident, *, now_us: int) -> int:
    """Return how many flows an hour an incident is worth: all it had, or where it still goes on what its pace makes."""
    told, flows = incident.told, max(1, incident.flows)
    if told is None or told.reason.startswith(CLOSED) or now_us - told.last_us > HOUR_US:
        return flows
    return flows_an_hour(flows, first_us=told.first_us, last_us=told.last_us)


def renew_rule(state_dir: Path, incident: IncidentUpdate, *, now_us: int) -> None:
    """Let the rule of an incident that closed for it know the incident whole. Raises PenstockError."""
    seen = {incident.incident_id: incident}
    RulesFile(state_dir / RULES_FILE).change(lambda state: renewed(state, seen), now_us=now_us)


def _entry(wanted: str, verdict: Verdict, source: Source, *, now_us: int, outcome: str) -> AuditEntry:
    return AuditEntry(
        at_us=max(0, now_us),
        by="mqtt" if source.by == "mqtt" else "command",
        operator=_line(source.operator),
        wanted=_line(wanted),
        verdict=verdict,
        outcome=_line(outcome),
        note=_line(source.note),
        digest=source.digest,
    )


def _line(text: str) -> str:
    """Return a text as a log can hold it."""
    return printable(text)[:200]
