"""Text for who reads it: nothing a capture, a path or a broker says may steer a terminal, or fill it."""

from __future__ import annotations

import os
import sys


def printable(text: str) -> str:
    """Return a text with everything that is not plainly printable written as its escape.

    Covers control and format characters, separators other than the space, and undecodable bytes of file names.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def brief(value: object, most: int = 60) -> str:
    """Return the beginning of a value as Python writes it; what a message shows of what somebody else wrote.

    >>> brief("x" * 100, most=8)
    "'xxxx..."
    """
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def complain(error: Exception | str, *, program: str = "penstock") -> None:
    """Say an error that was raised on purpose: one line on standard error, where anyone listens there."""
    try:
        print(f"{program}: {printable(str(error))}", file=sys.stderr, flush=True)
    except OSError:  # the exit code says it too; at exit Python flushes once more and would change it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
