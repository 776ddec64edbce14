"""Output files that are whole or absent: written beside their place and moved there at the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

from contracts.errors import OutputError

STDOUT = "-"


class WholeFile:
    """Text that appears under a name when it is committed, all at once; left without that, it never was there.

    A context manager giving itself. `-` is standard output; what exists and is no regular file (a pipe, /dev/null) is
    written to directly. Raises OutputError where the file cannot be created or written.
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
            if self._target.exists() and not self._target.is_file():
                self.text = self._target.open("w", encoding="utf-8", newline="")
            else:
                self._draft = self._target.with_name(f".{self._target.name}.{os.getpid()}.draft")
                self.text = self._draft.open("x", encoding="utf-8", newline="")
        except OSError as exc:
            self._draft = None
            raise self._error(exc) from exc
        return self

    def commit(self) -> None:
        """Let the text appear under its name."""
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
            self.text.close()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise self._error(error) from error

    def _error(self, exc: OSError) -> OutputError:
        name = "stdout" if self._name == STDOUT else self._name
        return OutputError(f"{name}: cannot be written: {exc.strerror or exc}")
