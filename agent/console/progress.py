"""The progress bar of a replay: by bytes of the captures, on standard error, and only for a person.

Where nobody knows how many bytes there will be, it counts packets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from agent.console.terminal import StatusLine

EVERY_S = 0.1
BAR_WIDTH = 30
ETA_AFTER_S = 1.0  # an estimate made of less is a guess


class ProgressBar:
    """Show how much of `total_bytes` has been read, 0 if unknown; silent where the stream is not a terminal."""

    def __init__(self, total_bytes: int, *, stream: TextIO, now_s: Callable[[], float] = time.monotonic) -> None:
        self._total_bytes = total_bytes
        self._line = StatusLine(stream)
        self._now_s = now_s
        self._began_s = now_s()
        self._drawn_s = float("-inf")

    def show(self, done_bytes: int, *, packets: int) -> None:
        """Draw the bar, at most every EVERY_S."""
        now_s = self._now_s()
        if not self._line.is_on or now_s - self._drawn_s < EVERY_S:
            return
        self._drawn_s = now_s
        line = f"{packets:,} packets"
        if self._total_bytes:
            ratio = min(1.0, done_bytes / self._total_bytes)
            bar = "#" * round(ratio * BAR_WIDTH)
            line = f"[{bar:<{BAR_WIDTH}}] {ratio:4.0%}  {line}  {self._left(ratio, now_s - self._began_s)}"
        self._line.draw(line)

    def clear(self) -> None:
        """Wipe the line, so that what is printed next does not stand behind the bar."""
        self._line.clear()
        self._drawn_s = float("-inf")

    def _left(self, ratio: float, elapsed_s: float) -> str:
        if ratio <= 0 or elapsed_s < ETA_AFTER_S:
            return ""
        left_s = round(elapsed_s * (1 - ratio) / ratio)
        return f"{left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left"
