"""What must survive a restart, as small JSON files: written whole or not at all, read with suspicion.

A file that cannot be read as what it should be is set aside, told, and counts as absent: a state half lost must not
keep the agent from watching. A disk that takes nothing is told once and counted; the next time may do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from contracts.files import open_regular
from contracts.terminal import complain

MAX_BYTES: Final = 64 << 20
ASIDE: Final = ".aside"


def write_whole(path: Path, octets: bytes) -> None:
    """Let a file hold these octets, or what it held before, whatever happens meanwhile. Raises OSError."""
    draft = path.with_name(f"{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Let the names in a folder survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StateFile:
    """One JSON object on disk. `path` None: nothing is kept. `failures` counts what the disk would not take."""

    def __init__(self, path: Path | None, *, format_: int = 1) -> None:
        self.path = path
        self.failures = 0
        self._format = format_
        self._trouble = ""

    def read(self) -> dict[str, Any] | None:
        """Return what was saved, None where nothing was, or nothing that can be used."""
        if self.path is None:
            return None
        try:
            with open_regular(self.path) as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            complain(f"state: {self.path} cannot be read: {exc.strerror or exc}")
            return None
        reason = f"larger than {MAX_BYTES} bytes" if len(raw) > MAX_BYTES else ""
        try:
            seen = json.loads(raw) if not reason else None
        except (ValueError, RecursionError):
            seen, reason = None, "not JSON"
        if isinstance(seen, dict) and seen.get("format") == self._format:
            return {key: value for key, value in seen.items() if key != "format"}
        reason = reason or f"not of format {self._format}"
        complain(f"state: {self.path} is {reason}: set aside as {self.path.name}{ASIDE}")
        self._set_aside(self.path)
        return None

    def write(self, content: dict[str, Any]) -> bool:
        """Save an object; return whether the disk took it. What was wrong is told when it changes."""
        if self.path is None:
            return True
        octets = json.dumps({"format": self._format} | content, sort_keys=True, allow_nan=False).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self.path, octets + b"\n")
        except OSError as exc:
            self.failures += 1
            trouble = f"state: {self.path} cannot be written: {exc.strerror or exc}"
            if trouble != self._trouble:
                complain(trouble)
            self._trouble = trouble
            return False
        self._trouble = ""
        return True

    @staticmethod
    def _set_aside(path: Path) -> None:
        try:
            os.replace(path, path.with_name(path.name + ASIDE))
        except OSError as exc:
            complain(f"state: {path} cannot be set aside: {exc.strerror or exc}")
