"""Observations by size: plain ints where they are counted, an immutable value where they are shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

INFERENCE_EDGES_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.021, 0.05, 0.1, 0.25, 1.0)
"""21 ms is what the literature's gateways take for one inference; the edge shows on which side of it this one is."""
LATENCY_EDGES_S: Final = (0.005, 0.021, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
DISK_EDGES_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.021, 0.05, 0.1, 0.5, 2.5)


@dataclass(frozen=True)
class HistogramFacts:
    """Observations by size: `counts` has one number per edge (at most that large), and one for what is larger."""

    edges_s: tuple[float, ...] = INFERENCE_EDGES_S
    counts: tuple[int, ...] = ()
    sum_s: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.counts)

    def quantile_s(self, share: float) -> float | None:
        """Return the edge below which that share of the observations lies; None without any, or beyond all edges."""
        reached, wanted = 0, share * self.total
        for edge_s, count in zip(self.edges_s, self.counts, strict=False):
            reached += count
            if count and reached >= wanted:
                return edge_s
        return None


class Histogram:
    """Counts observations in plain ints; one thread observes, any may take `facts()`.

    >>> histogram = Histogram((0.01, 0.1))
    >>> for seconds in (0.01, 0.05, 7.0):
    ...     histogram.observe(seconds)
    >>> histogram.facts().counts
    (1, 1, 1)
    """

    __slots__ = ("_counts", "_edges_s", "_sum_s")

    def __init__(self, edges_s: Sequence[float] = INFERENCE_EDGES_S) -> None:
        self._edges_s = tuple(edges_s)
        self._counts = [0] * (len(self._edges_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation; what is no time (negative after a clock was set back) counts as 0."""
        seconds = max(0.0, seconds)
        self._counts[bisect_left(self._edges_s, seconds)] += 1
        self._sum_s += seconds

    def facts(self) -> HistogramFacts:
        """Return what was observed so far."""
        return HistogramFacts(self._edges_s, tuple(self._counts), self._sum_s)
