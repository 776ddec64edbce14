"""What a count says of a rate: bounds of a Poisson rate and of a share, one-sided at 95 %.

Nothing seen in n bounds a share only below 3/n, nothing seen in d days a rate only below 3/d: that is all that any
figure of this package claims. Byar's approximation (Rothman and Boice 1979) is within 2 % of the exact bounds.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

_Z: Final = 1.645
NOTHING_SEEN: Final = 3.0  # -ln 0.05 = 2.996


def most(seen: int) -> float:
    """Return the mean count above which so few would be seen in only 5 % of all cases.

    >>> most(0)
    3.0
    """
    if seen == 0:
        return NOTHING_SEEN
    n = seen + 1
    return float(n * (1.0 - 1.0 / (9.0 * n) + _Z / (3.0 * sqrt(n))) ** 3)


def least(seen: int) -> float:
    """Return the mean count below which so many would be seen in only 5 % of all cases; 0 where none was seen."""
    if seen == 0:
        return 0.0
    return float(max(0.0, seen * (1.0 - 1.0 / (9.0 * seen) - _Z / (3.0 * sqrt(seen))) ** 3))


def share_bound(seen: int, trials: int) -> float | None:
    """Return the upper bound of a share; None where nothing was tried.

    >>> share_bound(0, 3000)
    0.001
    """
    return None if trials <= 0 else min(1.0, most(seen) / trials)
