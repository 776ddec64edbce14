"""Output files that are whole or absent: written beside their place and moved there at the end."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TextIO

from contracts.errors import OutputError
from contracts.program import discard_stdout

STDOUT = "-"


class WholeFile:
    """Text that appears under a name when it is committed, all at once; left without that, it never was there.

    A context manager giving itself. `octets` is the same file for what is no text: write by one of the two. `-` is
    standard output; what exists and is no regular file (a pipe, /dev/stdout) is written to directly. Raises OutputError
    where the file cannot be created or written.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._target = Path(os.path.realpath(name))  # a link goes on pointing at what is written
        self._draft: Path | None = None
        self.text: TextIO = sys.stdout

    def __enter__(self) -> WholeFile:
        if self._name == STDOUT:
            return self
        try:
            if os.path.exists(self._name) and not os.path.isfile(self._name):
                self.text = open(self._name, "w", encoding="utf-8", newline="")
            else:
                self._draft = self._target.with_name(f".{secrets.token_hex(8)}.draft")
                self.text = self._draft.open("x", encoding="utf-8", newline="")
        except (OSError, ValueError) as exc:
            self._draft = None
            raise cannot_write(self._name, exc) from exc
        return self

    @property
    def octets(self) -> BinaryIO:
        return self.text.buffer

    def commit(self) -> None:
        """Let the file appear under its name."""
        self.text.flush()
        if self._draft is not None:
            os.fsync(self.text.fileno())
            self._draft.replace(self._target)
            self._draft = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)
        if self.text is not sys.stdout and not isinstance(error, OSError):
            try:
                self.text.close()  # what was not committed may go out here: into a pipe, onto a full device
            except OSError as exc:
                if error is None and not isinstance(exc, BrokenPipeError):
                    raise cannot_write(self._name, exc) from exc
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise cannot_write(self._name, error) from error


@contextmanager
def printing() -> Iterator[TextIO]:
    """Give standard output to print results on, flushed at the end. Raises OutputError where it takes no more."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        discard_stdout()
        raise cannot_write(STDOUT, exc) from exc


def cannot_write(name: str, exc: OSError | ValueError) -> OutputError:
    """Return the error that says so."""
    shown = "stdout" if name == STDOUT else name
    return OutputError(f"{shown}: cannot be written: {getattr(exc, 'strerror', None) or exc}")
