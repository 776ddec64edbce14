"""The thread between letters and disk: what gathered while the last commit ran goes into the next one.

An fsync takes some milliseconds, so a burst shares it. Letters on their way to the outbox and acknowledgements on their
way out of it stand here, guarded by `changed`; whoever waits for any of it waits on that. A disk that takes nothing is
asked again, and what waits for it is bounded as the outbox is. The trap: a row deleted late is at worst a message sent
twice, a row never written is one lost; so acknowledgements wait for company and letters do not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.delivery.letters import Posted
from agent.delivery.outbox import Bounds, Letter, Outbox
from agent.monitoring.histogram import DISK_EDGES_S, Histogram
from contracts.errors import OutboxError

RETRY_S: Final = 1.0  # between attempts to write to a disk that would not take it
END_S: Final = 2.0  # for the last commit: a disk that hangs longer is left alone
COMMIT_MOST: Final = 512  # letters in one commit
COMMIT_LEAST: Final = 8  # after failures: a disk with little room takes some of them, and has room again once they left
# Acknowledgements alone wait so long for others: a row that is deleted late is at worst a message sent twice.
GATHER_S: Final = 0.05

_log = logging.getLogger(__name__)


class Committer:
    """The outbox and what is on its way into it and out of it.

    `file` None makes a temporary outbox, deleted at the end if nothing is left in it. `sets_aside` renames one that
    cannot be used, where otherwise `begin` raises OutboxError. `begin` once, `close` at the end.
    """

    def __init__(self, file: Path | None, *, bounds: Bounds, sets_aside: bool, clock_s: Callable[[], float]) -> None:
        self.file = file
        self.bounds = bounds
        self.outbox: Outbox | None = None
        self.times = Histogram(DISK_EDGES_S)
        self.changed = threading.Condition()
        # All guarded by `changed`:
        self.delivered = 0
        self.trouble: OutboxError | None = None
        self.dropped_unwritten = 0
        self._new: list[Letter] = []
        self._posted: dict[str, Posted] = {}  # of opaque letters that are not on disk yet, by their names
        self._committing = 0
        self._commit_most = COMMIT_MOST
        self._on_disk = 0
        self._acknowledged: list[int] = []
        self._unsendable: list[int] = []
        self._is_closing = False
        self._sets_aside = sets_aside
        self._clock_s = clock_s
        self._committed: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._commit_forever, name="penstock-outbox", daemon=True)

    def open(self) -> None:
        """Open the outbox. Raises OutboxError where it cannot be, unless that may pass: then it is tried again."""
        if self.file is None:
            self.outbox = Outbox.temporary(bounds=self.bounds)
        elif (trouble := self._open_outbox(self.file)) is not None:
            if not (self._sets_aside and trouble.is_ours):
                raise trouble
            _log.warning("%s; alerts wait in memory, it is tried again", trouble)
            self.trouble = trouble

    def begin(self, committed: Callable[[], None]) -> None:
        """Commit from now on; `committed` is called when letters have reached the disk."""
        self._committed = committed
        self._thread.start()

    def _open_outbox(self, path: Path) -> OutboxError | None:
        """Open the outbox; return what is wrong where it cannot be."""
        try:
            self.outbox = Outbox(path, bounds=self.bounds, sets_aside=self._sets_aside)
        except OutboxError as exc:
            return exc
        self._on_disk = len(self.outbox)
        return None

    @property
    def dropped(self) -> int:
        """How many letters left without a broker's word."""
        return self.dropped_unwritten + (0 if self.outbox is None else self.outbox.dropped)

    @property
    def size_bytes(self) -> int:
        """The bytes of what is on disk."""
        return 0 if self.outbox is None else self.outbox.size_bytes

    @property
    def oldest_us(self) -> int | None:
        """When the letter that waits longest came."""
        return None if self.outbox is None else self.outbox.oldest_us

    def left(self) -> int:
        """Return how many letters no broker has acknowledged yet. To be asked while `changed` is held."""
        return len(self._new) + self._committing + self._on_disk

    def use(self, bounds: Bounds) -> None:
        """Hold so much from the next commit on."""
        self.bounds = bounds
        if self.outbox is not None:
            self.outbox.use(bounds)

    def put(self, letter: Letter) -> None:
        """Take a letter. To be called while `changed` is held."""
        self._new.append(letter)
        self._let_go()
        self.changed.notify_all()

    def _let_go(self) -> None:
        """Drop what is above the bounds, the least severe first, of these the oldest: the disk takes nothing."""
        if (above := len(self._new) - self.bounds.rows) <= 0:
            return
        by_worth = sorted(range(len(self._new)), key=lambda place: -self._new[place].severity)
        leaving = set(by_worth[:above])
        self._settle([self._new[place] for place in sorted(leaving)], is_durable=False)
        self._new = [letter for place, letter in enumerate(self._new) if place not in leaving]
        self.dropped_unwritten += above

    def post(self, letter: Letter) -> Posted:
        """Take an opaque letter; return what tells when it is on disk. To be called while `changed` is held."""
        if (posted := self._posted.get(letter.alert_id)) is None:  # else it waits for the disk already
            posted = self._posted[letter.alert_id] = Posted()
            self.put(letter)
        return posted

    def _settle(self, letters: list[Letter], *, is_durable: bool) -> None:
        for letter in letters:
            if letter.topic and (posted := self._posted.pop(letter.alert_id, None)) is not None:
                posted.settle(is_durable=is_durable)

    def acknowledged(self, number: int) -> None:
        """Take note that the broker has a letter."""
        with self.changed:
            self._acknowledged.append(number)
            if len(self._acknowledged) in {1, COMMIT_MOST}:
                self.changed.notify_all()

    def unsendable(self, number: int) -> None:
        """Take note that MQTT cannot carry a letter."""
        with self.changed:
            self._unsendable.append(number)
            self.changed.notify_all()

    def notify(self) -> None:
        """Let those who wait look again."""
        with self.changed:
            self.changed.notify_all()

    def after(self, number: int, limit: int) -> list[tuple[int, Letter]]:
        """Return letters to send next: those on disk, without what is acknowledged but still there."""
        if self.outbox is None:
            return []
        with self.changed:
            settled = {*self._acknowledged, *self._unsendable}
        letters = self.outbox.after(number, limit + len(settled))
        return [pair for pair in letters if pair[0] not in settled][:limit]

    def close(self) -> None:
        """Put on disk what was acknowledged, close the outbox, delete an empty temporary one."""
        with self.changed:
            self._is_closing = True
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(END_S)
        self.dropped_unwritten += len(self._new)
        self._settle(self._new, is_durable=False)
        self._new.clear()
        if self.outbox is not None and not self._thread.is_alive():
            if self.file is None and len(self.outbox) == 0:
                self.outbox.delete()
            else:
                self.outbox.close()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _commit_forever(self) -> None:
        """Commit what gathered while the last commit ran, until closing and nothing is left to commit."""
        while True:
            with self.changed:
                while not (
                    self._new or self._acknowledged or self._unsendable or self._is_closing or self.outbox is None
                ):
                    self.changed.wait()
                if self.trouble is not None:  # a full disk is not asked again with every alert
                    self.changed.wait_for(lambda: self._is_closing, RETRY_S)
                elif not self._new:
                    self.changed.wait_for(self._is_urgent, GATHER_S)
                added, self._new = self._new[: self._commit_most], self._new[self._commit_most :]
                settled, unsendable = tuple(self._acknowledged), tuple(self._unsendable)
                self._committing = len(added)
                is_last = self._is_closing and not (self._new and self.trouble is None)
            if added or settled or unsendable or self.outbox is None:
                self._commit(added, settled, unsendable)
            if is_last:
                return

    def _is_urgent(self) -> bool:
        return bool(self._new) or self._is_closing or len(self._acknowledged) >= COMMIT_MOST

    def _commit(self, added: list[Letter], settled: tuple[int, ...], unsendable: tuple[int, ...]) -> None:
        gone, was_late, began_s = 0, self.outbox is None, self._clock_s()
        trouble = self._open_outbox(self.file) if was_late and self.file is not None else None
        if trouble is None and self.outbox is not None:
            gone, trouble = self._apply(self.outbox, added, settled, unsendable)
        is_settled = trouble is None
        if trouble is not None and added and (settled or unsendable) and self.outbox is not None:
            # What leaves makes room, and must not wait for what has none.
            gone, stuck = self._apply(self.outbox, [], settled, unsendable)
            is_settled = stuck is None
        self.times.observe(self._clock_s() - began_s)
        with self.changed:
            if (trouble is None) != (self.trouble is None):
                _log.warning("%s", trouble or "outbox: takes alerts again")
            self.trouble = trouble
            self._committing = 0
            self._on_disk = 0 if self.outbox is None else len(self.outbox)
            if is_settled:
                self.delivered += gone
                del self._acknowledged[: len(settled)]
                del self._unsendable[: len(unsendable)]
            if trouble is None:
                self._settle(added, is_durable=True)
                self._commit_most = min(COMMIT_MOST, 2 * self._commit_most)
            else:
                self._commit_most = max(COMMIT_LEAST, self._commit_most // 2)
                self._new[:0] = added
                self._let_go()  # others came in their place
            self.changed.notify_all()
        if (added or was_late) and trouble is None:
            self._committed()

    @staticmethod
    def _apply(
        outbox: Outbox, added: list[Letter], settled: tuple[int, ...], unsendable: tuple[int, ...]
    ) -> tuple[int, OutboxError | None]:
        try:
            return outbox.apply(added=added, removed=settled, unsendable=unsendable), None
        except OutboxError as exc:
            return 0, exc
