"""When to look whether an interface is still the one a socket was bound to: four times a second, busy or quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar


class Watch:
    """Say that a look is due; asked for every block, it costs one reading of a clock."""

    EVERY_S: ClassVar[float] = 0.25

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._due_s = now_s() + self.EVERY_S

    def is_due(self) -> bool:
        """Return whether a look is due; the next one then is a quarter of a second later."""
        now_s = self._now_s()
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self.EVERY_S
        return True
