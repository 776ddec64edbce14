"""The line that shows a live capture going on: on standard error, and only for a person."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from agent.capture.source import Counts
from agent.terminal import is_terminal
from contracts.terminal import printable


class LiveLine:
    """Draw packets, their rate since the line was last drawn, and drops; silent where the stream is no terminal."""

    def __init__(self, interface: str, *, stream: TextIO, now_s: Callable[[], float] = time.monotonic) -> None:
        self._interface = printable(interface)  # a kernel lets a name hold control characters
        self._stream = stream
        self._now_s = now_s
        self._before_s = now_s()
        self._before = 0
        self._is_on = is_terminal(stream)
        self._is_drawn = False

    def show(self, packets: int, counts: Counts) -> None:
        """Draw the line anew."""
        if not self._is_on:
            return
        now_s = self._now_s()
        rate = (packets - self._before) / max(1e-9, now_s - self._before_s)
        self._before, self._before_s = packets, now_s
        line = f"{self._interface}: {packets:,} packets  {rate:,.0f}/s  {counts.dropped:,} dropped  Ctrl-C ends"
        self._stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()
        self._is_drawn = True

    def clear(self) -> None:
        """Wipe the line, so that what is printed next does not stand behind it."""
        if self._is_drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_drawn = False
