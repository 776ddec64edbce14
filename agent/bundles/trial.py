"""Two bundles on the same windows: the one that serves, or served, and the one that would, or does.

What a new network must not do on a gateway is to cry wolf, to go blind, or to be too slow for it. Nobody knows here
which of two different verdicts is right; so the limits are wide, and only a plain break with what was is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.bundle import Bundle
from detection.decide import Thresholds
from detection.engine import Engine
from detection.sustained import Sustained
from flowfeatures import WindowBatch

STORM_SHARE: Final = 0.01
"""Of all windows: what the new one may find beyond twice what the old one finds."""
STORM_DEVICES: Final = 0.25
"""Of all devices: a storm is broad. One device that the new one alone calls attacked may be why there is a new one."""
BLIND_FROM: Final = 20
"""Windows the old one calls attacks, before it counts that the new one does not."""
BLIND_SHARE: Final = 0.5
SLOWER: Final = 5.0
SLOW_S: Final = 0.002
"""A window. Below this, slower does not matter."""
SLOW_LEAST_S: Final = 1.0
"""Of all windows: in a short trial less than this may be a moment in which others had the processor."""


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle and what computes it."""

    bundle: Bundle
    engine: Engine


@dataclass(eq=False)
class Trial:
    """Compare `subject` with `reference` over `wanted` windows."""

    reference: Served
    subject: Served
    wanted: int
    now_s: Callable[[], float] = time.perf_counter
    windows: int = 0
    reference_hits: int = 0
    subject_hits: int = 0
    both: int = 0
    devices: set[bytes] = field(default_factory=set)
    new_devices: set[bytes] = field(default_factory=set)
    """Those of which the subject alone says that something is wrong."""
    spent_s: dict[str, float] = field(default_factory=lambda: {"reference": 0.0, "subject": 0.0})
    _sustained: dict[str, Sustained] = field(init=False)

    def __post_init__(self) -> None:
        sides = {"reference": self.reference, "subject": self.subject}
        self._sustained = {
            name: Sustained(side.bundle.manifest.sustained, _thresholds(side)) for name, side in sides.items()
        }

    @property
    def is_over(self) -> bool:
        """Return whether enough was seen."""
        return self.windows >= self.wanted

    def see(self, batch: WindowBatch) -> None:
        """Let both score a batch. Raises what the subject's engine raises."""
        subject = self._hits(self.subject, batch, "subject")
        reference = self._hits(self.reference, batch, "reference")
        self.windows += len(batch)
        self.reference_hits += int(reference.sum())
        self.subject_hits += int(subject.sum())
        self.both += int((reference & subject).sum())
        self.devices.update(map(bytes, batch.device))
        self.new_devices.update(map(bytes, batch.device[subject & ~reference]))

    def complaint(self) -> str | None:
        """Return what speaks against the subject, None where nothing does."""
        allowed = 2 * self.reference_hits + max(3, round(STORM_SHARE * self.windows))
        seen = f"of {self.windows:,} windows"
        is_broad = len(self.new_devices) > STORM_DEVICES * len(self.devices)
        if self.subject_hits > allowed and is_broad:
            return f"calls {self.subject_hits:,} {seen} attacks, the one before {self.reference_hits:,}"
        if self.reference_hits >= BLIND_FROM and self.both < BLIND_SHARE * self.reference_hits:
            return f"sees {self.both:,} of the {self.reference_hits:,} attacks {seen} that the one before sees"
        spent_s = self.spent_s["subject"]
        if spent_s > SLOWER * self.spent_s["reference"] and spent_s > max(SLOW_LEAST_S, SLOW_S * self.windows):
            each_ms = 1000 * spent_s / max(1, self.windows)
            return (
                f"takes {each_ms:.1f} ms a window, {spent_s / max(1e-9, self.spent_s['reference']):.0f} times as long"
            )
        return None

    def _hits(self, side: Served, batch: WindowBatch, name: str) -> NDArray[np.bool_]:
        began_s = self.now_s()
        scores = side.engine.score(batch.values, batch.mask)
        self.spent_s[name] += self.now_s() - began_s
        judged = self._sustained[name].told(batch, scores)
        hits = np.zeros(len(batch), np.bool_)
        hits[[each.row for each in _thresholds(side).detections(judged)]] = True
        return hits


def _thresholds(side: Served) -> Thresholds:
    return Thresholds(side.bundle.manifest.thresholds, score=side.bundle.manifest.score)
