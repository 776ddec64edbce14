"""Lengths of time as a person reads them."""

from __future__ import annotations


def ago(time_us: int, now_us: int) -> str:
    """Return how long ago a time is; a clock that was set may make it a time to come."""
    return span(max(0.0, (now_us - time_us) / 1e6))


def span(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> span(93_784), span(61), span(0.25)
    ('1 d 2 h', '1 min 1 s', '0.2 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    parts: list[str] = []
    left = int(seconds)
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
