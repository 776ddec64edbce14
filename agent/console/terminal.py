"""Colours and moving cursors, for a person at a terminal only. What its text may hold stands in contracts.terminal."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

RED, YELLOW, BOLD, DIM = "31", "33", "1", "2"


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person reads the stream and the terminal can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class StatusLine:
    """One line that is drawn over and over; nothing where the stream is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.is_on = is_terminal(stream)
        self._stream = stream
        self._is_drawn = False

    def draw(self, text: str) -> None:
        """Put the text in the place of what was drawn before, cut to the terminal's width."""
        if self.is_on:
            self._write(text[: shutil.get_terminal_size().columns - 1])
            self._is_drawn = True

    def clear(self) -> None:
        """Wipe the line, so that what is printed next does not stand behind it."""
        if self._is_drawn:
            self._write("")
            self._is_drawn = False

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()


class Paint:
    """Colours for one stream: none unless it is a terminal, none where NO_COLOR is set (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._on = is_terminal(stream) and not os.environ.get("NO_COLOR")

    def __call__(self, text: str, *codes: str) -> str:
        """Return the text in the colours named."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._on and codes else text
