"""A bounded queue before a thread of its own: what may wait for a disk or a reader never holds whoever hands it over.

The thread takes what it does by iterating over the backlog. Full, it either refuses the newest (`offer`) or lets the
oldest go (`push`). The trap: an error in the thread is told by `threading.excepthook` and ends the thread alone; from
then on the backlog fills up, and what does not fit is counted as ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Backlog(Generic[Item]):
    """At most `most` items before the thread that runs `carry`; `changed` guards them, and is told of every change.

    `lost` counts what was let go: the oldest of a full backlog, what came after the end, what was left at it.
    """

    def __init__(self, name: str, carry: Callable[[], None], *, most: int, end_s: float) -> None:
        self.changed = threading.Condition()
        self.lost = 0
        self.is_closing = False
        self._waiting: deque[Item] = deque()
        self._most = most
        self._in_hand = 0
        self._end_s = end_s
        self._has_begun = False
        self._thread = threading.Thread(target=carry, name=name, daemon=True)

    def __len__(self) -> int:
        """Return how many items are not done: those that wait, and the one in hand."""
        with self.changed:
            return len(self._waiting) + self._in_hand

    @property
    def is_full(self) -> bool:
        """Whether one item more would be too many."""
        return len(self._waiting) >= self._most

    def begin(self) -> None:
        """Start the thread, unless it was started or the end has come; let it look again."""
        with self.changed:
            if not self._has_begun and not self.is_closing:
                self._has_begun = True
                self._thread.start()
            self.changed.notify_all()

    def offer(self, item: Item) -> bool:
        """Queue an item unless the backlog is full or closed; return whether it was queued."""
        with self.changed:
            if self.is_full or self.is_closing:
                return False
            self._waiting.append(item)
            self.changed.notify_all()
            return True

    def push(self, item: Item) -> None:
        """Queue an item and begin; the oldest of a full backlog is lost."""
        with self.changed:
            if self.is_closing:
                self.lost += 1
                return
            if self.is_full:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(item)
            self.begin()

    def close(self) -> bool:
        """Give the thread `end_s` for what waits, then let go of the rest; return whether there was a thread to end.

        A thread that hangs longer is left alone. May be called again.
        """
        with self.changed:
            was_closed, self.is_closing = self.is_closing, True
            self.changed.notify_all()
        if not was_closed:
            if self._has_begun:
                self._thread.join(self._end_s)
            with self.changed:
                self.lost += len(self._waiting) + self.done()
                self._waiting.clear()
        return self._has_begun

    # -- for the thread alone -----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Wait for one item after the other, until the backlog is closed and nothing waits."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._waiting or self.is_closing)
                item = self.take()
            if item is None:
                return
            yield item
            self.done()

    def take(self) -> Item | None:
        """Take the item that waits longest in hand; None where none waits."""
        with self.changed:
            self._in_hand = int(bool(self._waiting))
            return self._waiting.popleft() if self._waiting else None

    def done(self) -> int:
        """Put down what is in hand; return 1, or 0 where `close` let go of it in the meantime."""
        with self.changed:
            done, self._in_hand = self._in_hand, 0
            return done
