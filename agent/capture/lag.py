"""How far behind the wire we are, and when to leave out packets so as not to be (DESIGN D5).

A ring holds seconds of packets. Where they come faster than they can be metered it is always full, and everything read
from it is as old as the ring is deep: an attack of now would be told then. So beyond MOST_US the oldest packets are
decoded and counted as shed, until only RESUME_US are left. A stall shorter than MOST_US costs nothing.
"""

from __future__ import annotations

from typing import Final

MOST_US: Final = 1_000_000
RESUME_US: Final = 250_000
NONSENSE_US: Final = 60_000_000
"""No ring is so deep: the clock was set, and the packets were stamped before."""


class Lag:
    """Say of each block whether it is to be shed, by how old its newest packet is.

    >>> lag = Lag()
    >>> [lag.is_too_long(age_us) for age_us in (900_000, 1_100_000, 300_000, 200_000, 900_000)]
    [False, True, True, False, False]
    """

    def __init__(self) -> None:
        self._is_shedding = False

    def is_too_long(self, age_us: int) -> bool:
        """Return whether a block of that age is to be shed."""
        limit_us = RESUME_US if self._is_shedding else MOST_US
        self._is_shedding = limit_us < age_us < NONSENSE_US
        return self._is_shedding
