"""Whether this machine knows the time of day: the kernel's word, else systemd's, else the calendar's.

A board without a battery starts in 1970, or where its disk says it stopped; until a time server was heard, no time
stamp it writes is true, and messages say so. Trap: a sandbox that forbids setting the clock (ProtectClock of systemd)
forbids asking the kernel too.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

CLOCK_SET_US: Final = 1_735_689_600_000_000  # 2025-01-01: before that, no clock of this program is right
SYNCHRONISED: Final = Path("/run/systemd/timesync/synchronized")
MAX_ERROR_US: Final = 16_000_000  # the kernel counts its error up while nobody sets it; at 16 s it gives up (timex)


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` of Linux; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 512),
    )


def kernel_error_us() -> int | None:
    """Return by how much the kernel thinks its clock may be wrong; None where it does not say."""
    try:
        asked = _Timex()  # modes 0: ask, set nothing
        said = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None
    return int(asked.maxerror) if said >= 0 else None


def is_clock_synchronised(
    *,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    error_us: Callable[[], int | None] = kernel_error_us,
    marker: Path = SYNCHRONISED,
) -> bool:
    """Tell whether the time of day can be believed; where nobody can say, any time since 2025 is."""
    if now_us() < CLOCK_SET_US:
        return False
    seen_us = error_us()
    if seen_us is not None:
        return seen_us < MAX_ERROR_US
    return marker.exists() or not marker.parent.exists()
