"""A bar on the terminal while a recording lasts, and plain lines where stderr is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

WIDTH = 30
EVERY_S = 1.0


def bar(done_s: float, whole_s: float, *, width: int = WIDTH) -> str:
    """Return a bar with times.

    >>> bar(30, 120, width=8)
    '[##......] 00:30 of 02:00'
    """
    done_s = min(max(done_s, 0.0), whole_s)
    filled = int(width * done_s / whole_s) if whole_s else width
    return f"[{'#' * filled}{'.' * (width - filled)}] {_clock(done_s)} of {_clock(whole_s)}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


class Progress:
    """Keeps the bar on the last line of a terminal; what is said goes above it."""

    def __init__(self, whole_s: float, *, say: Callable[[str], None], stream: TextIO | None = None) -> None:
        self._whole_s = whole_s
        self._say = say
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()
        self._began_s: float | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        if self._is_shown:
            threading.Thread(target=self._keep, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            self._wipe()

    def begin(self) -> None:
        """Count from now."""
        self._began_s = time.monotonic()

    def say(self, text: str) -> None:
        """Say a line above the bar."""
        with self._lock:
            self._wipe()
            self._say(text)

    def _wipe(self) -> None:
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _keep(self) -> None:
        while not self._over.wait(EVERY_S):
            if self._began_s is None:
                continue
            with self._lock:
                self._stream.write("\r" + bar(time.monotonic() - self._began_s, self._whole_s))
                self._stream.flush()
