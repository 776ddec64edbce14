"""Captures read little at a time through small windows, of which what was not read may not be touched.

A window has room for more than was read into it, and a read beyond would fall into that room unseen. Only a process
under AddressSanitizer can do this: child.py asks for it.
"""

from typing import Any

from flowfeatures.octets import Octets

from flowfeatures import files
from tests.fuzz.driver import allow, forbid

READ_BYTES = 200
WINDOWS_BYTES = (16, 64, 1024, 1 << 19)


class Guarded:
    """A source of octets, behind whose last one nothing may be read, whatever room there is."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def readinto(self, room: memoryview) -> int:
        """Read up to READ_BYTES into the room and forbid the rest of it, until it is asked to be filled again."""
        allow(room)
        got = self._source.readinto(room[:READ_BYTES])
        forbid(room, got)
        return got


def guard_captures() -> None:
    """Make every capture read through a window, of which size its first octets tell."""
    files.Octets = lambda source, head: Octets(Guarded(source), head, WINDOWS_BYTES[sum(head) % len(WINDOWS_BYTES)])
