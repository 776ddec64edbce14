"""What must survive a restart, as small JSON files: whoever owns one saves it now and then and reads it at the start.

A file that cannot be read as what it should be is set aside, told, and counts as absent: a state half lost must not
keep the agent from watching. A disk that takes nothing is told once; the next time may do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from agent.state.state_file import load_state, save_state
from contracts.errors import OutputError
from contracts.terminal import complain
from detection.state import StateRefused

ASIDE: Final = ".aside"
FORMAT: Final = 1


def make_folder(path: Path) -> None:
    """Make the folder of states where it is missing. Raises OutputError where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as exc:
        raise OutputError(f"gateway.state_dir: {path} cannot be made: {exc.strerror or exc}") from exc


class StateFile:
    """One JSON object on disk. `path` None: nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._trouble = ""

    def read(self) -> dict[str, Any] | None:
        """Return what was saved, None where nothing was, or nothing that can be used."""
        if self.path is None:
            return None
        try:
            state = load_state(self.path)
        except StateRefused as exc:
            self.set_aside(str(exc))
            return None
        if state is None:
            return None
        if state.pop("format", None) != FORMAT:
            self.set_aside(f"{self.path}: is not of format {FORMAT}")
            return None
        return state

    def write(self, content: dict[str, Any]) -> bool:
        """Save an object; return whether the disk took it. What was wrong is told when it changes."""
        if self.path is None:
            return True
        try:
            save_state(self.path, {"format": FORMAT} | content)
        except OutputError as exc:
            if str(exc) != self._trouble:
                complain(f"state: {exc}")
            self._trouble = str(exc)
            return False
        self._trouble = ""
        return True

    def set_aside(self, reason: str) -> None:
        """Put away a file that turned out to be no good, so that it is neither used again nor lost."""
        if self.path is None:
            return
        complain(f"state: {reason}: set aside as {self.path.name}{ASIDE}")
        try:
            os.replace(self.path, self.path.with_name(self.path.name + ASIDE))
        except OSError as exc:
            complain(f"state: {self.path} cannot be set aside: {exc.strerror or exc}")
