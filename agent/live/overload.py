"""Windows that wait to be scored: a batch goes when it is full or its oldest window has waited long enough (DESIGN D5).

While scoring keeps up, every window is scored, in order. Where it falls behind, the newest window of each device takes
the place of its older ones in the queue, and those are counted as shed: a flood costs detail, never a device its turn,
and never memory. due = scored + shed + waiting, at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flowfeatures import WindowBatch

BEHIND_S: Final = 0.5
"""A window that has waited so long shows that scoring is behind, however few wait."""

LEFT_RATIO: Final = 0.5
"""Of max_waiting: what stays where even the newest are too many. To shed costs a look at all that waits, so it must
pay."""


class WaitingWindows:
    """Take batches as they become due, give batches to score.

    At most `batch_windows` at once; the first of a batch waits at most `deadline_s`. Beyond `max_waiting` windows, or
    where one has waited BEHIND_S, only the newest of each device stays.
    """

    def __init__(
        self,
        *,
        batch_windows: int = 256,
        deadline_s: float = 0.05,
        max_waiting: int = 1024,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batch_windows = batch_windows
        self.deadline_s = deadline_s
        self.max_waiting = max_waiting
        self.due = 0
        self.given = 0
        self.shed = 0
        self._now_s = now_s
        self._parts: list[tuple[float, WindowBatch]] = []  # when it came, what is left of it
        self._since_shed = 0

    def __len__(self) -> int:
        """Return how many windows wait: counted here, not derived from the others."""
        return sum(len(part) for _, part in self._parts)

    @property
    def oldest_due_us(self) -> int | None:
        """Return the packet time of the earliest window that waits."""
        return min((int(part.due_us.min()) for _, part in self._parts), default=None)

    @property
    def wait_s(self) -> float | None:
        """Return in how many seconds a batch is to be taken, None where nothing waits."""
        if not self._parts:
            return None
        if len(self) >= self.batch_windows:
            return 0.0
        return max(0.0, self._parts[0][0] + self.deadline_s - self._now_s())

    def add(self, batch: WindowBatch) -> None:
        """Let windows wait, in order of their ticks."""
        if not len(batch):
            return
        self.due += len(batch)
        self._parts.append((self._now_s(), batch))
        self._since_shed += len(batch)
        is_late = self._now_s() - self._parts[0][0] > BEHIND_S
        if len(self) > self.max_waiting or (is_late and 4 * self._since_shed >= len(self)):
            self._shed()

    def take(self, *, at_once: bool = False) -> WindowBatch | None:
        """Return the next batch, in order of packet time, if it is full or in time; with `at_once` whatever waits."""
        wait_s = self.wait_s
        if wait_s is None or (wait_s > 0 and not at_once):
            return None
        taken: list[WindowBatch] = []
        room = self.batch_windows
        while self._parts and room:
            came_s, part = self._parts.pop(0)
            if len(part) > room:
                self._parts.insert(0, (came_s, part.rows(slice(room, None))))
                part = part.rows(slice(room))
            taken.append(part)
            room -= len(part)
        batch = _joined(taken)
        self.given += len(batch)
        if (np.diff(batch.due_us) < 0).any():
            batch = batch.rows(np.argsort(batch.due_us, kind="stable"))
        return batch

    def _shed(self) -> None:
        """Keep each device's newest window, in the place of its oldest: a busy device must have its turn too.

        Where that is still too many, windows with the fewest records leave: devices that somebody made up have one.
        """
        before = len(self)
        self._since_shed = 0
        came_s, parts = self._parts[0][0], [part for _, part in self._parts]
        newest: dict[bytes, int] = {}  # a key that comes again keeps its place
        for row, device in enumerate(_column(parts, "device")):
            newest[device.tobytes()] = row
        rows = np.fromiter(newest.values(), np.intp, len(newest))
        if len(rows) > self.max_waiting:
            records = _column(parts, "mask")[rows].sum(axis=1)
            most = np.argsort(-records, kind="stable")[: max(1, round(LEFT_RATIO * self.max_waiting))]
            rows = rows[np.sort(most)]
        if len(rows) == before:
            return
        kept = _picked(parts, rows)
        if len(newest) < before:
            kept.is_new[:] |= _new_in_any(parts)[rows]
        self._parts = [(came_s, kept)]
        self.shed += before - len(self)


def _new_in_any(parts: list[WindowBatch]) -> NDArray[np.uint8]:
    """Return uint8[B, W]: 1 where the record was new in this window or in an earlier one of its device.

    Evidence is what is new: a record that came with a window that was shed has not been looked at yet.
    """
    devices = np.ascontiguousarray(_column(parts, "device")).view(np.uint64)
    _, device = np.unique(devices, axis=0, return_inverse=True)
    flow_id = np.concatenate([part.flows["flow_id"] for part in parts])
    with np.errstate(over="ignore"):
        key = flow_id * np.uint64(0x9E3779B97F4A7C15) + device.reshape(-1, 1).astype(np.uint64)
    is_new = _column(parts, "is_new") > 0
    return np.asarray(np.isin(key, key[is_new]) & (_column(parts, "mask") > 0), np.uint8)


def _column(parts: list[WindowBatch], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, name) for part in parts])


def _picked(parts: list[WindowBatch], rows: NDArray[np.intp]) -> WindowBatch:
    """Return rows of the parts, counted over all of them, in this order; no others are copied."""
    ends = np.cumsum([len(part) for part in parts])
    part_of = np.searchsorted(ends, rows, side="right")
    order = np.argsort(part_of, kind="stable")
    picked = [
        part.rows(rows[part_of == number] - (ends[number] - len(part)))
        for number, part in enumerate(parts)
        if (part_of == number).any()
    ]
    return _joined(picked).rows(np.argsort(order, kind="stable"))


def _joined(parts: list[WindowBatch]) -> WindowBatch:
    if len(parts) == 1:
        return parts[0]
    return WindowBatch(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in WindowBatch.__slots__}
    )
