"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_BACKOFF_S: Final = 0.25


class Backoff:
    """Delays between attempts: doubled each time up to a most, and spread so that gateways do not come all at once."""

    def __init__(self, *, most_s: float, spread: Callable[[], float] = random.random) -> None:
        self._most_s = most_s
        self._spread = spread
        self._next_s = FIRST_BACKOFF_S

    def next_s(self) -> float:
        """Return how long to wait now: between half the delay and all of it."""
        delay_s = min(self._next_s, self._most_s)
        self._next_s = min(2 * delay_s, self._most_s)
        return delay_s * (0.5 + 0.5 * self._spread())

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._next_s = FIRST_BACKOFF_S
