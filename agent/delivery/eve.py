"""A file of lines, eve.json above all: each line is written whole or not at all.

What a line says stands in `contracts.eve`.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Final

from contracts.errors import OutputError

STDOUT: Final = "-"


class EveFile:
    """A file of alerts, one per line, or standard output for `-`. Not thread-safe; `Delivery` holds a lock.

    An existing file is emptied unless `append` is set: a replay's eve.json holds that replay and nothing else, a
    service adds to its own. Lines are handed to the kernel one by one and not forced to disk; what must survive a
    power cut stands in the outbox. A pipe must have its reader already. Raises OutputError where the file cannot be
    opened.
    """

    def __init__(self, name: str, *, append: bool = False, mode: int = 0o644) -> None:
        self._name = name
        try:
            if name == STDOUT:
                sys.stdout.flush()
                self._fd = os.dup(sys.stdout.fileno())
            else:
                # O_APPEND either way: every line goes to the end, also after the file was cut (here, by logrotate).
                # O_NONBLOCK for the opening alone: that of a pipe would wait until somebody reads it.
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND | os.O_NONBLOCK
                self._fd = os.open(name, flags if append else flags | os.O_TRUNC, mode)
                os.set_blocking(self._fd, True)
        except (OSError, ValueError) as exc:
            raise self._error(exc) from exc
        self._is_regular = name != STDOUT and stat.S_ISREG(os.fstat(self._fd).st_mode)

    def write(self, line: str) -> None:
        """Write one line. Raises OutputError where it cannot be written whole; what was written of it is taken back.

        A reader that went away (BrokenPipeError) is the caller's business, as for any program in a pipe.
        """
        rest = memoryview(f"{line}\n".encode())
        before = os.fstat(self._fd).st_size if self._is_regular else 0
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BrokenPipeError:
            raise
        except OSError as exc:
            # A full disk takes the beginning of a line first; left there, it would spoil the next line too.
            if self._is_regular:
                os.ftruncate(self._fd, before)
            raise self._error(exc) from exc

    def sync(self) -> None:
        """Force what was written to disk, where it is a file. Raises OutputError where the disk did not take it."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            try:
                os.fdatasync(self._fd)
            except OSError as exc:
                raise self._error(exc) from exc

    @property
    def size_bytes(self) -> int:
        """How long the file is now, whoever wrote into it."""
        return os.fstat(self._fd).st_size

    def is_at(self, path: os.PathLike[str]) -> bool:
        """Tell whether the path still names this very file."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except OSError:
            return False

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> EveFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _error(self, exc: OSError | ValueError) -> OutputError:
        is_unread = isinstance(exc, OSError) and exc.errno == errno.ENXIO
        why = "nobody reads this pipe" if is_unread else getattr(exc, "strerror", None) or exc
        return OutputError(f"eve: {self._name}: cannot be written: {why}")
