"""Text for terminals: nothing a capture, a path or a broker says may steer the terminal of who reads it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

RED, YELLOW, BOLD, DIM = "31", "33", "1", "2"


def printable(text: str) -> str:
    """Return a text with everything that is not plainly printable written as its escape.

    Covers control and format characters, separators other than the space, and undecodable bytes of file names.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def complain(error: Exception) -> None:
    """Say an error that was raised on purpose: one line on standard error."""
    print(f"penstock: {printable(str(error))}", file=sys.stderr)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person reads the stream and the terminal can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Paint:
    """Colours for one stream: none unless it is a terminal, none where NO_COLOR is set (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._on = is_terminal(stream) and not os.environ.get("NO_COLOR")

    def __call__(self, text: str, *codes: str) -> str:
        """Return the text in the colours named."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._on and codes else text
