"""What is deleted because it grew old: rotated eve files, files set aside, drafts that a power cut left behind.

What has bounds of its own (outbox, incidents, rules, the newest eve.json) is not touched here. Nothing is followed and
nothing raises: a file that cannot be deleted is counted, the next sweep tries again.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DAY_S: Final = 86_400.0
DRAFT_S: Final = 3600.0  # a draft lives for milliseconds; this old, its writer is dead
CLOCK_SET_S: Final = 1_735_689_600.0  # 2025-01-01: before it nothing here was written, the clock was not set
MAX_FILES: Final = 10_000
ASIDE: Final = re.compile(r"(?P<kind>.+)\.aside(-(?P<number>\d{1,9}))?(-wal|-shm)?")
DRAFT: Final = re.compile(r"\..+\.[0-9a-f]{16}\.draft")  # as agent.state.state_file names them; others' are theirs

ROTATED: Final = r"(\.\d{1,4}|-\d{6,14}(-\d+)?)(\.(gz|xz|zst|bz2))?"  # ours, and those of logrotate


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep came to."""

    deleted: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _File:
    path: Path
    written_s: float


def sweep(state_dir: Path, *, eve: Path | None, days: float, aside_files: int, now_s: float | None = None) -> Swept:
    """Delete what is older than so many days, and of files set aside all but the newest `aside_files` of a kind."""
    now_s = time.time() if now_s is None else now_s
    deleted = failed = 0
    for path in _outlived(state_dir, eve=eve, days=days, aside_files=aside_files, now_s=now_s):
        try:
            path.unlink()
            deleted += 1
        except FileNotFoundError:
            continue
        except OSError:
            failed += 1
    return Swept(deleted=deleted, failed=failed)


def rotated(eve: Path) -> list[Path]:
    """Return the files that eve.json was rotated into (eve.json.1, eve.json-20260101.gz), whoever did it."""
    pattern = re.compile(re.escape(eve.name) + ROTATED)
    return [file.path for file in _files(eve.parent) if pattern.fullmatch(file.path.name) and not _is_draft(file.path)]


def set_aside(folder: Path) -> list[Path]:
    """Return the files of a folder that an upgrade or damage has set aside, with SQLite's side files."""
    return [file.path for file in _files(folder) if ASIDE.fullmatch(file.path.name)]


def _outlived(state_dir: Path, *, eve: Path | None, days: float, aside_files: int, now_s: float) -> Iterator[Path]:
    oldest_s = now_s - days * DAY_S
    if oldest_s < CLOCK_SET_S - days * DAY_S:  # the clock is not set: everything would look too young or too old
        return
    in_state, beside_eve = _files(state_dir), [] if eve is None else _files(eve.parent)
    old = {} if eve is None else dict.fromkeys(rotated(eve))
    for file in beside_eve:
        if file.path in old and file.written_s < oldest_s:
            yield file.path
    yield from _aside(in_state, oldest_s=oldest_s, most=aside_files)
    for file in {each.path: each for each in [*in_state, *beside_eve]}.values():
        if _is_draft(file.path) and file.written_s < now_s - DRAFT_S:
            yield file.path


def _aside(files: list[_File], *, oldest_s: float, most: int) -> Iterator[Path]:
    kinds: dict[str, dict[int, list[_File]]] = {}
    for file in files:
        if match := ASIDE.fullmatch(file.path.name):
            numbers = kinds.setdefault(match["kind"], {})
            numbers.setdefault(int(match["number"] or 0), []).append(file)
    for numbers in kinds.values():
        beyond = sorted(numbers, reverse=True)[most:]
        for number, together in numbers.items():
            if number in beyond or max(file.written_s for file in together) < oldest_s:
                yield from (file.path for file in together)


def _is_draft(path: Path) -> bool:
    return DRAFT.fullmatch(path.name) is not None


def _files(folder: Path) -> list[_File]:
    """Return the regular files of a folder, links left out; none where it cannot be read."""
    found: list[_File] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode) and len(found) < MAX_FILES:
                    found.append(_File(folder / entry.name, facts.st_mtime))
    except OSError:
        return found
    return found
