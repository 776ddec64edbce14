"""The outbox: alerts on disk until the broker has them, in one SQLite file.

WAL with synchronous=FULL, so that what `apply` returned from survives a power cut. Bounded by rows, bytes and age:
beyond them the lowest severity leaves first, of one severity the oldest, and is counted. Ids rise and are never used
again. One process owns a file at a time (flock on the file itself); within it every method may be called from any
thread. Trap: nothing else in the process may open and close the file while it is in use, since closing any descriptor
drops SQLite's own POSIX locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from agent.delivery.clock import CLOCK_SET_US
from contracts.damage import DATABASE_ERRORS, complaint_of, is_damage
from contracts.errors import OutboxError

FORMAT: Final = 3
APPLICATION_ID: Final = 0x50454E53  # "PENS", so that another program's database is not taken for ours
REASONS: Final = ("rows", "bytes", "age", "unsendable", "damaged")  # why a letter left without the broker's word
MOST_ASIDE: Final = 3  # files set aside that are kept
SIDE_SUFFIXES: Final = ("", "-wal", "-shm")

_SCHEMA: Final = """
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    added_us INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    class TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    payload BLOB NOT NULL,
    format TEXT NOT NULL DEFAULT 'eve',
    is_timed INTEGER NOT NULL DEFAULT 1,
    topic TEXT NOT NULL DEFAULT ''
);
CREATE INDEX alerts_by_worth ON alerts (severity DESC, id);
"""
# What each older format lacks; done in one transaction, so that a power cut leaves the one or the other.
_MIGRATIONS: Final = {
    1: """
ALTER TABLE alerts ADD COLUMN format TEXT NOT NULL DEFAULT 'eve';
ALTER TABLE alerts ADD COLUMN is_timed INTEGER NOT NULL DEFAULT 1;
""",
    2: "ALTER TABLE alerts ADD COLUMN topic TEXT NOT NULL DEFAULT '';",
}


_log = logging.getLogger(__name__)


class Letter(NamedTuple):
    """One alert as it will be sent. `is_timed` says that the gateway knew the time of day when it was written.

    With a `topic` it is an opaque message that goes there: then `format` is its content type, and `alert_id` its name,
    which stands in the outbox once.
    """

    severity: int
    gateway: str
    attack_class: str
    alert_id: str
    payload: bytes
    format: str = "eve"
    is_timed: bool = True
    topic: str = ""


class _Unreadable(Exception):
    """The file is an outbox, but a damaged one or of a format this build does not know."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much an outbox holds. The defaults are a week without a broker at one alert a minute."""

    rows: int = 10_000
    size_bytes: int = 16 << 20  # of payloads; the file is some 20 % larger
    age_s: float = 7 * 86_400.0


def wall_clock_us() -> int:
    """Return the time of day in microseconds; the only clock that goes on while the gateway is off."""
    return time.time_ns() // 1000


def not_ours(complaint: str) -> OutboxError:
    """Return the error of a file that is somebody else's: waiting does not help."""
    error = OutboxError(complaint)
    error.is_ours = False
    return error


class Outbox:
    """Letters on disk, in order of arrival.

    An older format is brought to this one. Raises OutboxError where the file cannot be opened, is in use by another
    process, or is another program's database; also where it is damaged or of a newer format, unless `sets_aside`: then
    it is renamed, an empty one takes its place, and `aside` names the old one.
    """

    def __init__(
        self,
        path: Path,
        *,
        bounds: Bounds | None = None,
        clock_us: Callable[[], int] = wall_clock_us,
        sets_aside: bool = False,
    ) -> None:
        self.path = path
        self.aside: Path | None = None
        self.oldest_us: int | None = None
        self.dropped_by = dict.fromkeys(REASONS, 0)
        self._dropping = self.dropped_by
        self._bounds = bounds or Bounds()
        self._clock_us = clock_us
        self._sets_aside = sets_aside
        self._rows = self._bytes = 0
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        """Own and open the file; set it aside and begin anew where that is wanted and it cannot be used."""
        try:
            self._use_file()
        except _Unreadable as exc:
            if not self._sets_aside:
                raise OutboxError(str(exc)) from exc
            self._move_away(exc)
            self._use_file()

    def _use_file(self) -> None:
        self._owner_fd = self._own()
        try:
            with self._named_errors():
                self._db = self._open()
                self._rows, self._bytes = self._totals()
                self.oldest_us = self._oldest()
        except BaseException:
            os.close(self._owner_fd)
            raise

    def _move_away(self, why: Exception) -> None:
        self.aside = set_aside(self.path)
        _log.warning("%s; it stands now in %s", why, self.aside)

    @classmethod
    def temporary(cls, *, bounds: Bounds | None = None) -> Outbox:
        """Return a new outbox in the folder for temporary files; whoever made it decides whether it stays."""
        try:
            handle, name = tempfile.mkstemp(prefix="penstock-outbox-", suffix=".db")
        except OSError as exc:
            raise OutboxError(f"outbox: no temporary file can be made: {exc.strerror or exc}") from exc
        os.close(handle)
        return cls(Path(name), bounds=bounds)

    def __len__(self) -> int:
        """Return how many letters are on disk."""
        return self._rows

    @property
    def size_bytes(self) -> int:
        """Return the bytes of their payloads."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """Return how many letters left without the broker's word, for whatever reason."""
        return sum(self.dropped_by.values())

    def apply(
        self, *, added: Sequence[Letter] = (), removed: Sequence[int] = (), unsendable: Sequence[int] = ()
    ) -> int:
        """Take letters in and out in one commit; return how many of `removed` were still there.

        Those `unsendable` leave too, and are counted as dropped. All is on disk when this returns. Raises OutboxError,
        and then nothing has changed.
        """
        with self._lock:
            try:
                return self._apply(added, removed, unsendable)
            except _Unreadable as exc:
                if not self._sets_aside:
                    raise OutboxError(str(exc)) from exc
                self._begin_again(exc)
                return self._apply(added, (), ())

    def _apply(self, added: Sequence[Letter], removed: Sequence[int], unsendable: Sequence[int]) -> int:
        before = self._rows, self._bytes
        self._dropping = dict(self.dropped_by)  # shown once it is true
        try:
            with self._named_errors(), self._transaction():
                gone = sum(self._remove(number) for number in removed)
                self._drop("unsendable", unsendable)
                self._insert(added)
                self._keep_bounds()
        except BaseException:  # of COMMIT too: that is where a full disk shows itself
            self._rows, self._bytes = before
            raise
        self.dropped_by = self._dropping
        with self._named_errors():
            self.oldest_us = self._oldest()
        return gone

    def _begin_again(self, why: _Unreadable) -> None:
        """Set a file aside that went bad while in use; what stood in it is counted as dropped."""
        self.dropped_by["damaged"] += self._rows
        self._db.close()
        os.close(self._owner_fd)
        self._move_away(why)
        self._use_file()

    def after(self, number: int, limit: int) -> list[tuple[int, Letter]]:
        """Return up to `limit` letters with ids above `number`, oldest first."""
        query = (
            "SELECT id, severity, gateway, class, alert_id, payload, format, is_timed, topic FROM alerts"
            " WHERE id > ? ORDER BY id LIMIT ?"
        )
        try:
            with self._lock, self._named_errors():
                found = self._db.execute(query, (number, limit))
                return [(row[0], Letter(*row[1:])._replace(is_timed=bool(row[7]))) for row in found]
        except _Unreadable as exc:  # the next commit sets it aside, where that is wanted
            raise OutboxError(str(exc)) from exc

    def use(self, bounds: Bounds) -> None:
        """Hold so much from the next commit on."""
        self._bounds = bounds  # one reference: who asks must not wait for the disk

    def close(self) -> None:
        """Close the file and let others have it. May be called again."""
        with self._lock:
            if self._owner_fd >= 0:
                self._db.close()
                os.close(self._owner_fd)
                self._owner_fd = -1

    def delete(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _own(self) -> int:
        try:
            # 0600: alerts name devices and addresses. SQLite gives its side files the same mode.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise OutboxError(f"outbox: {self.path} cannot be opened: {exc.strerror or exc}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            raise not_ours(f"outbox: {self.path} is in use by another process") from exc
        return descriptor

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        # Text that is no UTF-8 makes one letter unsendable, not the outbox unreadable.
        db.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        seen = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        is_empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        wanted = f"an outbox of format {FORMAT}"
        if not (is_empty and seen == (0, 0)) and seen[0] != APPLICATION_ID:
            raise not_ours(f"outbox: {self.path} is another program's database, wanted {wanted}")
        if not is_empty and seen[1] != FORMAT and seen[1] not in _MIGRATIONS:
            raise _Unreadable(f"outbox: {self.path} is format {seen[1]}, wanted {wanted}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if is_empty:
            db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
            )
        complaint = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaint != "ok":
            raise sqlite3.DatabaseError(complaint)
        for version in range(FORMAT if is_empty else seen[1], FORMAT):
            db.executescript(f"BEGIN; {_MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;")

    def _totals(self) -> tuple[int, int]:
        rows, size = self._db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM alerts").fetchone()
        return rows, size

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as exc:
            raise OutboxError(f"outbox: {self.path} is closed") from exc
        except sqlite3.OperationalError as exc:  # the disk is full, read-only, gone
            raise OutboxError(f"outbox: {self.path} cannot be read or written: {exc}") from exc
        except DATABASE_ERRORS as exc:
            kind = _Unreadable if is_damage(exc) else OutboxError
            told = complaint_of(exc)
            raise kind(f"outbox: {self.path} is damaged ({told}): move it away to begin a new one") from exc

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _insert(self, letters: Sequence[Letter]) -> None:
        now_us = self._clock_us()
        opaque = {each.alert_id: each for each in letters if each.topic and not self._has(each.alert_id)}
        letters = [*(each for each in letters if not each.topic), *opaque.values()]
        self._db.executemany(
            "INSERT INTO alerts (added_us, severity, gateway, class, alert_id, payload, format, is_timed, topic)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((now_us, *letter) for letter in letters),
        )
        self._rows += len(letters)
        self._bytes += sum(len(letter.payload) for letter in letters)

    def _has(self, name: str) -> bool:
        """Tell whether an opaque message waits here already; it costs a look at every row, and they are rare."""
        asked = "SELECT 1 FROM alerts WHERE alert_id = ? AND topic != ''"
        return self._db.execute(asked, (name,)).fetchone() is not None

    def _remove(self, number: int) -> int:
        size = self._db.execute("SELECT length(payload) FROM alerts WHERE id = ?", (number,)).fetchone()
        if size is None:
            return 0
        self._db.execute("DELETE FROM alerts WHERE id = ?", (number,))
        self._rows -= 1
        self._bytes -= size[0]
        return 1

    def _drop(self, reason: str, numbers: Iterable[int]) -> None:
        self._dropping[reason] += sum(self._remove(number) for number in numbers)

    def _keep_bounds(self) -> None:
        oldest_us = self._clock_us() - round(self._bounds.age_s * 1_000_000)
        # A letter of a time when the clock was not set has no age; the other bounds hold for it all the same.
        aged = "SELECT id FROM alerts WHERE added_us < ? AND added_us >= ? AND is_timed"
        self._drop("age", [number for (number,) in self._db.execute(aged, (oldest_us, CLOCK_SET_US)).fetchall()])
        while (is_many := self._rows > self._bounds.rows) or self._bytes > self._bounds.size_bytes:
            (number,) = self._db.execute("SELECT id FROM alerts ORDER BY severity DESC, id LIMIT 1").fetchone()
            self._drop("rows" if is_many else "bytes", [number])

    def _oldest(self) -> int | None:
        """Return when the letter that waits longest came."""
        found = self._db.execute("SELECT added_us FROM alerts ORDER BY id LIMIT 1").fetchone()
        return None if found is None else int(found[0])


def set_aside(path: Path) -> Path:
    """Rename an outbox with its side files to the next free name, delete the oldest such, and return the new name."""
    numbers = sorted(
        int(found.name.rpartition("-")[2])
        for found in path.parent.glob(f"{path.name}.aside-*")
        if found.name.rpartition("-")[2].isdecimal()
    )
    name = path.with_name(f"{path.name}.aside-{numbers[-1] + 1 if numbers else 1}")
    for suffix in SIDE_SUFFIXES[1:] + SIDE_SUFFIXES[:1]:  # the file itself last: a cut in between leaves it to be found
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{name}{suffix}")
    for number in numbers[: max(0, len(numbers) + 1 - MOST_ASIDE)]:
        for suffix in SIDE_SUFFIXES:
            path.with_name(f"{path.name}.aside-{number}{suffix}").unlink(missing_ok=True)
    return name
