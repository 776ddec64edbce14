"""The agent's own record of incidents: what is known of each, for verdicts and explanations.

One SQLite file in the state folder, bounded in incidents and age. The agent writes every message of an incident into
it, with what tells the incident's evidence apart; a command reads it, running agent or not. It is worth less than an
alert: where the disk takes no more, that is counted and nothing waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from agent.console.report import who_attacks_whom
from agent.state.explanations import Explanation, explanation_of
from contracts.damage import DATABASE_ERRORS, OPENING_ERRORS, complaint_of
from contracts.errors import DataMissing, OutputError
from contracts.terminal import printable
from detection.incidents import IncidentUpdate
from detection.prints import MAX_PRINTS
from detection.rules import Address, IncidentId, Mac, PrintState, Sha256
from detection.state import StateRefused, StrictState, checked

RECORD_FILE: Final = "incidents.db"
MAX_INCIDENTS: Final = 2000
DAY_US: Final = 86_400 * 1_000_000
KEEP_US: Final = 30 * DAY_US
APPLICATION_ID: Final = 0x50454E49  # "PENI"
FORMAT: Final = 2
WITHOUT_EXPLANATIONS: Final = 1  # the format before, which needs one table more
TRIM_EVERY: Final = 64

_SCHEMA: Final = """
CREATE TABLE incidents (incident_id TEXT PRIMARY KEY, at_us INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (alert_id TEXT PRIMARY KEY, incident_id TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX incidents_by_age ON incidents (at_us);
CREATE INDEX messages_by_incident ON messages (incident_id);
"""
_EXPLANATIONS: Final = "CREATE TABLE explanations (incident_id TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;"


class Told(StrictState):
    """What the last message of an incident said, for people; `who` as `agent.console.report` writes it."""

    who: Annotated[str, Field(max_length=300)]
    first_us: int
    opened_us: int
    last_us: int
    detections: Annotated[int, Field(ge=0)]
    severity: Annotated[int, Field(ge=1, le=3)]
    threshold: float
    reason: Annotated[str, Field(max_length=100)]
    spoofable: bool


class RecordedIncident(StrictState):
    """What is kept of an incident: enough to know its like again, and what was said of it."""

    incident_id: IncidentId
    device: Address
    mac: Mac | None = None
    attack_class: str
    manifest_sha256: Sha256
    score: Annotated[float, Field(ge=0.0, le=1.0)]
    flows: Annotated[int, Field(ge=0)]
    prints: Annotated[list[PrintState], Field(max_length=MAX_PRINTS)]
    told: Told | None = None


class IncidentRecord:
    """The record, for the agent to write. Nothing raises: what fails is counted, and `trouble` says why.

    `keeps_all_ages`: for a replay, whose captures may lie years apart.
    """

    def __init__(self, path: Path, *, keeps_all_ages: bool = False) -> None:
        self.path = path
        self._keeps_all_ages = keeps_all_ages
        self.failed = 0
        self.trouble = ""
        self._db: sqlite3.Connection | None = None
        self._until_trim = 0

    def begin_anew(self) -> None:
        """Forget what an earlier run recorded. Raises OutputError for a file that is no record, and leaves it alone."""
        try:
            self._db = _opened(self.path)
            with self._db:
                for table in ("incidents", "messages", "explanations"):
                    self._db.execute(f"DELETE FROM {table}")
        except OPENING_ERRORS as exc:
            self.close()
            raise OutputError(f"{self.path}: cannot be a record of incidents: {complaint_of(exc)}") from exc

    def add(self, update: IncidentUpdate, *, bundle_sha256: str, mac: str | None = None) -> None:
        """Keep what a message says of its incident."""
        try:
            self._write(update, bundle_sha256=bundle_sha256, mac=mac)
            self.trouble = ""
        except (sqlite3.Error, OSError, ValueError) as exc:
            self.failed += 1
            self.trouble = f"{self.path}: {complaint_of(exc)}"
            is_damaged = isinstance(exc, DATABASE_ERRORS) and not isinstance(exc, sqlite3.OperationalError)
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
            told=_told(update),
        ).model_dump_json()
        with self._db:
            at_us = max(0, update.at_us)
            self._db.execute("INSERT OR REPLACE INTO incidents VALUES (?, ?, ?)", (update.incident_id, at_us, content))
            self._db.execute("INSERT OR REPLACE INTO messages VALUES (?, ?)", (update.alert_id, update.incident_id))
            if update.snapshot is not None:
                explanation = explanation_of(update, update.snapshot).model_dump_json()
                row = update.incident_id, explanation
                self._db.execute("INSERT OR REPLACE INTO explanations VALUES (?, ?)", row)
            if self._until_trim <= 0:
                self._trim(at_us)
        self._until_trim = TRIM_EVERY if self._until_trim <= 0 else self._until_trim - 1

    def _trim(self, now_us: int) -> None:
        """Let go what is too old or too much, with the messages that led to it."""
        assert self._db is not None
        if not self._keeps_all_ages:
            self._db.execute("DELETE FROM incidents WHERE at_us < ?", (now_us - KEEP_US,))
        self._db.execute(
            "DELETE FROM incidents WHERE incident_id IN "
            "(SELECT incident_id FROM incidents ORDER BY at_us DESC LIMIT -1 OFFSET ?)",
            (MAX_INCIDENTS,),
        )
        for table in ("messages", "explanations"):
            self._db.execute(f"DELETE FROM {table} WHERE incident_id NOT IN (SELECT incident_id FROM incidents)")

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
    query = (
        "SELECT content FROM incidents WHERE incident_id = ? "
        "OR incident_id = (SELECT incident_id FROM messages WHERE alert_id = ?)"
    )
    rows = _asked(path, query, wanted, wanted)
    if not rows:
        raise DataMissing(f"{path}: knows no alert or incident {printable(wanted[:60])}")
    return checked(RecordedIncident, _tree(path, rows[0][0]), what=str(path))


def find_explanation(path: Path, incident_id: str) -> Explanation | None:
    """Return what was kept of an incident's opening, None where nothing was. Raises as `find_incident` does."""
    if not _asked(path, "SELECT 1 FROM sqlite_master WHERE name = 'explanations'"):
        return None  # written before there were any
    rows = _asked(path, "SELECT content FROM explanations WHERE incident_id = ?", incident_id)
    return checked(Explanation, _tree(path, rows[0][0]), what=str(path)) if rows else None


def newest_incidents(path: Path, *, most: int) -> list[RecordedIncident]:
    """Return the incidents that spoke last, newest first. Raises as `find_incident` does."""
    rows = _asked(path, "SELECT content FROM incidents ORDER BY at_us DESC, incident_id DESC LIMIT ?", most)
    return [checked(RecordedIncident, _tree(path, row[0]), what=str(path)) for row in rows]


def _asked(path: Path, query: str, *values: object) -> list[tuple[str]]:
    if not path.is_file():
        raise DataMissing(f"{path}: no incident was recorded here yet")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            return db.execute(query, values).fetchall()
    except DATABASE_ERRORS as exc:
        raise StateRefused(f"{path}: cannot be read: {complaint_of(exc)}") from exc


def _tree(path: Path, content: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, TypeError, RecursionError) as exc:
        raise StateRefused(f"{path}: an incident is not JSON: {exc}") from exc


def _told(update: IncidentUpdate) -> Told:
    return Told(
        who=who_attacks_whom(update.parties)[:300],
        first_us=update.first_us,
        opened_us=update.opened_us,
        last_us=update.last_us,
        detections=update.detections,
        severity=update.severity,
        threshold=float(update.threshold),
        reason=update.reason[:100],
        spoofable=update.parties.spoofable,
    )


def _opened(path: Path) -> sqlite3.Connection:
    """Return the record, made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=0.2, check_same_thread=False)
    try:
        is_empty, is_older = _is_empty(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if is_empty:
            db.executescript(
                f"BEGIN; {_SCHEMA} {_EXPLANATIONS} PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {FORMAT}; COMMIT;"
            )
        elif is_older:
            db.executescript(f"BEGIN; {_EXPLANATIONS} PRAGMA user_version = {FORMAT}; COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _is_empty(db: sqlite3.Connection) -> tuple[bool, bool]:
    """Return whether nothing is in a file yet, and whether it is of the format before.

    Raises DatabaseError where it is another program's, or of another format.
    """
    seen = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    is_empty = bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)
    is_older = seen == (APPLICATION_ID, WITHOUT_EXPLANATIONS)
    if not is_empty and not is_older and seen != (APPLICATION_ID, FORMAT):
        raise sqlite3.DatabaseError("not a record of incidents of this format")
    return is_empty, is_older
