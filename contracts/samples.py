"""Samples: windows a gateway keeps to learn from, on its own disk; a packet never stands here, and none leaves.

One SQLite file, `samples.db` in the state folder. The agent adds windows as it judges them, `penstock-finetune` reads
them, running agent or not. A window of an incident is *pinned*: kept for PIN_DAYS, since a verdict may still come; any
other is there to become a pseudo-label when it has aged. Bounded: at most so many windows and octets, per device and
hour too, and after KEEP_DAYS nothing is left. The label is not in here: the operator's verdict on the incident gives
it, later. Trap: windows of another schema mean something else; a file of another schema is refused, and set aside by
who adds.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN, NAMES
from contracts.damage import DATABASE_ERRORS, OPENING_ERRORS, complaint_of, is_damage
from contracts.errors import PenstockError
from flowfeatures.columns import SCHEMA_ID, WINDOW_COLUMNS

SAMPLES_FILE: Final = "samples.db"
APPLICATION_ID: Final = 0x50454E53  # "PENS"
FORMAT: Final = 1
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
PIN_DAYS: Final = 7
KEEP_DAYS: Final = 14
MAX_SAMPLES: Final = 8000
MAX_PINNED: Final = 4000
MAX_PER_INCIDENT: Final = 200
MAX_PER_DEVICE_HOUR: Final = 12  # of windows outside incidents: one talkative device must not be all there is
MAX_BYTES: Final = 32 << 20  # of packed windows; the file is some tenth larger
MAX_ROWS: Final = 256
TRIM_EVERY: Final = 256
_INCIDENT: Final = re.compile(r"[0-9a-f-]{36}")

_SCHEMA: Final = """
CREATE TABLE schema (id TEXT NOT NULL);
CREATE TABLE samples (
    device BLOB NOT NULL, due_us INTEGER NOT NULL, incident_id TEXT, class_index INTEGER NOT NULL,
    margin REAL NOT NULL, rows INTEGER NOT NULL, content BLOB NOT NULL);
CREATE INDEX samples_by_age ON samples (due_us);
CREATE INDEX samples_by_device ON samples (device, due_us);
CREATE INDEX samples_by_incident ON samples (incident_id);
"""


class SamplesRefused(PenstockError):
    """The file of samples is not one, or is of another format or schema: then `is_other`, and waiting does not help."""

    exit_code = 65
    is_other = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One window. `rows` float32[n, F] are its records, oldest first, without padding.

    `margin` is how far above its threshold the window was, in log-odds; `class_index` what the incident was called
    (BENIGN outside one).
    """

    device: bytes
    due_us: int
    rows: NDArray[np.float32]
    margin: float
    incident_id: str | None = None
    class_index: int = BENIGN


def padded(samples: list[Sample], *, window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return windows float32[N, W, F] and their mask float32[N, W]; of more rows than W the newest count."""
    values = np.zeros((len(samples), window, len(WINDOW_COLUMNS)), np.float32)
    mask = np.zeros((len(samples), window), np.float32)
    for place, sample in enumerate(samples):
        rows = sample.rows[-window:]
        values[place, : len(rows)], mask[place, : len(rows)] = rows, 1.0
    return values, mask


class SampleBook:
    """The file, open. Raises SamplesRefused where it is none; `damaged` where reading meets what cannot be.

    With `write` it is made where there is none.
    """

    def __init__(
        self, path: Path, *, write: bool = False, most: int = MAX_SAMPLES, most_bytes: int = MAX_BYTES
    ) -> None:
        self.path = path
        self.skipped = 0
        self._most = most
        self._most_bytes = most_bytes
        self._until_trim = 0
        try:
            self._db = _opened(path, write=write)
        except OPENING_ERRORS as exc:
            refusal = SamplesRefused(f"{path}: not a file of samples: {complaint_of(exc)}")
            refusal.is_other = is_damage(exc)
            raise refusal from exc

    def __enter__(self) -> SampleBook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._asked("SELECT count(*) FROM samples")[0][0])

    @property
    def size_bytes(self) -> int:
        """Return the octets of the packed windows."""
        return int(self._asked("SELECT coalesce(sum(length(content)), 0) FROM samples")[0][0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, sample: Sample) -> bool:
        """Keep a window; return whether it was: a device's hour, or an incident, may have enough.

        Raises ValueError for what is no window, SamplesRefused where the disk does not take it.
        """
        _check(sample)
        rows = np.ascontiguousarray(sample.rows, "<f4")
        try:
            with self._db:
                if self._is_enough(sample):
                    self.skipped += 1
                    return False
                self._db.execute(
                    "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        sample.device, sample.due_us, sample.incident_id, sample.class_index,
                        sample.margin, len(rows), zlib.compress(rows.tobytes(), 1),
                    ),
                )  # fmt: skip
                if self._until_trim <= 0:
                    self._trim(sample.due_us)
        except DATABASE_ERRORS as exc:
            raise SamplesRefused(f"{self.path}: cannot be written: {complaint_of(exc)}") from exc
        self._until_trim = TRIM_EVERY if self._until_trim <= 0 else self._until_trim - 1
        return True

    def pin(self, device: bytes, incident_id: str, *, class_index: int, from_us: int, to_us: int) -> int:
        """Let the windows of a device in a time be those of an incident; return how many they are."""
        with self._db:
            return self._db.execute(
                "UPDATE samples SET incident_id = ?, class_index = ? "
                "WHERE device = ? AND due_us BETWEEN ? AND ? AND incident_id IS NULL",
                (incident_id, class_index, device, from_us, to_us),
            ).rowcount

    def let_go(self, device: bytes, *, from_us: int, to_us: int) -> int:
        """Delete a device's windows outside incidents between two times; return how many there were."""
        try:
            with self._db:
                return self._db.execute(
                    "DELETE FROM samples WHERE device = ? AND due_us BETWEEN ? AND ? AND incident_id IS NULL",
                    (device, from_us, to_us),
                ).rowcount
        except DATABASE_ERRORS as exc:
            raise SamplesRefused(f"{self.path}: cannot be written: {complaint_of(exc)}") from exc

    def forget(self, device: bytes) -> int:
        """Delete every window of a device (16 octets); return how many there were. What is freed is overwritten."""
        with self._db:
            deleted = self._db.execute("DELETE FROM samples WHERE device = ?", (device,)).rowcount
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def incidents(self) -> set[str]:
        """Return the ids of incidents whose windows are kept."""
        return {str(row[0]) for row in self._asked("SELECT DISTINCT incident_id FROM samples") if row[0] is not None}

    def times_of_incidents(self) -> list[tuple[bytes, int]]:
        """Return device and time of every window of an incident."""
        found = self._asked("SELECT device, due_us FROM samples WHERE incident_id IS NOT NULL ORDER BY due_us")
        return [(bytes(device), int(due_us)) for device, due_us in found]

    def read(self, *, pinned: bool, before_us: int, limit: int) -> Iterator[Sample]:
        """Give the newest windows, of incidents or outside them; those that cannot be read are counted in `skipped`."""
        question = (
            "SELECT device, due_us, incident_id, class_index, margin, rows, content FROM samples "
            f"WHERE incident_id IS {'NOT ' if pinned else ''}NULL AND due_us <= ? ORDER BY due_us DESC LIMIT ?"
        )
        try:
            for row in self._db.execute(question, (before_us, limit)):  # one by one: a gateway has little memory
                sample = _sample(row)
                if sample is None:
                    self.skipped += 1
                else:
                    yield sample
        except DATABASE_ERRORS as exc:
            raise SamplesRefused(f"{self.path}: cannot be read: {complaint_of(exc)}") from exc

    def _asked(self, question: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(question, values).fetchall()
        except DATABASE_ERRORS as exc:
            raise SamplesRefused(f"{self.path}: cannot be read: {complaint_of(exc)}") from exc

    def _is_enough(self, sample: Sample) -> bool:
        if sample.incident_id is not None:
            asked = "SELECT count(*) FROM samples WHERE incident_id = ?"
            return bool(self._db.execute(asked, (sample.incident_id,)).fetchone()[0] >= MAX_PER_INCIDENT)
        hour_us = sample.due_us // HOUR_US * HOUR_US
        asked = "SELECT count(*) FROM samples WHERE device = ? AND due_us >= ? AND due_us < ? AND incident_id IS NULL"
        held = self._db.execute(asked, (sample.device, hour_us, hour_us + HOUR_US)).fetchone()[0]
        return bool(held >= MAX_PER_DEVICE_HOUR)

    def _trim(self, now_us: int) -> None:
        """Let go what is too old or too much: incidents after PIN_DAYS, all after KEEP_DAYS, the oldest beyond most."""
        self._db.execute("DELETE FROM samples WHERE due_us < ?", (now_us - KEEP_DAYS * DAY_US,))
        self._db.execute(
            "DELETE FROM samples WHERE incident_id IS NOT NULL AND due_us < ?", (now_us - PIN_DAYS * DAY_US,)
        )
        oldest = "rowid IN (SELECT rowid FROM samples WHERE incident_id IS {} ORDER BY due_us DESC LIMIT -1 OFFSET ?)"
        for kind, most in (("NOT NULL", min(MAX_PINNED, self._most // 2)), ("NULL", self._most // 2)):
            self._db.execute(f"DELETE FROM samples WHERE {oldest.format(kind)}", (most,))
        while self._asked("SELECT coalesce(sum(length(content)), 0) FROM samples")[0][0] > self._most_bytes:
            beyond = "rowid IN (SELECT rowid FROM samples ORDER BY due_us LIMIT ?)"
            self._db.execute(f"DELETE FROM samples WHERE {beyond}", (TRIM_EVERY,))


def _check(sample: Sample) -> None:
    shape = sample.rows.shape
    if len(sample.device) != 16 or len(shape) != 2 or not 1 <= shape[0] <= MAX_ROWS or shape[1] != len(WINDOW_COLUMNS):
        raise ValueError(f"a sample is of a device's 16 octets and rows of {len(WINDOW_COLUMNS)} columns, got {shape}")
    if not np.isfinite(sample.rows).all() or not np.isfinite(sample.margin):
        raise ValueError("a sample holds what is no number")
    if sample.incident_id is not None and not _INCIDENT.fullmatch(sample.incident_id):
        raise ValueError(f"no id of an incident: {sample.incident_id[:40]!r}")
    if not 0 <= sample.class_index < len(NAMES):
        raise ValueError(f"no class {sample.class_index}")


def _sample(row: tuple[Any, ...]) -> Sample | None:
    """Return the window of a row of the file, None where it is none: the file may be damaged, or made by somebody."""
    device, due_us, incident_id, class_index, margin, rows, content = row
    try:
        if not 1 <= int(rows) <= MAX_ROWS:
            return None  # before memory is taken for it
        octets = 4 * len(WINDOW_COLUMNS) * int(rows)
        unpacked = zlib.decompressobj().decompress(bytes(content), octets + 1)
        sample = Sample(
            device=bytes(device),
            due_us=int(due_us),
            rows=np.frombuffer(unpacked, "<f4").reshape(int(rows), -1).astype(np.float32),
            margin=float(margin),
            incident_id=None if incident_id is None else str(incident_id),
            class_index=int(class_index),
        )
        _check(sample)
    except (ValueError, TypeError, OverflowError, MemoryError, zlib.error):
        return None
    return sample


def _opened(path: Path, *, write: bool) -> sqlite3.Connection:
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    elif not path.is_file():
        raise FileNotFoundError(2, "no such file")
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        db.execute("PRAGMA secure_delete = ON")  # what an operator lets be forgotten is not left in free pages
        if write and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(
                f"BEGIN; {_SCHEMA} INSERT INTO schema VALUES ('{SCHEMA_ID}'); "
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
            )
        _check_kind(db)
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.close()
        raise
    return db


def _check_kind(db: sqlite3.Connection) -> None:
    seen = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if seen != (APPLICATION_ID, FORMAT):
        raise sqlite3.DatabaseError(f"application and format are {seen}, wanted {(APPLICATION_ID, FORMAT)}")
    schema = db.execute("SELECT id FROM schema").fetchone()
    if schema is None or schema[0] != SCHEMA_ID:
        raise sqlite3.DatabaseError(f"its windows are of schema {schema and schema[0]}, wanted {SCHEMA_ID}")
