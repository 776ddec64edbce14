"""A ledger's tables in a PostgreSQL database, with psycopg: writers by turns through an advisory lock.

Such a lock is there before any table is, and goes with its transaction, however that ends. The level is READ COMMITTED:
what is read after the lock was had is what the writer before left. A connection that was lost is made anew where
nothing was begun on it; lost in a transaction it is an error, and who asked asks again. Trap: lost in a COMMIT nobody
knows what became of it; a message comes again then, and is `repeated` where it was taken. No password passes through
here: libpq finds it by itself.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
from collections.abc import Sequence
from typing import Any, Final

from contracts.errors import ConfigError, MissingExtra
from federation.aggregator.stores import APPLICATION_ID, FORMAT, NO_PASSWORD, Answer, brief_error, check_name

# Of the session, before anything else; a fleet's word must not hang on how a server was set up in general.
_SESSION: Final = """
SELECT set_config('lock_timeout', '10s', false), set_config('idle_in_transaction_session_timeout', '300s', false),
    set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
    current_setting('server_encoding')
"""
_LOCK: Final = f"SELECT pg_advisory_xact_lock({APPLICATION_ID})"
# Where a URL says nothing else, so that a server that is gone is noticed within half a minute.
_CONNECTION: Final = {
    "fallback_application_name": "penstock-aggregator",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_SPELT: Final = {"INTEGER": "BIGINT", "BLOB": "BYTEA", "TEXT": 'TEXT COLLATE "C"', " WITHOUT ROWID": ""}


class PostgresStore:
    """A database of a PostgreSQL server. Raises ConfigError and MissingExtra."""

    def __init__(self, url: str) -> None:
        try:
            check_name(url)
        except ValueError as exc:
            raise ConfigError(f"store: {exc}") from None
        self._driver = _psycopg()
        self.errors: tuple[type[Exception], ...] = (self._driver.Error,)
        self._url = url
        self._defaults = _defaults(url, self._driver)
        self._has_begun = False
        self._db: Any = None

    def open(self, schema: Sequence[str], added: Sequence[str]) -> None:
        """Open it; make the tables where there are none, and those added later where they lack."""
        self._db = self._connected()
        self.begin()
        if self._db.execute("SELECT to_regclass('penstock_ledger')").fetchone()[0] is None:
            mark = "CREATE TABLE penstock_ledger (application INTEGER NOT NULL, format INTEGER NOT NULL)"
            for statement in (mark, *schema):
                self._db.execute(_spelt(statement))
            self.execute("INSERT INTO penstock_ledger VALUES (?, ?)", (APPLICATION_ID, FORMAT))
        self._check_mark()
        for statement in added:
            self._db.execute(_spelt(statement))
        self.commit()

    def open_as_it_is(self) -> set[str]:
        """Open it in one transaction that only reads, and ends with it; return the names of the tables there."""
        self._db = self._connected()
        self.look()
        if self._db.execute("SELECT to_regclass('penstock_ledger')").fetchone()[0] is not None:
            self._check_mark()
        names = self.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid)")
        return {str(name) for (name,) in names.fetchall()}

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Answer:
        """Run one statement; once more on a new connection where the old one was lost and nothing begun on it."""
        spelt = statement.replace("%", "%%").replace("?", "%s")
        try:
            answer: Answer = self._db.execute(spelt, values)
        except self._driver.Error:
            if self._has_begun or not self._db.closed:
                raise
            self._db = self._connected()
            answer = self._db.execute(spelt, values)
        return answer

    def begin(self) -> None:
        """Begin a transaction, as the only writer."""
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        self._has_begun = True
        self.execute(_LOCK)

    def look(self) -> None:
        """Begin one that only reads, and sees one moment; to be ended by `rollback`."""
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._has_begun = True

    def commit(self) -> None:
        """End it; it is on disk then. Where the connection goes meanwhile nobody knows: ask again."""
        ended = self._db.execute("COMMIT").statusmessage
        self._has_begun = False
        if ended != "COMMIT":  # as PostgreSQL ends what failed before
            raise self._driver.DatabaseError("a statement of the transaction had failed: nothing was changed")

    def rollback(self) -> None:
        """End it as if it had not begun; nothing where none was, or where the connection is gone and it with it."""
        if self._has_begun:
            self._has_begun = False
            if not self._db.closed:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection, where there is one."""
        if self._db is not None:
            self._db.close()

    def _check_mark(self) -> None:
        if self._db.execute("SELECT * FROM penstock_ledger").fetchall() != [(APPLICATION_ID, FORMAT)]:
            raise self._driver.DatabaseError("not an aggregator's database of this format")

    def _connected(self) -> Any:
        # Statements prepared on a server would trouble whatever pools connections in between.
        told = {"autocommit": True, "prepare_threshold": None, "client_encoding": "utf8", **self._defaults}
        db = self._driver.connect(self._url, **told)
        encoding = db.execute(_SESSION).fetchone()[-1]
        if encoding != "UTF8":
            db.close()
            raise self._driver.DatabaseError(f"its encoding is {encoding}, wanted UTF8")
        return db


def _defaults(url: str, driver: Any) -> dict[str, Any]:
    """Return what a connection is made with where a URL does not say; beyond this machine that is TLS, checked.

    Raises ConfigError for a URL that is none.
    """
    try:
        told: dict[str, Any] = importlib.import_module("psycopg.conninfo").conninfo_to_dict(url)
    except driver.ProgrammingError as exc:
        raise ConfigError(f"store: {brief_error(exc)}") from None
    if told.keys() & {"password", "sslpassword"}:
        raise ConfigError(f"store: {NO_PASSWORD}")
    more = {key: value for key, value in _CONNECTION.items() if key not in told}
    is_told = "sslmode" in told or "service" in told or {"PGSSLMODE", "PGSERVICE"} & os.environ.keys()
    at = told.get("hostaddr") or os.environ.get("PGHOSTADDR")  # where both are told, it is what is asked
    hosts = str(at or told.get("host") or os.environ.get("PGHOST", "")).split(",")
    if not is_told and not all(map(_is_here, hosts)):
        more["sslmode"] = "verify-full"
    return more


def _is_here(host: str) -> bool:
    """Return whether a host as libpq has it is this machine: a folder of sockets, or the loopback."""
    try:
        return host in ("", "localhost") or host.startswith(("/", "@")) or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _spelt(statement: str) -> str:
    """Return a statement of the schema with PostgreSQL's types; texts are ordered by their octets, as in SQLite."""
    for ours, theirs in _SPELT.items():
        statement = statement.replace(ours, theirs)
    return statement


def _psycopg() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as exc:
        # Without libpq psycopg is there and cannot be imported: it says so itself.
        why = "psycopg is not installed" if isinstance(exc, ModuleNotFoundError) else brief_error(exc)
        raise MissingExtra(f"{why}: pip install 'penstock[postgres]'") from exc
