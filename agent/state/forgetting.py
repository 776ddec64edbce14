"""Taking a device out of everything kept on this machine: state, rules, incidents, samples, outbox, eve files.

A device is known by addresses and a MAC; the files that say which belong together are read first, so that one of them
leads to the others. In JSON the list elements and keys that name it go, in a database the rows, in eve.json the lines;
a file that was set aside goes whole. Files are replaced whole or not at all, databases in one transaction with their
free space overwritten. What left this machine before (broker, SIEM, journal, backups) is not reached.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.state.audit import AUDIT_FILE, AuditLog
from agent.state.evidence_files import files_of
from agent.state.retention import rotated, set_aside
from contracts.damage import DATABASE_ERRORS, complaint_of
from contracts.errors import DataMissing, OutputError, UsageError
from contracts.files import open_regular
from contracts.samples import SAMPLES_FILE
from flowfeatures import address_bytes

MAC: Final = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
MAX_STATE_BYTES: Final = 64 << 20
IPV4_IN_IPV6: Final = bytes(10) + b"\xff\xff"
TABLES: Final = {"alerts": "payload", "incidents": "content", "explanations": "content"}
"""Table of a database of ours -> the column that says what a row is about."""


@dataclass(frozen=True)
class Identity:
    """What a device is called here: addresses as text, MACs as aa:bb:cc:dd:ee:ff."""

    addresses: frozenset[str]
    macs: frozenset[str]

    def in_frames(self) -> re.Pattern[str]:
        """Return what finds the device in packets, read as latin-1; that may be one too many, for octets are short."""
        mapped = [address_bytes(address) for address in sorted(self.addresses)]
        short = [each[12:] if each.startswith(IPV4_IN_IPV6) else each for each in mapped]
        macs = [bytes.fromhex(mac.replace(":", "")) for mac in sorted(self.macs)]
        return re.compile("|".join(re.escape(each.decode("latin-1")) for each in [*short, *macs]), re.DOTALL)

    def pattern(self) -> re.Pattern[str]:
        """Return what finds the device in a text, and nothing that only begins or ends like it."""
        parts = [rf"(?<![0-9A-Fa-f:-]){mac.replace(':', '[:-]')}(?![0-9A-Fa-f:-])" for mac in sorted(self.macs)]
        for address in sorted(self.addresses):
            parts.append(rf"(?<![0-9a-f]){address_bytes(address).hex()}(?![0-9a-f])")
            if ":" in address:
                parts.append(rf"(?<![0-9A-Fa-f:.]){re.escape(address)}(?![0-9A-Fa-f:])")
            else:
                parts.append(rf"(?<![0-9.]){re.escape(address)}(?!\.?[0-9])")
        return re.compile("|".join(parts), re.IGNORECASE)

    def keys(self) -> list[bytes]:
        """Return what names the device where its windows are kept: 16 octets an address."""
        return [address_bytes(address) for address in sorted(self.addresses)]

    def key_pattern(self) -> re.Pattern[str]:
        """Return what finds its windows in a file of them, read as latin-1; nothing where no address is known."""
        return re.compile("|".join(re.escape(each.decode("latin-1")) for each in self.keys()) or "(?!)", re.DOTALL)


@dataclass(frozen=True)
class Found:
    """How often a place named the device; `unread` says why nobody could look."""

    place: Path
    count: int = 0
    unread: str = ""


def identity_of(device: str, state_dir: Path) -> Identity:
    """Return what a device, given as address, MAC or name, is called here. Raises DataMissing for an unknown name."""
    addresses, macs, names = set(), set(), set()
    if MAC.fullmatch(device):
        macs.add(device.lower().replace("-", ":"))
    else:
        try:
            addresses.add(str(ipaddress.ip_address(device)))
        except ValueError:
            names.add(device)
    for row in _rows_of_devices(state_dir):
        if row.macs & macs or row.addresses & addresses or row.name in names:
            addresses |= row.addresses
            macs |= row.macs
    if not addresses and not macs:
        raise DataMissing(f"{device}: no address, no MAC, and no device of that name is known in {state_dir}")
    return Identity(frozenset(addresses), frozenset(macs))


def forget(identity: Identity, *, state_dir: Path, outbox: Path, eve: Path | None, is_rehearsal: bool) -> list[Found]:
    """Take a device out of every place, or only count where it stands; return the places that name it, or may.

    Raises UsageError where an agent is running, which would write it all anew, OutputError where a disk takes nothing.
    """
    pattern = identity.pattern()
    with _alone(state_dir, outbox, is_rehearsal=is_rehearsal):
        found = []
        databases = dict.fromkeys([outbox, state_dir / "incidents.db"])
        for path in sorted(path for path in state_dir.glob("*.json") if path != eve):
            found.append(_from_state(path, pattern, is_rehearsal=is_rehearsal))
        for path in databases:
            if path.exists():
                found.append(_from_database(path, pattern, is_rehearsal=is_rehearsal))
        samples = state_dir / SAMPLES_FILE
        if samples.exists():
            found.append(_from_samples(samples, identity.keys(), is_rehearsal=is_rehearsal))
        lines = AuditLog(state_dir / AUDIT_FILE).files
        for path in [*lines, *([] if eve is None else [eve, *rotated(eve)])]:
            if path.exists():
                found.append(_from_lines(path, pattern, is_rehearsal=is_rehearsal))
        in_frames = identity.in_frames()
        found += [_whole(path, in_frames, is_rehearsal=is_rehearsal) for path in files_of(state_dir)]
        for folder in dict.fromkeys([state_dir, outbox.parent]):
            for path in (*set_aside(folder), *folder.glob("*.damaged")):
                looked_for = identity.key_pattern() if path.name.startswith(SAMPLES_FILE) else pattern
                found.append(_whole(path, looked_for, is_rehearsal=is_rehearsal))
    return [each for each in found if each.count or each.unread]


@dataclass(frozen=True)
class _Row:
    name: str | None
    addresses: set[str]
    macs: set[str]


def _rows_of_devices(state_dir: Path) -> Iterator[_Row]:
    """Give the rows of state files that say which addresses and MAC belong to one device."""
    for path in sorted(state_dir.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            yield from _rows_in(json.loads(_read(path)))


def _rows_in(value: Any) -> Iterator[_Row]:
    if isinstance(value, dict):
        mac, addresses = value.get("mac"), value.get("addresses")
        if isinstance(mac, str) and MAC.fullmatch(mac) and isinstance(addresses, list):
            texts = {str(ipaddress.ip_address(each)) for each in addresses if isinstance(each, str)}
            yield _Row(value.get("name") if isinstance(value.get("name"), str) else None, texts, {mac.lower()})
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _rows_in(each)


@contextlib.contextmanager
def _alone(state_dir: Path, outbox: Path, *, is_rehearsal: bool) -> Iterator[None]:
    """Hold the folder's lock, which commands that change rules take too, while no agent owns the outbox."""
    if is_rehearsal or not state_dir.is_dir():
        yield
        return
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _refuse_owned(outbox)
        yield
    finally:
        os.close(folder)


def _refuse_owned(outbox: Path) -> None:
    """Raise UsageError where an agent owns the outbox.

    The lock is not kept: closing it later would drop SQLite's own. An agent that begins meanwhile writes no more of the
    device than it sees from then on.
    """
    if not outbox.exists():
        return
    owned = os.open(outbox, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise running() from exc
    finally:
        os.close(owned)


def running() -> UsageError:
    """Return the error that says that an agent runs."""
    return UsageError("forget: the agent is running and would write it all anew: stop it first, or use --dry-run")


def _from_state(path: Path, pattern: re.Pattern[str], *, is_rehearsal: bool) -> Found:
    try:
        tree = json.loads(_read(path))
    except (OSError, ValueError, RecursionError) as exc:
        return Found(path, unread=getattr(exc, "strerror", None) or "no JSON")
    kept, count = _without(tree, pattern)
    if count and not is_rehearsal:
        _replace(path, json.dumps(kept, separators=(",", ":")).encode() + b"\n")
    left = len(pattern.findall(json.dumps(kept)))
    return Found(path, count, unread=f"{left} mentions outside any list stay" if left else "")


def _without(value: Any, pattern: re.Pattern[str]) -> tuple[Any, int]:
    """Return a tree without the list elements and keys that name the device, and how many they were."""
    if isinstance(value, dict):
        kept, count = {}, 0
        for key, each in value.items():
            if pattern.search(key):
                count += 1
                continue
            kept[key], gone = _without(each, pattern)
            count += gone
        return kept, count
    if isinstance(value, list):
        inner = [each for each in value if not (isinstance(each, (str, dict)) and _names(each, pattern))]
        pairs = [_without(each, pattern) for each in inner]
        return [each for each, _ in pairs], len(value) - len(inner) + sum(gone for _, gone in pairs)
    return value, 0


def _names(value: Any, pattern: re.Pattern[str]) -> bool:
    """Tell whether a value says the device outside the lists in it, whose elements go by themselves."""
    if isinstance(value, str):
        return pattern.search(value) is not None
    return isinstance(value, dict) and any(_names(each, pattern) for each in value.values())


def _from_database(path: Path, pattern: re.Pattern[str], *, is_rehearsal: bool) -> Found:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)) as db:
            db.text_factory = lambda raw: raw.decode(errors="surrogateescape")
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            count = sum(
                _rows(db, table, column, pattern, is_rehearsal=is_rehearsal)
                for table, column in TABLES.items()
                if table in tables
            )
            for table in {"messages", "explanations"} & tables if not is_rehearsal else ():
                db.execute(f"DELETE FROM {table} WHERE incident_id NOT IN (SELECT incident_id FROM incidents)")
            db.commit()
            if count and not is_rehearsal:
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except DATABASE_ERRORS as exc:
        return Found(path, unread=complaint_of(exc))
    return Found(path, count)


def _rows(db: sqlite3.Connection, table: str, column: str, pattern: re.Pattern[str], *, is_rehearsal: bool) -> int:
    db.execute("PRAGMA secure_delete = ON")
    key = "rowid" if table == "alerts" else "incident_id"
    found = []
    for number, content in db.execute(f"SELECT {key}, {column} FROM {table}"):
        text = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
        if pattern.search(text):
            found.append((number,))
    if not is_rehearsal:
        db.executemany(f"DELETE FROM {table} WHERE {key} = ?", found)
    return len(found)


def _from_samples(path: Path, devices: list[bytes], *, is_rehearsal: bool) -> Found:
    """Take a device's windows out, of whatever schema they are."""
    marks = ",".join("?" * len(devices))
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)) as db:
            db.execute("PRAGMA secure_delete = ON")
            (count,) = db.execute(f"SELECT count(*) FROM samples WHERE device IN ({marks})", devices).fetchone()
            if count and not is_rehearsal:
                db.execute(f"DELETE FROM samples WHERE device IN ({marks})", devices)
                db.commit()
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except DATABASE_ERRORS as exc:
        return Found(path, unread=complaint_of(exc))
    return Found(path, count)


def _from_lines(path: Path, pattern: re.Pattern[str], *, is_rehearsal: bool) -> Found:
    draft = path.with_name(f".{secrets.token_hex(8)}.draft")
    count = 0
    try:
        with open_regular(path, follow_link=False) as file, contextlib.ExitStack() as stack:
            if file.read(2) == b"\x1f\x8b":
                return Found(path, unread="compressed: unpack it, or delete it")
            file.seek(0)
            facts = os.fstat(file.fileno())
            out = None if is_rehearsal else stack.enter_context(_created(draft, facts))
            for line in file:
                if pattern.search(line.decode(errors="replace")):
                    count += 1
                elif out is not None:
                    out.write(line)
            if out is not None:
                out.flush()
                os.fsync(out.fileno())
        if out is not None and count:
            draft.replace(path)
    except OSError as exc:
        return Found(path, unread=exc.strerror or str(exc))
    finally:
        draft.unlink(missing_ok=True)
    return Found(path, count)


def _whole(path: Path, pattern: re.Pattern[str], *, is_rehearsal: bool) -> Found:
    try:
        if not pattern.search(_read(path).decode("latin-1")):
            return Found(path)
        if not is_rehearsal:
            path.unlink()
    except OSError as exc:
        return Found(path, unread=exc.strerror or str(exc))
    return Found(path, 1)


def _read(path: Path) -> bytes:
    with open_regular(path, follow_link=False) as file:
        octets = file.read(MAX_STATE_BYTES + 1)
    if len(octets) > MAX_STATE_BYTES:
        raise OSError(0, f"more than {MAX_STATE_BYTES:,} octets")
    return octets


def _replace(path: Path, octets: bytes) -> None:
    """Replace a file whole, with its owner and mode. Raises OutputError where the disk does not take it."""
    draft = path.with_name(f".{secrets.token_hex(8)}.draft")
    try:
        with _created(draft, path.stat()) as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _created(draft: Path, like: os.stat_result) -> Iterator[Any]:
    """Give a new file with the mode and, where we may, the owner of another."""
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
        with contextlib.suppress(OSError):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        yield file
