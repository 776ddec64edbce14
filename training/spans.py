"""When each home device had a part in an attack: what an incident is held against, in memory that a flood cannot fill.

Records of one device and class that begin in one tick and end in one are a single span, from the first's start to the
last's end: a flood of a million one-packet flows a minute leaves 1,200 spans a minute on its victim. The trap: a span
may hold a pause, which is shorter than a tick; windows tell no finer time either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.matching import Ends, RecordView

TICK_US: Final = 50_000
MERGED_FROM = 1 << 18  # spans waiting until they are merged: a bound on memory, and merging stays rare
SPAN: Final = np.dtype([("high", "<u8"), ("low", "<u8"), ("label", "i1"), ("start_us", "<i8"), ("end_us", "<i8")])

Records = NDArray[np.void]


class AttackSpans:
    """The attack records of one capture, by home device; `first_us` is the first packet of each class."""

    def __init__(self, home_nets: Iterable[str]) -> None:
        self.first_us: dict[int, int] = {}
        self._home = Ends.of(home_nets)
        self._merged = np.zeros(0, SPAN)
        self._waiting: list[NDArray[np.void]] = []
        self._spans_waiting = 0

    def __len__(self) -> int:
        return len(self._all())

    def add(self, attacks: Records) -> None:
        """Take in RECORD[n] or FLOW_META[n] whose `label` is a class."""
        for label in np.unique(attacks["label"]).tolist():
            start_us = int(attacks["start_us"][attacks["label"] == label].min())
            self.first_us[label] = min(start_us, self.first_us.get(label, start_us))
        view = RecordView(attacks)
        for end in ("src", "dst"):
            at_home = self._home.hold(view, end)
            spans = np.zeros(int(at_home.sum()), SPAN)
            spans["high"], spans["low"] = view.addresses[end][at_home].T
            for name in ("label", "start_us", "end_us"):
                spans[name] = attacks[name][at_home]
            if len(spans):
                self._waiting.append(spans)
                self._spans_waiting += len(spans)
        if self._spans_waiting >= max(MERGED_FROM, len(self._merged)):
            self._all()

    def classes_met(self, device: bytes, *, first_us: int, last_us: int) -> frozenset[int]:
        """Return the classes that a home device (16 octets) had a part in between two moments, both included."""
        spans = self._all()
        high, low = (np.uint64(int.from_bytes(half, "big")) for half in (device[:8], device[8:]))
        own = (spans["high"] == high) & (spans["low"] == low)
        meets = own & (spans["start_us"] <= last_us) & (spans["end_us"] >= first_us)
        return frozenset(np.unique(spans["label"][meets]).tolist())

    def _all(self) -> NDArray[np.void]:
        if self._waiting:
            self._merged = _merged(np.concatenate([self._merged, *self._waiting]))
            self._waiting, self._spans_waiting = [], 0
        return self._merged


def _merged(spans: NDArray[np.void]) -> NDArray[np.void]:
    """Return one span for all of a device and class that begin in one tick and end in one."""
    if not len(spans):
        return spans
    keys: list[NDArray[Any]] = [spans["high"], spans["low"], spans["label"]]
    keys += [spans["start_us"] // TICK_US, spans["end_us"] // TICK_US]
    order = np.lexsort(keys)
    is_new = np.ones(len(spans), np.bool_)
    is_new[1:] = np.logical_or.reduce([np.diff(key[order].astype(np.int64)) != 0 for key in keys])
    first = np.flatnonzero(is_new)
    found = spans[order[first]]
    found["start_us"] = np.minimum.reduceat(spans["start_us"][order], first)
    found["end_us"] = np.maximum.reduceat(spans["end_us"][order], first)
    return found
