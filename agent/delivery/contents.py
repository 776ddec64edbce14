"""What waits in an outbox, read beside its owner: how much of what, how old, and what was set aside.

One short read of SQLite's snapshot: the owner's writes wait for nothing of it, and no letter is changed. The trap: the
owner's own counts are a little ahead, since letters stand in its memory until they are committed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.delivery.broker import alert_topic
from agent.delivery.clock import CLOCK_SET_US
from agent.delivery.outbox import APPLICATION_ID, FORMAT, SIDE_SUFFIXES
from contracts.damage import OPENING_ERRORS, complaint_of
from contracts.errors import DataMissing, OutboxError
from contracts.files import open_regular

AGES_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}
OLDER: Final = "older"
UNKNOWN: Final = "unknown"  # written when the clock was not set
WAIT_S: Final = 5.0  # for an owner that mends its log after a kill


@dataclass(frozen=True, kw_only=True)
class Pile:
    """The letters of one topic, severity and age: under a `minute`, `hour` or `day`, `older`, or `unknown`."""

    topic: str
    severity: int
    age: str
    letters: int
    size_bytes: int
    oldest_us: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The piles, worst severity first; and the files that were set aside, with their octets: nothing sends those."""

    piles: tuple[Pile, ...]
    aside: tuple[tuple[Path, int], ...]

    @property
    def letters(self) -> int:
        """Return how many letters wait."""
        return sum(pile.letters for pile in self.piles)

    @property
    def size_bytes(self) -> int:
        """Return the octets of their texts."""
        return sum(pile.size_bytes for pile in self.piles)

    @property
    def oldest_us(self) -> int | None:
        """Return when the letter that waits longest came."""
        return min((pile.oldest_us for pile in self.piles), default=None)


def contents_of(path: Path, *, now_us: int) -> Contents:
    """Return what waits in a file. Raises DataMissing where there is none, OutboxError where it cannot be read."""
    try:
        if not path.exists():
            raise DataMissing(f"outbox: {path} is not there: nothing was kept in it yet")
        open_regular(path).close()  # SQLite would wait for a pipe, whatever comes
        address = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=WAIT_S)) as db:
            db.text_factory = lambda raw: raw.decode(errors="surrogateescape")
            db.execute("BEGIN")
            piles = _piles(db, path, now_us=now_us)
    except OPENING_ERRORS as exc:
        is_allowed = not isinstance(exc, PermissionError) and os.access(path, os.R_OK)
        why = getattr(exc, "strerror", None) or complaint_of(exc)
        raise OutboxError(
            f"outbox: {path} cannot be read: {why if is_allowed else 'wanted its owner, or sudo'}"
        ) from exc
    return Contents(piles=piles, aside=_aside(path))


def _piles(db: sqlite3.Connection, path: Path, *, now_us: int) -> tuple[Pile, ...]:
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if (application, version) == (0, 0) and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return ()  # made, and not begun
    if application != APPLICATION_ID:
        raise OutboxError(f"outbox: {path} is another program's database")
    if not 1 <= version <= FORMAT:
        raise OutboxError(f"outbox: {path} is format {version}, wanted {FORMAT} or an earlier one")
    is_timed, topic = "is_timed" if version > 1 else "1", "topic" if version > 2 else "''"
    ages = " ".join(f"WHEN added_us >= {now_us - age_s * 1_000_000} THEN '{age}'" for age, age_s in AGES_S.items())
    # A column of SQLite holds what a damaged file says it holds: the types are ours to see to.
    typed = ", ".join(
        f"coalesce(CAST({each} AS {kind}), {nothing}) AS {name}"
        for name, each, kind, nothing in (
            ("gateway", "gateway", "TEXT", "''"),
            ("class", "class", "TEXT", "''"),
            ("topic", topic, "TEXT", "''"),
            ("severity", "severity", "INTEGER", 0),
            ("added_us", "added_us", "INTEGER", 0),
            ("is_timed", is_timed, "INTEGER", 0),
        )
    )
    rows = db.execute(
        "SELECT gateway, class, topic, severity,"
        f" CASE WHEN NOT is_timed OR added_us < {CLOCK_SET_US} THEN '{UNKNOWN}' {ages} ELSE '{OLDER}' END,"
        " count(*), coalesce(sum(length(payload)), 0), min(added_us)"
        f" FROM (SELECT {typed}, payload FROM alerts)"
        " GROUP BY 1, 2, 3, 4, 5 ORDER BY 4, 3, 2, 1, 8 DESC"
    )
    return tuple(
        Pile(
            topic=row[2] or alert_topic(*row[:2]),
            severity=row[3],
            age=row[4],
            letters=row[5],
            size_bytes=row[6],
            oldest_us=row[7],
        )
        for row in rows
    )


def _aside(path: Path) -> tuple[tuple[Path, int], ...]:
    """Return the files set aside beside an outbox, each with what its side files hold."""
    names = sorted(each for each in path.parent.glob(f"{path.name}.aside-*") if each.suffix[7:].isdecimal())
    return tuple((name, sum(_size(f"{name}{suffix}") for suffix in SIDE_SUFFIXES)) for name in names)


def _size(name: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(name).st_size
    return 0
