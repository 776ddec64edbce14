"""The alarm of more home devices than can be watched: made-up sources push out windows, and detection with them.

Like a silence (`agent.live.silence`): told once when it begins and once when it is over. A home network that also holds
strangers looks the same, and needs the same answer: a narrower `home_nets`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

OVER_S: Final = 60.0
TOO_MANY: Final = 1000
"""Devices that had to leave within a minute. As many are watched at a time."""


class Crowd:
    """Watch how many devices had to leave; `since_us` is when it began to be too many, None where it is not."""

    def __init__(
        self,
        *,
        now_s: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.since_us: int | None = None
        self.text = ""
        self._now_s = now_s
        self._now_us = now_us
        self._seen: deque[tuple[float, int]] = deque()

    def check(self, evicted: int) -> bool:
        """Take how many have left since the start, about once a second; return whether it began or is over."""
        now_s = self._now_s()
        if self._seen and evicted < self._seen[-1][1]:
            self._seen.clear()  # counted anew
        self._seen.append((now_s, evicted))
        while now_s - self._seen[0][0] > OVER_S:
            self._seen.popleft()
        left = evicted - self._seen[0][1]
        was_open = self.since_us is not None
        if left > TOO_MANY:
            self.text = f"{left:,} devices pushed others out within a minute: made-up sources, or home_nets too wide?"
            self.since_us = self.since_us or self._now_us()
        elif left <= TOO_MANY // 2:
            self.since_us = None
        return was_open != (self.since_us is not None)
