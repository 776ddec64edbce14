"""A worker: the office and the post together, in one loop, until it is told to stop.

A message is acknowledged once what became of it is on disk. Where the store does not take it, it stays with us
unacknowledged and is tried again at the next turn; so does a duty.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Final

from contracts.errors import OutputError
from contracts.terminal import complain
from federation.aggregator.ledger import LedgerError
from federation.aggregator.metrics import Board
from federation.aggregator.notify import ALIVE, READY, STOPPING, notify
from federation.aggregator.office import STATUS, UPDATES, UPS, Office
from federation.aggregator.post import Incoming, Post

TURN_S: Final = 1.0
MOST_RETRY_S: Final = 60.0


class Worker:
    """One process of an aggregator."""

    def __init__(self, office: Office, *, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self.office = office
        self.post = Post(office.config.broker, client_id=client_id(office), filters=filters(office))
        self._board = Board()
        self._now_us = now_us
        self._waiting: deque[Incoming] = deque()
        self._is_stopping = False
        self._trouble = ""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises what the office or the listener raises at start."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        metrics = self.office.config.metrics
        stop_serving = self._board.serve(metrics.port) if metrics.is_enabled else lambda: None
        assert self.office.windows  # read now: a wrong capture must not come to light at the first deadline
        notify(READY)
        try:
            self._turn_for_ever()
        finally:
            notify(STOPPING)
            self.post.close()
            stop_serving()

    def _turn_for_ever(self) -> None:
        next_turn_s, next_try_s, retry_s = 0.0, 0.0, TURN_S
        while not self._is_stopping:
            if not self.post.is_connected and time.monotonic() >= next_try_s:
                retry_s = TURN_S if self.post.open() else min(2 * retry_s, MOST_RETRY_S)
                next_try_s = time.monotonic() + retry_s
            if time.monotonic() >= next_turn_s:
                next_turn_s = time.monotonic() + TURN_S
                self._guarded(self._turn)
            if self._waiting:  # not taken yet: more of them would only fill memory
                time.sleep(max(0.0, next_turn_s - time.monotonic()))
            elif (incoming := self.post.next(max(0.0, next_turn_s - time.monotonic()))) is not None:
                self._waiting.append(incoming)
                self._guarded(self._take_waiting)

    def _turn(self) -> None:
        """Do what is due, and see to it that everybody can read it."""
        self._take_waiting()
        self.office.tick(now_us=self._now_us())
        topics = set()
        for saying in self.office.sayings(now_us=self._now_us()):
            self.post.keep_said(saying)
            topics.add(saying.topic)
        self.post.forget(but=topics)
        broker = {
            "is_connected": self.post.is_connected,
            "connects": self.post.connects,
            "refusals": sum(self.post.refused.values()),
        }
        self._board.post(self.office.facts(now_us=self._now_us()) | {"broker": broker})
        notify(ALIVE)

    def _take_waiting(self) -> None:
        while self._waiting:
            incoming = self._waiting[0]
            self.office.take(incoming.topic, incoming.payload, now_us=self._now_us())
            self.post.acknowledge(incoming)
            self._waiting.popleft()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do the work; a store or disk that cannot be used is said once and tried again, and that is no progress."""
        try:
            work()
        except (LedgerError, OutputError, OSError) as exc:
            if str(exc) != self._trouble:
                complain(exc)
            self._trouble = str(exc)
        else:
            self._trouble = ""

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        self.post.wake()


def client_id(office: Office) -> str:
    """Return a worker's client id: its session at the broker goes by it."""
    return f"penstock-aggregator-{office.fleet}-{office.config.worker.name}"


def filters(office: Office) -> dict[str, bool]:
    """Return what a worker subscribes to, and whether retained messages are wanted there.

    Updates are shared among workers, the gateways' states each worker hears for itself.
    """
    share = office.config.worker.share
    return {f"$share/{share}/{each}" if share else each: False for each in (UPDATES, UPS)} | {STATUS: True}
