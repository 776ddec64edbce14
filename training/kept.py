"""Captures read once and kept in memory, for models that are judged one after another.

Reading a capture costs more than judging it. A kept stream gives the very batches that `stream` gave, every time it is
asked; nobody may write into them. The trap is memory: a window takes about 9 KB, the sides that judge and choose some
150,000 windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from contracts.ground_truth import GroundTruth
from flowfeatures import FlowFeaturesError, WindowBatch
from training.spans import AttackSpans
from training.stream import LabelledStream


class Windows(Protocol):
    """What is asked of a capture that judges or chooses: its windows in order, and what reading them found out."""

    @property
    def attacks(self) -> AttackSpans: ...

    @property
    def days(self) -> float: ...

    @property
    def broken(self) -> FlowFeaturesError | None: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def share_read(self) -> float: ...

    def __iter__(self) -> Iterator[WindowBatch]: ...


Stream = Callable[[GroundTruth], Windows]


class KeptStream:
    """The windows of one capture and what reading it found out; iterate as often as you like."""

    def __init__(self, read: LabelledStream) -> None:
        self._batches = list(read)
        self.truth: GroundTruth = read.truth
        self.attacks: AttackSpans = read.attacks
        self.days: float = read.days
        self.broken: FlowFeaturesError | None = read.broken
        self.notes: tuple[str, ...] = read.notes
        self.share_read = 1.0

    def __iter__(self) -> Iterator[WindowBatch]:
        return iter(self._batches)


class KeptStreams:
    """Gives the stream of a capture, which `read` reads the first time it is asked for."""

    def __init__(self, read: Callable[[GroundTruth], LabelledStream] = LabelledStream) -> None:
        self._read = read
        self._kept: dict[str, KeptStream] = {}

    def __call__(self, truth: GroundTruth) -> KeptStream:
        name = str(truth.path)
        if name not in self._kept:
            self._kept[name] = KeptStream(self._read(truth))
        return self._kept[name]
