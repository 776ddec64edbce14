"""eve.json of a service: rotated by size, opened anew on SIGHUP, and not stopped by a full disk.

Rotation renames eve.json to eve.json.1, that to eve.json.2, and so on; `keep_files` of them stay. A log rotation of the
system works as well: it renames the file and either signals or just waits a second, since the sink looks whether the
file at its path is still its own. While the disk is full, up to MOST_WAITING lines wait in memory and go first once
there is room. Trap: a line is given to the kernel, not forced to disk; what must survive a power cut is in the outbox.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

from agent.delivery.eve import EveFile
from agent.delivery.sink import MOST_WAITING, Tally
from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert
from contracts.errors import OutputError
from contracts.eve import render_eve


class EveSink:
    """Appends to a file; `rotate_bytes` 0 never rotates. Raises OutputError where it cannot be opened at first."""

    name = "eve"

    def __init__(self, path: Path | str, *, rotate_bytes: int = 0, keep_files: int = 5) -> None:
        self._path = Path(path)
        self._rotate_bytes = rotate_bytes
        self._keep_files = keep_files
        self._waiting: deque[str] = deque()
        self._tally = Tally(self.name)
        self._file: EveFile | None = self._open()

    def write(self, alert: Alert) -> None:
        """Write one line, after those that wait."""
        self._waiting.append(render_eve(alert))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._tally.failed += 1
        self._flush()

    def tick(self) -> None:
        """Try to write what waits; follow a file that was moved or deleted."""
        if self._file is not None and not self._file.is_at(self._path):
            self._shut()
        if self._file is None or self._waiting:
            self._flush()

    def reopen(self) -> None:
        """Open the file at the path, which another program may have renamed."""
        self._shut()
        self._flush()

    def facts(self) -> SinkFacts:
        """Return what was written and lost so far, and what is wrong now."""
        return self._tally.facts(waiting=len(self._waiting))

    def close(self) -> None:
        """Write what waits if there is room by now, count the rest as lost."""
        if self._waiting:
            self._flush()
            self._tally.failed += len(self._waiting)
            self._waiting.clear()
        self._shut()

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            while self._waiting:
                self._rotate_for(len(self._waiting[0]) + 1)
                self._file.write(self._waiting[0])
                self._waiting.popleft()
                self._tally.written += 1
        except (OutputError, BrokenPipeError) as exc:
            self._tally.went_wrong(str(exc))
        else:
            self._tally.went_well()

    def _open(self) -> EveFile:
        try:
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise OutputError(f"eve: {self._path}: not a regular file: a pipe or device could stop the agent")
        except (OSError, ValueError):
            pass  # opening says what is wrong with it
        return EveFile(str(self._path), append=True, mode=0o640)

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate_for(self, size: int) -> None:
        """Begin a new file where this line would make the old one too large; an empty one takes any line."""
        if self._file is None or not self._rotate_bytes:
            return
        filled = self._file.size_bytes
        if filled == 0 or filled + size <= self._rotate_bytes:
            return
        try:
            for number in range(self._keep_files - 1, -1, -1):
                older, newer = self._numbered(number + 1), self._numbered(number)
                if newer.exists():
                    os.replace(newer, older)
            if self._keep_files == 0:
                self._path.unlink(missing_ok=True)
        except OSError as exc:
            raise OutputError(f"eve: {self._path}: cannot be rotated: {exc.strerror or exc}") from exc
        self._shut()
        self._file = self._open()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")
