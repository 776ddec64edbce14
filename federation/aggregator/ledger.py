"""The aggregator's disk: one SQLite file with fleet, gateways, rounds, updates, counters and an audit log.

Every change is one transaction, synced before it is answered (WAL, synchronous FULL): after a SIGKILL a round is as it
was before the change or as after it. An update's key is round and gateway, so several workers count none twice. The
audit log is a chain: each entry's sha256 covers the one before, so that a line taken out shows. Refusals are counted
always, written into the log MAX_LOGGED times a round: a flood of bad messages must not fill the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from contracts.errors import PenstockError

APPLICATION_ID: Final = 0x50454E41  # "PENA"
FORMAT: Final = 1
MAX_LOGGED: Final = 1000
WAL_PATIENCE: Final = 100
STATE_TABLES: Final = (
    "fleet",
    "gateways",
    "rounds",
    "updates",
    "memory",
    "releases",
    "orders",
    "private_rounds",
    "private",
)

_SCHEMA: Final = """
CREATE TABLE fleet (name TEXT PRIMARY KEY, bundle_sha256 TEXT NOT NULL, head BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE gateways (name TEXT PRIMARY KEY, key BLOB NOT NULL UNIQUE, enrolled_us INTEGER NOT NULL,
    revoked_us INTEGER) WITHOUT ROWID;
CREATE TABLE rounds (number INTEGER PRIMARY KEY, state TEXT NOT NULL, call BLOB NOT NULL, base BLOB NOT NULL,
    opened_us INTEGER NOT NULL, deadline_us INTEGER NOT NULL, closed_us INTEGER, head BLOB, why TEXT);
CREATE TABLE updates (round INTEGER NOT NULL, gateway TEXT NOT NULL, sha256 TEXT NOT NULL, message BLOB NOT NULL,
    received_us INTEGER NOT NULL, PRIMARY KEY (round, gateway)) WITHOUT ROWID;
CREATE TABLE counters (what TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE audit (number INTEGER PRIMARY KEY, entry TEXT NOT NULL, sha256 TEXT NOT NULL);
"""
# Came after the first files of this format were made, and is added to those.
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS memory (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS private_rounds (number INTEGER PRIMARY KEY, state TEXT NOT NULL, until_us INTEGER NOT NULL,
    roster BLOB, senders BLOB, survivors BLOB, total BLOB, why TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS private (round INTEGER NOT NULL, kind TEXT NOT NULL, gateway TEXT NOT NULL,
    sha256 TEXT NOT NULL, message BLOB NOT NULL, received_us INTEGER NOT NULL,
    PRIMARY KEY (round, kind, gateway)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS releases (number INTEGER PRIMARY KEY, state TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
    head_sha256 TEXT NOT NULL, archive BLOB NOT NULL, since_us INTEGER NOT NULL, why TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (gateway TEXT PRIMARY KEY, number INTEGER NOT NULL, release INTEGER NOT NULL,
    message BLOB NOT NULL, issued_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (gateway TEXT PRIMARY KEY, release INTEGER NOT NULL, bundle_sha256 TEXT NOT NULL,
    calibration TEXT NOT NULL, refused TEXT NOT NULL, seen_us INTEGER NOT NULL) WITHOUT ROWID;
"""


class LedgerError(PenstockError):
    """The aggregator's file cannot be opened, or is not one, or another fleet's."""

    exit_code = 74


class Ledger:
    """The file, open. Raises LedgerError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
            self._prepare()
        except (sqlite3.Error, OSError) as exc:
            raise LedgerError(f"{path}: cannot be used: {exc}") from exc

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[Ledger]:
        """Do what the block does as one, or none of it. Raises LedgerError where the disk does not take it."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise LedgerError(f"{self.path}: cannot be written: {exc}") from exc

    def run(self, statement: str, *values: Any) -> int:
        """Change rows within `change`; return how many."""
        return self._db.execute(statement, values).rowcount

    def row(self, question: str, *values: Any) -> tuple[Any, ...] | None:
        """Return the first row of an answer, None where it has none. Raises LedgerError."""
        with self._reading():
            found: tuple[Any, ...] | None = self._db.execute(question, values).fetchone()
        return found

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of an answer. Raises LedgerError."""
        with self._reading():
            return self._db.execute(question, values).fetchall()

    def count(self, what: str) -> None:
        """Count within `change`."""
        self.run("INSERT INTO counters VALUES (?, 1) ON CONFLICT (what) DO UPDATE SET count = count + 1", what)

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        return {str(what): int(count) for what, count in self.rows("SELECT what, count FROM counters")}

    def log(self, what: str, *, at_us: int, **facts: Any) -> None:
        """Add an entry to the audit log, within `change`."""
        last = self.row("SELECT number, sha256 FROM audit ORDER BY number DESC LIMIT 1") or (0, "")
        entry = json.dumps({"what": what, "at_us": at_us, **facts}, sort_keys=True, separators=(",", ":"))
        self.run("INSERT INTO audit VALUES (?, ?, ?)", last[0] + 1, entry, _linked(last[1], entry))

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit log. Raises LedgerError where its chain is broken."""
        found, before, expected = [], "", 1
        for number, entry, sha256 in self.rows("SELECT number, entry, sha256 FROM audit ORDER BY number"):
            if number != expected or sha256 != _linked(before, entry):
                raise LedgerError(f"{self.path}: the audit log was changed at entry {expected}")
            found.append(json.loads(entry))
            before, expected = sha256, expected + 1
        return found

    def digest(self) -> str:
        """Return the sha256 of the learning state: all but counters and audit log."""
        digest = hashlib.sha256()
        for table in STATE_TABLES:
            for row in self.rows(f"SELECT * FROM {table} ORDER BY 1, 2"):
                digest.update(repr((table, row)).encode())
        return digest.hexdigest()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise LedgerError(f"{self.path}: cannot be read: {exc}") from exc

    def _prepare(self) -> None:
        self._into_wal()
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")  # several workers may find no file
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
            self._each(_SCHEMA + marks)
        if self._db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            self._each(_ADDED)
        self._db.execute("COMMIT")
        seen = tuple(self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if seen != (APPLICATION_ID, FORMAT):
            raise sqlite3.DatabaseError("not an aggregator's file of this format")

    def _into_wal(self) -> None:
        """Switch to WAL; unlike other statements this one does not wait for another worker that does the same."""
        for patience in range(WAL_PATIENCE, -1, -1):
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if not patience:
                    raise
                time.sleep(0.05)
            else:
                return

    def _each(self, script: str) -> None:
        """Run the statements of a script within the open transaction, which `executescript` would end."""
        for statement in script.split(";"):
            self._db.execute(statement)


def _linked(before: str, entry: str) -> str:
    return hashlib.sha256(f"{before}\n{entry}".encode()).hexdigest()
