"""Who gave which verdict, when, and what came of it: lines of JSON that are added and never changed.

`verdicts.log` in the state folder; beyond MOST_BYTES it becomes `verdicts.log.1`, and the one before goes. The agent
and `penstock feedback` both write it, each line whole under a lock. A line that cannot be read is left out.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from contracts.errors import OutputError
from contracts.files import open_regular
from contracts.whole_file import give_to_owner_of
from detection.state import StrictState, TimeUs

AUDIT_FILE: Final = "verdicts.log"
MOST_BYTES: Final = 512 << 10
MOST_LINE: Final = 4096
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class AuditEntry(StrictState):
    """One verdict. `by` is the way it came, `operator` who says to have given it; `outcome` is for people."""

    at_us: TimeUs
    by: Literal["command", "mqtt"]
    operator: Line = ""
    wanted: Line
    verdict: Literal["benign", "malicious"]
    outcome: Line
    incident_id: Line | None = None
    device: Line | None = None
    attack_class: Line | None = None
    note: Line = ""
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


class AuditLog:
    """The log of a state folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def files(self) -> tuple[Path, Path]:
        """Return the files of the log, the older one first; neither need be there."""
        return self.path.with_name(self.path.name + ".1"), self.path

    def add(self, entry: AuditEntry) -> None:
        """Add a line. Raises OutputError where the disk does not take it."""
        line = entry.model_dump_json(exclude_defaults=True).encode() + b"\n"
        try:
            with self._locked() as descriptor:
                os.write(descriptor, line)
        except OSError as exc:
            raise OutputError(f"{self.path}: cannot be written: {exc.strerror or exc}") from exc

    def entries(self) -> list[AuditEntry]:
        """Return what the log holds, oldest first. Raises OSError where a file is there and cannot be read."""
        found = []
        for path in self.files:
            try:
                with open_regular(path, follow_link=False) as file:
                    lines = file.read(MOST_BYTES + MOST_LINE).splitlines()
            except FileNotFoundError:
                continue
            for line in lines:
                try:
                    found.append(AuditEntry.model_validate_json(line))
                except ValidationError:
                    continue
        return found

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Give the file to write to, under a lock; one that is full is set aside first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                facts = os.fstat(descriptor)
                if facts.st_nlink == 0 or not self._is_at(facts):
                    continue  # somebody set it aside while we waited
                if facts.st_size > MOST_BYTES - MOST_LINE:
                    os.replace(self.path, self.files[0])
                    continue
                give_to_owner_of(self.path.parent, descriptor)
                yield descriptor
                return
            finally:
                os.close(descriptor)

    def _is_at(self, facts: os.stat_result) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (facts.st_dev, facts.st_ino)
