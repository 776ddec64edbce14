"""What incidents said, put on record for `penstock feedback` by a thread of its own: a slow disk must not hold packets.

Beyond MOST_WAITING messages the newest are not recorded, and counted: the alerts themselves go their own way.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.state.incident_record import RECORD_FILE, IncidentRecord
from detection.incidents import IncidentUpdate

MOST_WAITING: Final = 4096
END_S: Final = 1.0


class Recorder:
    """A context manager that records incidents under `state_dir`; None records nothing. `left_out` counts."""

    def __init__(self, state_dir: Path | None) -> None:
        self.left_out = 0
        self._record = None if state_dir is None else IncidentRecord(state_dir / RECORD_FILE)
        self._waiting: queue.Queue[tuple[IncidentUpdate, str, str | None] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._write_forever, name="penstock-record", daemon=True)

    @property
    def failed(self) -> int:
        """Return how many messages could not be recorded."""
        return self.left_out + (0 if self._record is None else self._record.failed)

    def add(self, update: IncidentUpdate, *, bundle_sha256: str, mac: str | None) -> None:
        """Let a message be recorded soon."""
        if self._record is None:
            return
        try:
            self._waiting.put_nowait((update, bundle_sha256, mac))
        except queue.Full:
            self.left_out += 1

    def __enter__(self) -> Recorder:
        if self._record is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=END_S)
            self._thread.join(END_S)

    def _write_forever(self) -> None:
        assert self._record is not None
        while (item := self._waiting.get()) is not None:
            update, bundle_sha256, mac = item
            self._record.add(update, bundle_sha256=bundle_sha256, mac=mac)
        self._record.close()
