"""eve.json of a service: rotated by size, opened anew on SIGHUP, and not stopped by a full disk.

While the disk is full, up to MOST_WAITING lines wait in memory and go first once there is room; `rotated` says how the
file is set aside and followed. Trap: a line is given to the kernel, not forced to disk; what must survive a power cut
is in the outbox.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from agent.delivery.rotated import RotatedFile
from agent.delivery.sink import MOST_WAITING, Tally
from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert
from contracts.errors import OutputError
from contracts.eve import render_eve


class EveSink:
    """Appends to a file; `rotate_bytes` 0 never rotates. Raises OutputError where it cannot be opened at first."""

    name = "eve"

    def __init__(self, path: Path | str, *, rotate_bytes: int = 0, keep_files: int = 5) -> None:
        self._waiting: deque[str] = deque()
        self._tally = Tally(self.name)
        self._file = RotatedFile(Path(path), rotate_bytes=rotate_bytes, keep_files=keep_files)

    def write(self, alert: Alert) -> None:
        """Write one line, after those that wait."""
        self._waiting.append(render_eve(alert))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._tally.failed += 1
        self._flush()

    def tick(self) -> None:
        """Try to write what waits; follow a file that was moved or deleted."""
        self._file.follow()
        if not self._file.is_open or self._waiting:
            self._flush()

    def reopen(self) -> None:
        """Open the file at the path, which another program may have renamed."""
        self._file.close()
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
        self._file.close()

    def _flush(self) -> None:
        try:
            self._file.open()
            while self._waiting:
                self._file.write(self._waiting[0])
                self._waiting.popleft()
                self._tally.written += 1
        except (OutputError, BrokenPipeError) as exc:
            self._tally.went_wrong(str(exc))
        else:
            self._tally.went_well()
