"""Colours and moving cursors, for a person at a terminal only. What its text may hold stands in contracts.terminal."""

from __future__ import annotations

import os
from typing import TextIO

RED, YELLOW, BOLD, DIM = "31", "33", "1", "2"


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
