"""What incidents said, put on record for `penstock feedback` by a thread of its own: a slow disk must not hold packets.

An incident that closed since it was called benign also lets its rule know it whole (`detection.renewal`).
Beyond MOST_WAITING messages the newest are not recorded, which is told: the alerts themselves go their own way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.backlog import Backlog
from agent.state.incident_record import RECORD_FILE, IncidentRecord
from agent.state.verdicts import renew_rule
from contracts.errors import PenstockError
from contracts.terminal import complain
from detection.incidents import CALLED_BENIGN, IncidentUpdate

MOST_WAITING: Final = 4096
END_S: Final = 1.0


class Recorder:
    """A context manager that records incidents under `state_dir`; None records nothing."""

    def __init__(self, state_dir: Path | None) -> None:
        self._is_behind = False
        self._state_dir = state_dir
        self._record = None if state_dir is None else IncidentRecord(state_dir / RECORD_FILE)
        self._waiting: Backlog[tuple[IncidentUpdate, str, str | None]] = Backlog(
            "penstock-record", self._write_forever, most=MOST_WAITING, end_s=END_S
        )

    def add(self, update: IncidentUpdate, *, bundle_sha256: str, mac: str | None) -> None:
        """Let a message be recorded soon."""
        if self._record is None:
            return
        if not self._waiting.offer((update, bundle_sha256, mac)):
            if not self._is_behind:
                complain("incidents: the disk is behind; what they say is not put on record until it has caught up")
            self._is_behind = True
        elif len(self._waiting) == 1:
            self._is_behind = False

    def __enter__(self) -> Recorder:
        if self._record is not None:
            self._waiting.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    def _write_forever(self) -> None:
        assert self._record is not None
        for update, bundle_sha256, mac in self._waiting:
            self._record.add(update, bundle_sha256=bundle_sha256, mac=mac)
            if update.reason == CALLED_BENIGN:
                self._renew(update)
        self._record.close()

    def _renew(self, update: IncidentUpdate) -> None:
        assert self._state_dir is not None
        try:
            renew_rule(self._state_dir, update, now_us=update.at_us)
        except (PenstockError, OSError, ValueError) as exc:  # until the next start the agent knows it all the same
            complain(f"the rule of {update.incident_id} is kept as it was made: {exc}")
