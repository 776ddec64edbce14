"""Which windows are kept to learn from: of quiet times one drawn by chance, of incidents those that made them.

Outside incidents every device has one place for every five minutes, drawn evenly among its windows of that time, so
that neither a busy minute nor somebody who sends much shapes what is learnt. What is over a threshold waits for its
incident and is kept under its id. The trap: what led up to an attack, and what followed, is no benign traffic, however
harmless it scored. So near an incident of its device nothing is kept, and what was kept already is let go again.

Runs in the pipeline's thread; a window is copied only if it is drawn, the disk is another thread's business.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.classes import BENIGN
from contracts.samples import HOUR_US, MAX_PER_INCIDENT, Sample
from detection.incidents import IncidentUpdate
from detection.tally import keep_newest
from flowfeatures import WindowBatch

BLOCK_US: Final = 300 * 1_000_000  # HOUR_US / MAX_PER_DEVICE_HOUR
NEAR_US: Final = HOUR_US  # as federation.gateway.labels reads it
MAX_DEVICES: Final = 256  # in one block; further ones are counted
MAX_WAITING: Final = 256  # windows over a threshold whose incident has not opened: 1.7 MB
WAITING_US: Final = 600 * 1_000_000
MAX_NEAR: Final = 2048
MAX_OPEN: Final = 1024  # as detection.incidents
ALL_OF_FIRST: Final = 64  # windows of an incident; later ones ever more rarely, so that a long one is told to its end


@dataclass
class _Drawn:
    """The window of one device that stands for its block so far, of so many."""

    block: int
    seen: int
    sample: Sample


@dataclass
class _Open:
    devices: frozenset[bytes]
    class_index: int
    seen: int = 0
    kept: int = 0


class Keeper:
    """Choose. `put` is called with each window to keep, `let_go` with a device and two times between which none may be.

    `left_out` counts windows of devices that there was no place for. `chance` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        put: Callable[[Sample], None],
        let_go: Callable[[bytes, int, int], None],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.left_out = 0
        self._put = put
        self._let_go = let_go
        self._chance = chance
        self._drawn: dict[bytes, _Drawn] = {}
        self._waiting: deque[Sample] = deque(maxlen=MAX_WAITING)
        self._open: dict[str, _Open] = {}
        self._names: dict[bytes, dict[int, str]] = {}  # device -> class -> its open incident
        self._near: dict[bytes, int] = {}  # device -> until when

    def observe(self, batch: WindowBatch, margins: NDArray[np.float64], class_index: NDArray[np.int64]) -> None:
        """Take a batch that was scored: how far each window is above its threshold, and the class of those that are."""
        for row in range(len(batch)):
            device, due_us = bytes(batch.device[row]), int(batch.due_us[row])
            if class_index[row] != BENIGN:
                self._suspect(batch, row, device, float(margins[row]), int(class_index[row]))
            elif not self._is_near(device, due_us):
                self._draw(batch, row, device, float(margins[row]))

    def incident(self, update: IncidentUpdate) -> None:
        """Take what an incident says: its windows are kept, those near it let go."""
        name = update.incident_id
        devices = frozenset((update.device, update.parties.attacker, update.parties.victim))
        if update.update == 0:
            opened = _Open(devices, update.class_index)
            if len(self._open) >= MAX_OPEN:
                self._end(next(iter(self._open)))
            self._open[name] = opened
            for device in devices:
                self._names.setdefault(device, {})[update.class_index] = name
                self._drawn.pop(device, None)
                self._let_go(device, update.opened_us - NEAR_US, update.at_us)
            waiting, self._waiting = self._waiting, deque(maxlen=MAX_WAITING)
            for sample in waiting:
                if sample.device in devices and sample.class_index == update.class_index:
                    self._keep(name, opened, sample)
                elif sample.due_us >= update.at_us - WAITING_US:
                    self._waiting.append(sample)
        if update.closed and name in self._open:
            for device in self._end(name):
                keep_newest(self._near, device, update.at_us + NEAR_US, limit=MAX_NEAR)

    def moved(self, old: bytes, new: bytes) -> None:
        """Let a device that changed its address stay near its incidents."""
        if (until_us := self._near.get(old)) is not None:
            keep_newest(self._near, new, max(until_us, self._near.get(new, 0)), limit=MAX_NEAR)
        for class_index, name in self._names.get(old, {}).items():
            self._names.setdefault(new, {}).setdefault(class_index, name)
            self._open[name].devices |= {new}

    def advance(self, now_us: int) -> None:
        """Keep what was drawn for blocks that are over."""
        block = now_us // BLOCK_US
        for device in [device for device, drawn in self._drawn.items() if drawn.block != block]:
            self._put(self._drawn.pop(device).sample)

    def finish(self) -> None:
        """Keep what was drawn so far: the input ended."""
        for drawn in self._drawn.values():
            self._put(drawn.sample)
        self._drawn.clear()

    # -- inside -------------------------------------------------------------------------------------------------

    def _end(self, name: str) -> frozenset[bytes]:
        """Forget an open incident; return its devices."""
        ended = self._open.pop(name)
        for device in ended.devices:
            names = self._names.get(device, {})
            if names.get(ended.class_index) == name:
                del names[ended.class_index]
            if not names:
                self._names.pop(device, None)
        return ended.devices

    def _draw(self, batch: WindowBatch, row: int, device: bytes, margin: float) -> None:
        block = int(batch.due_us[row]) // BLOCK_US
        drawn = self._drawn.get(device)
        if drawn is not None and drawn.block != block:
            self._put(self._drawn.pop(device).sample)
            drawn = None
        if drawn is None:
            if len(self._drawn) >= MAX_DEVICES:
                self.left_out += 1
                return
            self._drawn[device] = _Drawn(block, 1, _sample(batch, row, device, margin))
            return
        drawn.seen += 1
        if self._chance() * drawn.seen < 1.0:  # each window of the block is as likely as any other
            drawn.sample = _sample(batch, row, device, margin)

    def _suspect(self, batch: WindowBatch, row: int, device: bytes, margin: float, class_index: int) -> None:
        name = self._names.get(device, {}).get(class_index)
        if name is None:
            self._waiting.append(_sample(batch, row, device, margin, class_index))
            return
        opened = self._open[name]
        opened.seen += 1
        if opened.seen <= ALL_OF_FIRST or self._chance() * opened.seen < ALL_OF_FIRST:
            self._keep(name, opened, _sample(batch, row, device, margin, class_index))

    def _keep(self, name: str, opened: _Open, sample: Sample) -> None:
        if opened.kept < MAX_PER_INCIDENT:
            opened.kept += 1
            self._put(
                Sample(
                    device=sample.device, due_us=sample.due_us, rows=sample.rows, margin=sample.margin,
                    incident_id=name, class_index=opened.class_index,
                )
            )  # fmt: skip

    def _is_near(self, device: bytes, due_us: int) -> bool:
        return device in self._names or due_us <= self._near.get(device, -1)


def _sample(batch: WindowBatch, row: int, device: bytes, margin: float, class_index: int = BENIGN) -> Sample:
    length = int(np.count_nonzero(batch.mask[row]))
    return Sample(
        device=device,
        due_us=int(batch.due_us[row]),
        rows=batch.values[row, :length].astype(np.float32, copy=True),
        margin=margin,
        class_index=class_index,
    )
