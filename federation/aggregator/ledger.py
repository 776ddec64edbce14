"""The aggregator's store: one database with fleet, gateways, rounds, updates, counters and an audit log.

Every change is one transaction, on disk before it is answered: after a SIGKILL a round is as it was before the change,
or as after it. An update's key is round and gateway, so several workers count none twice. The audit log is a chain:
each entry's sha256 covers the one before, so that a line taken out shows. Refusals are counted always, written into the
log MAX_LOGGED times a round: a flood of bad messages must not fill the disk. Nor must years: of more than MAX_ENTRIES
the oldest go, and an entry says which, and the sha256 that the chain goes on from. Trap: statements are of both
dialects that `stores` knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from contracts.errors import PenstockError
from federation.aggregator.stores import brief_error, masked, store_at

MAX_LOGGED: Final = 1000
LOGGED: Final = "logged refusals of round "
MAX_ENTRIES: Final = 400_000  # of the audit log: of ten thousand gateways a month and more of daily rounds
CUT: Final = 100_000  # so many more there may be, until the oldest go
PAGE: Final = 10_000
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
TABLES: Final = (*STATE_TABLES, "reports", "counters", "audit")

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


ADDED_TABLES: Final = frozenset(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", _ADDED))
"""Those that a store of an older version may lack; whoever opens it to write makes them."""


class LedgerError(PenstockError):
    """The aggregator's store cannot be opened, or is not one, or another fleet's."""

    exit_code = 74


class Ledger:
    """The store, open. Raises LedgerError; for a URL ConfigError and MissingExtra besides.

    With `as_it_is` it is opened to read alone: nothing is made, and `lacking` says what would be.
    """

    def __init__(self, where: Path | str, *, as_it_is: bool = False) -> None:
        self.name = masked(str(where))
        self.lacking: list[str] = []
        """Tables that are not there, in order; all of them where the store was not made yet."""
        self._store = store_at(where)
        try:
            if as_it_is:
                seen = self._store.open_as_it_is()
                self.lacking = [each for each in TABLES if each not in seen]
            else:
                self._store.open(_statements(_SCHEMA), _statements(_ADDED))
        except self._store.errors + (OSError,) as exc:  # noqa: RUF005 - mypy follows this one alone
            self._store.close()
            raise LedgerError(f"{self.name}: cannot be used: {brief_error(exc)}") from exc

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[Ledger]:
        """Do what the block does as one, or none of it. Raises LedgerError where the store does not take it."""
        try:
            self._store.begin()
            try:
                yield self
            except BaseException:
                self._store.rollback()
                raise
            self._store.commit()
        except self._store.errors as exc:
            with contextlib.suppress(*self._store.errors):
                self._store.rollback()
            raise LedgerError(f"{self.name}: cannot be written: {brief_error(exc)}") from exc

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Ledger]:
        """Let the block read how things stood at one moment; nobody waits for it. Raises LedgerError."""
        with self._reading():
            self._store.look()
            try:
                yield self
            finally:
                self._store.rollback()

    def run(self, statement: str, *values: Any) -> int:
        """Change rows within `change`; return how many."""
        return self._store.execute(statement, values).rowcount

    def row(self, question: str, *values: Any) -> tuple[Any, ...] | None:
        """Return the first row of an answer, None where it has none. Raises LedgerError."""
        with self._reading():
            found: tuple[Any, ...] | None = self._store.execute(question, values).fetchone()
        return found

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of an answer. Raises LedgerError."""
        with self._reading():
            return self._store.execute(question, values).fetchall()

    def count(self, what: str) -> None:
        """Count within `change`."""
        self.run("INSERT INTO counters VALUES (?, 1) ON CONFLICT (what) DO UPDATE SET count = counters.count + 1", what)

    def counted(self, what: str) -> int:
        """Return one counter."""
        return int((self.row("SELECT count FROM counters WHERE what = ?", what) or (0,))[0])

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        return {str(what): int(count) for what, count in self.rows("SELECT what, count FROM counters")}

    def log(self, what: str, *, at_us: int, **facts: Any) -> None:
        """Add an entry to the audit log, within `change`."""
        last = self.row("SELECT number, sha256 FROM audit ORDER BY number DESC LIMIT 1") or (0, "")
        entry = json.dumps({"what": what, "at_us": at_us, **facts}, sort_keys=True, separators=(",", ":"))
        number = last[0] + 1
        self.run("INSERT INTO audit VALUES (?, ?, ?)", number, entry, _linked(last[1], entry))
        if number % CUT == 0:
            self._cut(number - MAX_ENTRIES, at_us=at_us)

    def _cut(self, number: int, *, at_us: int) -> None:
        """Let the entries up to one go, where it is there."""
        row = self.row("SELECT sha256 FROM audit WHERE number = ?", number)
        if row is not None:
            self.run("DELETE FROM audit WHERE number <= ?", number)
            self.log("cut", at_us=at_us, entries=number, sha256=row[0])

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit log, as far as it reaches. Raises LedgerError where its chain is broken."""
        return list(self.entries())

    def entries(self) -> Iterator[dict[str, Any]]:
        """Give the audit log, oldest first. Raises LedgerError where its chain is broken.

        Where the oldest were cut, the first is held against what a later one says of those.
        """
        first: tuple[int, str, str] | None = None
        before, expected, is_whole = "", 1, True
        while page := self.rows(
            "SELECT number, entry, sha256 FROM audit WHERE number >= ? ORDER BY number LIMIT ?", expected, PAGE
        ):
            for number, entry, sha256 in page:
                is_first = not before
                if is_first and number != 1:
                    first, is_whole = (number, entry, sha256), False
                elif number != expected or sha256 != _linked(before, entry):
                    raise self._changed(expected)
                try:
                    told = json.loads(entry)
                except ValueError as exc:
                    raise self._changed(number) from exc
                if first is not None and not is_first and told["what"] == "cut" and told["entries"] == first[0] - 1:
                    is_whole = first[2] == _linked(told["sha256"], first[1])
                yield told
                before, expected = sha256, number + 1
        if not is_whole:
            raise self._changed(1)

    def _changed(self, number: int) -> LedgerError:
        return LedgerError(f"{self.name}: the audit log was changed at entry {number}")

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
        except self._store.errors as exc:
            raise LedgerError(f"{self.name}: cannot be read: {brief_error(exc)}") from exc


def _statements(script: str) -> list[str]:
    return [each.strip() for each in script.split(";") if each.strip()]


def _linked(before: str, entry: str) -> str:
    return hashlib.sha256(f"{before}\n{entry}".encode()).hexdigest()
