"""A bounded sample of how near to a threshold this gateway's own windows came, outside incidents.

Of every device and quiet period of five minutes the window that came nearest counts: at most PER_HOUR a device and
hour, so that neither a busy device nor somebody who sends much shapes the sample, and each stands for the one false
incident it could have been. What lies near an incident of that device is left out, before it as after it: what led up
to an attack is no benign traffic. Two weeks are kept; of an hour only the tail, with the counts of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detection.decide import LARGEST
from detection.state import StrictState
from detection.tally import keep_newest

HOUR_US: Final = 3_600 * 1_000_000
BLOCK_US: Final = 300 * 1_000_000
PER_HOUR: Final = 12
KEEP_HOURS: Final = 14 * 24
MAX_TAIL: Final = 32  # of an hour's margins, the largest
MAX_DEVICES: Final = 256  # in one period; further ones are counted and left out
MAX_NEAR: Final = 2048
GAP_US: Final = 600 * 1_000_000  # a longer silence of the clock is time in which nobody watched
BLOCKS_BEFORE: Final = 2  # of an incident, left out
EDGES: Final = (-8.0, -6.0, -4.0, -3.0, -2.0, -1.0, -0.5, 0.0)
"""Margins whose exceedances are counted per hour, for `drift`."""

_Open: Final = 1 << 60
Margin = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Tail = Annotated[list[Margin], Field(max_length=MAX_TAIL)]


class HourState(StrictState):
    """One hour of the sample, as it is kept on disk."""

    hour: Annotated[int, Field(ge=0, le=1 << 40)]
    watched_us: Annotated[int, Field(ge=0, le=HOUR_US)]
    windows: Annotated[int, Field(ge=0, le=PER_HOUR * MAX_DEVICES)]
    devices: Annotated[int, Field(ge=0, le=MAX_DEVICES)]
    known: Tail
    unknown: Tail
    over: Annotated[list[Annotated[int, Field(ge=0, le=PER_HOUR * MAX_DEVICES)]], Field(min_length=8, max_length=8)]


@dataclass
class _Hour:
    hour: int
    watched_us: int = 0
    windows: int = 0
    devices: int = 0
    known: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    over: list[int] = field(default_factory=lambda: [0] * len(EDGES))

    def add(self, known: float, unknown: float) -> None:
        if self.windows >= PER_HOUR * MAX_DEVICES:
            return
        self.windows += 1
        for tail, margin in ((self.known, known), (self.unknown, unknown)):
            if margin > EDGES[0]:
                tail.append(round(margin, 3))
                tail.sort(reverse=True)
                del tail[MAX_TAIL:]
        for place, edge in enumerate(EDGES):
            self.over[place] += known > edge


@dataclass
class _Near:
    """Blocks of one device that are near an incident, and how many of its incidents are open."""

    first: int
    last: int
    open: int


class Kept(NamedTuple):
    """What entered the sample: whose, its two margins, and the time of its block."""

    device: bytes
    known: float
    unknown: float
    at_us: int


class Sample:
    """The sample. Feed it windows in order of time, and every incident when it opens and when it closes."""

    def __init__(self, hours: Sequence[HourState] = ()) -> None:
        self._hours: deque[_Hour] = deque(maxlen=KEEP_HOURS)
        for state in sorted(hours, key=lambda each: each.hour)[-KEEP_HOURS:]:
            self._hours.append(_Hour(**state.model_dump()))
        self._waiting: dict[int, dict[bytes, list[float]]] = {}
        self._near: dict[bytes, _Near] = {}
        self._incidents: dict[str, tuple[bytes, ...]] = {}
        self._now_us = 0

    @property
    def windows(self) -> int:
        """Return how many windows the sample stands on."""
        return sum(each.windows for each in self._hours)

    @property
    def devices(self) -> int:
        """Return how many devices were seen within five minutes, at most."""
        return max((each.devices for each in self._hours), default=0)

    @property
    def watched_days(self) -> float:
        """Return the time in which they were seen."""
        return sum(each.watched_us for each in self._hours) / 86_400e6

    def hours(self) -> list[HourState]:
        """Return the hours kept, oldest first."""
        return [HourState(**vars(each)) for each in self._hours]

    def tail(self, group: str) -> NDArray[np.float64]:
        """Return the margins kept of `known` or `unknown`, unordered."""
        return np.array([m for each in self._hours for m in (each.known if group == "known" else each.unknown)], float)

    def told_down_to(self, group: str) -> float:
        """Return the margin above which every window of the sample is in the tail: of a full hour the rest is not."""
        tails = [each.known if group == "known" else each.unknown for each in self._hours]
        return max([EDGES[0], *(tail[-1] for tail in tails if len(tail) == MAX_TAIL)])

    def add(self, now_us: int, devices: Sequence[bytes], known: Sequence[float], unknown: Sequence[float]) -> None:
        """Take the margins of windows due at one time."""
        block = self._waiting.setdefault(now_us // BLOCK_US, {})
        for device, one, other in zip(devices, known, unknown, strict=True):
            seen = block.get(device)
            if seen is not None:
                seen[0], seen[1] = max(seen[0], one), max(seen[1], other)
            elif len(block) < MAX_DEVICES:
                block[device] = [one, other]

    def advance(self, now_us: int) -> list[Kept]:
        """Let time pass; return what entered the sample: blocks that no incident can come near any more."""
        passed_us = now_us - self._now_us
        if passed_us < 0:  # the clock was set back: what waits belongs to no time any more
            if -passed_us > GAP_US:
                self._set_back(now_us)
            return []
        if self._now_us and passed_us <= GAP_US:
            hour = self._hour(now_us)
            hour.watched_us = min(HOUR_US, hour.watched_us + passed_us)
        self._now_us = now_us
        kept: list[Kept] = []
        for number in sorted(each for each in self._waiting if each + BLOCKS_BEFORE < now_us // BLOCK_US):
            kept += self._settle(number, self._waiting.pop(number))
        return kept

    def incident_opened(self, name: str, devices: Sequence[bytes], at_us: int) -> None:
        """From some time before now on, these devices are near an incident."""
        if name in self._incidents:
            return
        block = at_us // BLOCK_US
        keep_newest(self._incidents, name, tuple(devices), limit=MAX_NEAR)
        for device in devices:
            near = self._near.pop(device, None)
            if near is None or near.last < block - 2 * BLOCKS_BEFORE:
                near = _Near(block - BLOCKS_BEFORE, _Open, 0)
            near.last, near.open = _Open, near.open + 1
            keep_newest(self._near, device, near, limit=MAX_NEAR)

    def incident_closed(self, name: str, at_us: int) -> None:
        """From the next period on, its devices are near it no more."""
        for device in self._incidents.pop(name, ()):
            if (near := self._near.get(device)) is not None:
                near.open -= 1
                if near.open <= 0:
                    near.last = at_us // BLOCK_US + 1

    def set_aside(self, device: bytes, at_us: int) -> None:
        """Leave out a device's windows of now: a rule answered for them."""
        block = at_us // BLOCK_US
        near = self._near.get(device)
        if near is None or near.last < block - 2 * BLOCKS_BEFORE:
            keep_newest(self._near, device, _Near(block, block, 0), limit=MAX_NEAR)
        elif near.open <= 0:
            near.last = max(near.last, block)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address keep its periods, and stay near its incidents."""
        for block in self._waiting.values():
            if (margins := block.pop(old, None)) is not None:
                seen = block.get(new, margins)
                block[new] = [max(pair) for pair in zip(margins, seen, strict=True)]
        if (near := self._near.get(old)) is not None and new not in self._near:
            keep_newest(self._near, new, near, limit=MAX_NEAR)
            del self._near[old]
        for name, devices in self._incidents.items():
            if old in devices:
                self._incidents[name] = tuple(new if each == old else each for each in devices)

    def _set_back(self, now_us: int) -> None:
        """Forget what lies in the future now: nothing would ever leave it."""
        self._waiting.clear()
        self._near.clear()
        self._incidents.clear()
        while self._hours and self._hours[-1].hour > now_us // HOUR_US:
            self._hours.pop()
        self._now_us = now_us

    def _settle(self, number: int, block: dict[bytes, list[float]]) -> list[Kept]:
        hour, kept = self._hour(number * BLOCK_US), []
        hour.devices = max(hour.devices, len(block))
        for device, margins in block.items():
            near = self._near.get(device)
            if near is None or not near.first <= number <= near.last:
                known, unknown = np.clip(margins, -LARGEST, LARGEST).tolist()
                hour.add(known, unknown)
                kept.append(Kept(device, known, unknown, number * BLOCK_US))
        for device in [each for each, near in self._near.items() if near.last < number]:
            del self._near[device]
        return kept

    def _hour(self, at_us: int) -> _Hour:
        """Return the hour of a time; of a time before all that is kept, the oldest one."""
        number = max(0, at_us // HOUR_US)
        if not self._hours or number > self._hours[-1].hour:
            self._hours.append(_Hour(number))
            while self._hours[0].hour <= number - KEEP_HOURS:
                self._hours.popleft()
        return next((each for each in reversed(self._hours) if each.hour <= number), self._hours[0])
