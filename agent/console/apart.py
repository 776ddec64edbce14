"""Outputs kept apart from inputs: no run empties or overwrites what it reads, whatever name the file goes by."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from agent.console.outfile import STDOUT
from contracts.errors import UsageError

STDIN = "-"
SIDE_FILES = ("-wal", "-shm")  # what SQLite keeps beside an outbox

_Identity = tuple[int, int] | str


class Outputs:
    """The files a run will write, by the option that names them. Only regular ones count: a pipe loses nothing."""

    def __init__(self) -> None:
        self._written: dict[_Identity, str] = {}

    def add(self, option: str, name: str | Path) -> None:
        """Take an output; `-` is none. Raises UsageError where another one is the same file."""
        identity = _identity(str(name))
        if identity is None or name == STDOUT:
            return
        if identity in self._written:
            raise UsageError(f"{option} {name}: would overwrite what {self._written[identity]} writes")
        self._written[identity] = option

    def keep_from(self, inputs: Iterable[Path]) -> None:
        """Raise UsageError where one of the outputs is among the files a run reads, by name or as standard input."""
        for path in inputs:
            is_stdin = str(path) == STDIN
            option = self._written.get(_identity(0 if is_stdin else str(path)) or "")
            if option is not None:
                shown = "the file on standard input" if is_stdin else path
                raise UsageError(f"{option}: would overwrite {shown}, which this run reads")


def _identity(name: str | int) -> _Identity | None:
    """Return what two names (or a descriptor) of one file share; None for what exists and is no regular file."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return os.path.realpath(name) if isinstance(name, str) and "\0" not in name else None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None
