"""Busy and idle hours: how much rarer things are done at a time of the day.

A recording is short, so its day is too: `day_s` seconds long. Pure; the trap: the day begins when the activity does,
and every host has hours of its own.
"""

from __future__ import annotations

from collections.abc import Mapping


def slowness(now_s: float, hours: Mapping[str, float]) -> float:
    """Return by how much pauses are longer at a time: 1 in the busy hours, `idle` outside them.

    `busy_from` and `busy_until` are shares of the day; a busy time may run past midnight.

    >>> slowness(30.0, {"day_s": 100.0, "busy_from": 0.2, "busy_until": 0.6, "idle": 8.0})
    1.0
    >>> slowness(170.0, {"day_s": 100.0, "busy_from": 0.2, "busy_until": 0.6, "idle": 8.0})
    8.0
    """
    share = now_s % hours["day_s"] / hours["day_s"]
    start, end = hours["busy_from"], hours["busy_until"]
    is_busy = start <= share < end if start <= end else share >= start or share < end
    return 1.0 if is_busy else hours["idle"]
