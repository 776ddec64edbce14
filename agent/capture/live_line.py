"""The line that shows a live capture going on: on standard error, and only for a person."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from agent.capture.source import Counts
from agent.console.terminal import StatusLine
from contracts.terminal import printable


class LiveLine:
    """Draw packets, their rate since the line was last drawn, and drops; silent where the stream is no terminal."""

    def __init__(self, interface: str, *, stream: TextIO, now_s: Callable[[], float] = time.monotonic) -> None:
        self._interface = printable(interface)  # a kernel lets a name hold control characters
        self._line = StatusLine(stream)
        self._now_s = now_s
        self._before_s = now_s()
        self._before = 0

    @property
    def is_on(self) -> bool:
        """Return whether anybody sees it."""
        return self._line.is_on

    def show(self, packets: int, counts: Counts) -> None:
        """Draw the line anew."""
        now_s = self._now_s()
        rate = (packets - self._before) / max(1e-9, now_s - self._before_s)
        self._before, self._before_s = packets, now_s
        dropped = f"{counts.dropped:,} dropped"
        self._line.draw(f"{self._interface}: {packets:,} packets  {rate:,.0f}/s  {dropped}  Ctrl-C ends")

    def clear(self) -> None:
        """Wipe the line, so that what is printed next does not stand behind it."""
        self._line.clear()
