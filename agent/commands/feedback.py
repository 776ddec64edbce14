"""`penstock feedback`: what the operator says of an alert; and the agent's own record of incidents that it is found in.

The record is one SQLite file in the state folder, bounded in incidents and age. The agent writes every message of an
incident into it, with what tells the incident's evidence apart; a command reads it, running agent or not. It is worth
less than an alert: where the disk takes no more, that is counted and nothing waits. A benign verdict becomes a rule
(`detection.rules`), a malicious one takes such a rule away again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from agent.state.rules import RULES_FILE, STATE_DIR, RulesFile, with_verdict
from contracts.classes import NAMES
from contracts.errors import DataMissing, UsageError
from contracts.terminal import printable
from detection.incidents import IncidentUpdate
from detection.prints import MAX_PRINTS
from detection.rules import (
    BENIGN_RULE_DAYS,
    MAX_BENIGN,
    Address,
    BenignRule,
    IncidentId,
    Mac,
    PrintState,
    RulesState,
    Sha256,
)
from detection.state import StateRefused, StrictState, checked
from flowfeatures import address_text

RECORD_FILE: Final = "incidents.db"
MAX_INCIDENTS: Final = 2000
KEEP_US: Final = 30 * 86_400 * 1_000_000
APPLICATION_ID: Final = 0x50454E49  # "PENI"
FORMAT: Final = 1
TRIM_EVERY: Final = 64
DAY_US: Final = 86_400 * 1_000_000

_SCHEMA: Final = """
CREATE TABLE incidents (incident_id TEXT PRIMARY KEY, at_us INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (alert_id TEXT PRIMARY KEY, incident_id TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX incidents_by_age ON incidents (at_us);
CREATE INDEX messages_by_incident ON messages (incident_id);
"""

EPILOG = f"""\
ALERT_ID is the alert_id or the incident_id of an alert, of which the last {MAX_INCIDENTS:,} incidents of the last
{KEEP_US // DAY_US} days are known. What was called benign opens no incident where it looks the same again, on the same
device, for {BENIGN_RULE_DAYS} days. `penstock mute list` shows such rules, `penstock mute remove` revokes them.

examples:
  sudo penstock feedback 019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a benign
  sudo penstock feedback 019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a malicious
"""


class RecordedIncident(StrictState):
    """What is kept of an incident: enough to know its like again."""

    incident_id: IncidentId
    device: Address
    mac: Mac | None = None
    attack_class: str
    manifest_sha256: Sha256
    score: Annotated[float, Field(ge=0.0, le=1.0)]
    flows: Annotated[int, Field(ge=0)]
    prints: Annotated[list[PrintState], Field(max_length=MAX_PRINTS)]


class IncidentRecord:
    """The record, for the agent to write. Nothing raises: what fails is counted, and `trouble` says why."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed = 0
        self.trouble = ""
        self._db: sqlite3.Connection | None = None
        self._until_trim = 0

    def add(self, update: IncidentUpdate, *, bundle_sha256: str, mac: str | None = None) -> None:
        """Keep what a message says of its incident."""
        try:
            self._write(update, bundle_sha256=bundle_sha256, mac=mac)
            self.trouble = ""
        except (sqlite3.Error, OSError, ValueError) as exc:
            self.failed += 1
            self.trouble = f"{self.path}: {exc}"
            is_damaged = isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError)
            self.close()
            if is_damaged:
                self._set_aside()

    def close(self) -> None:
        """Close the file; `add` would open it again."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _write(self, update: IncidentUpdate, *, bundle_sha256: str, mac: str | None) -> None:
        if self._db is None:
            self._db = _opened(self.path)
        content = RecordedIncident(
            incident_id=update.incident_id,
            device=update.device.hex(),
            mac=mac or None,  # "" is a MAC that was claimed and not proven
            attack_class=update.class_name,
            manifest_sha256=bundle_sha256,
            score=min(1.0, max(0.0, float(update.score))),
            flows=update.flows,
            prints=[PrintState.of(each) for each in update.prints],
        ).model_dump_json()
        with self._db:
            at_us = max(0, update.at_us)
            self._db.execute("INSERT OR REPLACE INTO incidents VALUES (?, ?, ?)", (update.incident_id, at_us, content))
            self._db.execute("INSERT OR REPLACE INTO messages VALUES (?, ?)", (update.alert_id, update.incident_id))
            if self._until_trim <= 0:
                self._trim(at_us)
        self._until_trim = TRIM_EVERY if self._until_trim <= 0 else self._until_trim - 1

    def _trim(self, now_us: int) -> None:
        """Let go what is too old or too much, with the messages that led to it."""
        assert self._db is not None
        self._db.execute("DELETE FROM incidents WHERE at_us < ?", (now_us - KEEP_US,))
        self._db.execute(
            "DELETE FROM incidents WHERE incident_id IN "
            "(SELECT incident_id FROM incidents ORDER BY at_us DESC LIMIT -1 OFFSET ?)",
            (MAX_INCIDENTS,),
        )
        self._db.execute("DELETE FROM messages WHERE incident_id NOT IN (SELECT incident_id FROM incidents)")

    def _set_aside(self) -> None:
        """Move a file that is no record out of the way; the next message begins a new one."""
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path.with_name(self.path.name + ".damaged"))
            for suffix in ("-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)


def find_incident(path: Path, wanted: str) -> RecordedIncident:
    """Return the incident that an alert_id, or its own id, names.

    Raises DataMissing where the record knows none, StateRefused where it is none.
    """
    if not path.is_file():
        raise DataMissing(f"{path}: no incident was recorded here yet")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            row = db.execute(
                "SELECT content FROM incidents WHERE incident_id = ? "
                "OR incident_id = (SELECT incident_id FROM messages WHERE alert_id = ?)",
                (wanted, wanted),
            ).fetchone()
    except sqlite3.Error as exc:
        raise StateRefused(f"{path}: cannot be read: {exc}") from exc
    if row is None:
        raise DataMissing(f"{path}: knows no alert or incident {printable(wanted[:60])}")
    try:
        content = json.loads(row[0])
    except (ValueError, TypeError, RecursionError) as exc:
        raise StateRefused(f"{path}: an incident is not JSON: {exc}") from exc
    return checked(RecordedIncident, content, what=str(path))


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
        flows=max(1, incident.flows),
        prints=incident.prints,
        created_us=now_us,
        expires_us=now_us + BENIGN_RULE_DAYS * DAY_US,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock feedback`."""
    parser.epilog = EPILOG
    parser.add_argument("alert_id", metavar="ALERT_ID", help="of the alert, or its incident_id")
    parser.add_argument("verdict", choices=("benign", "malicious"), help="what it was")
    parser.add_argument(
        "--state-dir", type=Path, default=STATE_DIR, metavar="DIR", help="the agent's state (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Take a verdict; return the exit code."""
    now_us = time.time_ns() // 1000
    incident = find_incident(args.state_dir / RECORD_FILE, args.alert_id)
    file = RulesFile(args.state_dir / RULES_FILE)

    def change(state: RulesState) -> RulesState:
        kept = [each for each in state.benign if each.incident_id != incident.incident_id]
        if args.verdict == "benign":
            if len(kept) >= MAX_BENIGN:
                raise UsageError(f"{MAX_BENIGN} incidents are marked benign already: `penstock mute remove` one first")
            name = f"b-{os.urandom(4).hex()}"
            kept.append(benign_rule(incident, alert_id=args.alert_id, name=name, now_us=now_us))
        changed = RulesState(mutes=state.mutes, benign=kept, verdicts=dict(state.verdicts))
        return with_verdict(changed, incident.incident_id, args.verdict)

    state = file.change(change, now_us=now_us)
    assert incident.attack_class in NAMES
    what = f"{incident.attack_class} at {address_text(bytes.fromhex(incident.device))}"
    if args.verdict == "malicious":
        print(f"{what}: malicious; it counts against no budget, and no rule keeps its like back")
    else:
        print(f"{what}: benign; rule {state.benign[-1].id} keeps its like back for {BENIGN_RULE_DAYS} days")
    return 0


def _opened(path: Path) -> sqlite3.Connection:
    """Return the record, made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=0.2, check_same_thread=False)
    try:
        is_empty = _is_empty(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if is_empty:
            db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
            )
    except BaseException:
        db.close()
        raise
    return db


def _is_empty(db: sqlite3.Connection) -> bool:
    """Return whether nothing is in a file yet. Raises DatabaseError where it is another program's, or format."""
    seen = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    is_empty = bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)
    if not is_empty and seen != (APPLICATION_ID, FORMAT):
        raise sqlite3.DatabaseError("not a record of incidents of this format")
    return is_empty
