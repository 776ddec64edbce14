"""Where a ledger's tables stand: a SQLite file, or a PostgreSQL database named by a URL.

One dialect for both: plain SQL, `?` for values, upserts by ON CONFLICT; the schema is spelt in SQLite's types. A store
promises what the ledger builds on: `begin` lets in one writer at a time, of all workers, and what that one reads is the
newest; `commit` returns when it is on disk; a kill of either side leaves all of a transaction or nothing. Trap:
PostgreSQL takes no NUL in a text, which SQLite does: what comes from outside must be checked before it is a value.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from contracts.damage import DATABASE_ERRORS, complaint_of

APPLICATION_ID: Final = 0x50454E41  # "PENA"
FORMAT: Final = 1
PATIENCE_S: Final = 10
WAL_PATIENCE: Final = 100
SCHEMES: Final = ("postgresql://", "postgres://")

NO_PASSWORD: Final = "a password in a URL, wanted it in a passfile, a service file or PGPASSWORD"
_SECRET: Final = re.compile(r"(?<=://)[^/\s]*:\S*(?=@)|(?<=password=)[^&\s'\"]+", re.IGNORECASE)


class Answer(Protocol):
    """What came of a statement."""

    @property
    def rowcount(self) -> int:
        """Return how many rows it changed."""

    def fetchone(self) -> Any:
        """Return the next row, None where there is none."""

    def fetchall(self) -> list[Any]:
        """Return the rows left."""


class Store(Protocol):
    """A database. Methods raise one of `errors` where it does not do what it was asked; `open` comes first."""

    errors: tuple[type[Exception], ...]

    def open(self, schema: Sequence[str], added: Sequence[str]) -> None:
        """Open it; make the tables where there are none, and those added later where they lack."""

    def open_as_it_is(self) -> set[str]:
        """Open it to read alone, and change nothing; return the names of its tables, none where it was not made yet."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Answer:
        """Run one statement."""

    def begin(self) -> None:
        """Begin a transaction, as the only writer."""

    def look(self) -> None:
        """Begin one that only reads, and sees one moment; to be ended by `rollback`."""

    def commit(self) -> None:
        """End it; it is on disk then."""

    def rollback(self) -> None:
        """End it as if it had not begun; nothing where none was."""

    def close(self) -> None:
        """Close it, where it is open."""


def is_url(where: str) -> bool:
    """Return whether a store is named by a URL, and no path."""
    return where.startswith(SCHEMES)


def masked(text: str) -> str:
    """Return a text without the passwords that URLs in it hold.

    >>> masked("postgresql://ann:secret@db/penstock?sslpassword=other")
    'postgresql://***@db/penstock?sslpassword=***'
    """
    return _SECRET.sub("***", text)


def check_name(where: str) -> str:
    """Return the name of a store as it is. Raises ValueError, which does not show it, where it can be none."""
    if is_url(where):
        parts = urlsplit(where)
        told = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
        if parts.password is not None or told & {"password", "sslpassword"}:
            raise ValueError(NO_PASSWORD)
    elif where and not Path(where).is_absolute():
        raise ValueError("no absolute path, and no URL of postgresql://")
    return where


def store_at(where: Path | str) -> Store:
    """Return a store, not yet open. Raises ConfigError for a URL that cannot be one, and MissingExtra."""
    if isinstance(where, str) and is_url(where):
        from federation.aggregator.postgres import PostgresStore

        return PostgresStore(where)
    return SqliteStore(Path(where))


class SqliteStore:
    """A file on a local disk: WAL, synced at every commit, writers by turns."""

    errors: tuple[type[Exception], ...] = DATABASE_ERRORS

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: Any = None

    def open(self, schema: Sequence[str], added: Sequence[str]) -> None:
        """Open it; make the tables where there are none, and those added later where they lack. Raises OSError too."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        self._db = sqlite3.connect(self._path, timeout=PATIENCE_S, isolation_level=None)
        self.look()
        self._check_kind()  # before anything is changed of what may be somebody else's, or of a later format
        self.rollback()
        self._into_wal()
        self._db.execute("PRAGMA synchronous = FULL")
        self.begin()  # several workers may find no file
        if self._is_empty():
            marks = f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {FORMAT}"
            for statement in (*schema, *marks):
                self._db.execute(statement)
        self._check_kind()
        for statement in added:
            self._db.execute(statement)
        self.commit()

    def open_as_it_is(self) -> set[str]:
        """Open it to read alone, and leave no file beside it; return the names of its tables. Raises OSError too.

        Without a WAL beside it no worker has it open, and all of it is in the file; SQLite would make a WAL to look.
        """
        os.close(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        is_at_rest = not self._path.with_name(self._path.name + "-wal").exists()
        name = f"{self._path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_at_rest else ''}"
        self._db = sqlite3.connect(name, timeout=PATIENCE_S, isolation_level=None, uri=True)
        tables = {str(each) for (each,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables:
            self._check_kind()
        return tables

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Answer:
        """Run one statement."""
        answer: Answer = self._db.execute(statement, values)
        return answer

    def begin(self) -> None:
        """Begin a transaction, as the only writer."""
        self._db.execute("BEGIN IMMEDIATE")

    def look(self) -> None:
        """Begin one that only reads, and sees one moment; to be ended by `rollback`."""
        self._db.execute("BEGIN")

    def commit(self) -> None:
        """End it; it is on disk then."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """End it as if it had not begun; nothing where none was."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file, where it is open."""
        if self._db is not None:
            self._db.close()

    def _is_empty(self) -> bool:
        return bool(self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)

    def _check_kind(self) -> None:
        seen = tuple(self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if seen != (APPLICATION_ID, FORMAT) and not (seen == (0, 0) and self._is_empty()):
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


def brief_error(exc: Exception) -> str:
    """Return the first line of what a driver says, without a secret."""
    return masked(complaint_of(exc).strip().partition("\n")[0]) or type(exc).__name__
