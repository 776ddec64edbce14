"""Seconds by stage: at any moment one stage runs, and a stage inside another pauses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detection.engine import Engine, Scores

_Item = TypeVar("_Item")


class Stopwatch:
    """Add up what each stage took, itself only, by a monotonic clock in nanoseconds."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._began_ns = self._last_ns = now_ns()
        self._spent_ns: dict[str, int] = {}
        self._running: list[str] = []

    @property
    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage in the order they first ran, then `total` since the watch was made."""
        by_stage = {stage: spent_ns / 1e9 for stage, spent_ns in self._spent_ns.items()}
        return by_stage | {"total": (self._now_ns() - self._began_ns) / 1e9}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside to a stage."""
        self._switch()
        self._spent_ns.setdefault(name, 0)
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def each(self, name: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Give the items; what making them takes counts to a stage, what their reader does with them does not."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _switch(self) -> None:
        now_ns = self._now_ns()
        if self._running:
            self._spent_ns[self._running[-1]] += now_ns - self._last_ns
        self._last_ns = now_ns


class TimedEngine:
    """An engine whose scoring counts to the stage `inference`; `observe` is called with the seconds of each call."""

    def __init__(
        self, engine: Engine, stopwatch: Stopwatch, *, observe: Callable[[float], None] = lambda _: None
    ) -> None:
        self._engine = engine
        self._stopwatch = stopwatch
        self._observe = observe
        self.name = engine.name

    @property
    def provider(self) -> str:
        """Return what computes now; a TensorRT worker may come and go."""
        return self._engine.provider

    def score(self, windows: NDArray[np.float32], mask: NDArray[np.float32]) -> Scores:
        """Return the engine's scores of float32[B, W, F] under float32[B, W]."""
        began_ns = time.monotonic_ns()
        with self._stopwatch.stage("inference"):
            scores = self._engine.score(windows, mask)
        self._observe((time.monotonic_ns() - began_ns) / 1e9)
        return scores
