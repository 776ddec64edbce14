"""The loop of a bridge: hear, admit, write, force to disk, acknowledge; in that order and in one thread.

A message is acknowledged only after its line is on disk, whole groups at a time: while the disk works, the next group
gathers. Where nothing can be written, nothing is acknowledged, and the broker keeps what comes; memory holds at most
what one connection may have unacknowledged, because no new connection is made before that is written.
"""

from __future__ import annotations

import logging
import queue
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from agent.bridging.admission import Refused, admitted, filters_of
from agent.bridging.seen import Seen
from agent.bridging.session import MOST_UNACKNOWLEDGED, Ended, Event, Heard, Session, Subscribed
from agent.bridging.targets import Target
from agent.delivery.backoff import Backoff
from agent.delivery.broker import MqttSettings
from agent.delivery.mqtt import FINAL_CODES
from contracts.alert import Alert
from contracts.errors import OutputError
from contracts.terminal import brief

LOOK_S: Final = 0.2  # how long a wish to stop may go unseen
TICK_S: Final = 1.0
STEADY_S: Final = 10.0  # a connection that lasted this long was a good one
REPEAT_S: Final = 60.0  # a reason to refuse is told once in this time, however often it comes
FAREWELL_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the messages: written + repeated + refused = heard, once nothing waits."""

    written: int = 0
    repeated: int = 0
    connects: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.refused.items()))
        told = f"{self.written} alerts written, {self.repeated} came again, {self.refused.total()} refused"
        return told + (f" ({reasons})" if reasons else "")


class Bridge:
    """Carries alerts from one broker to one target. `reason` is the last thing that kept it from it."""

    def __init__(
        self,
        settings: MqttSettings,
        target: Target,
        *,
        gateways: Collection[str],
        seen: Seen,
        expiry_s: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self.reason = f"{settings.place}: not reached yet"
        self.is_refused = False
        self.is_subscribed = False
        self.quiet_since_s = clock_s()
        self._settings = settings
        self._target = target
        self._gateways = frozenset(gateways)
        self._seen = seen
        self._expiry_s = expiry_s
        self._clock_s = clock_s
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting: deque[tuple[Heard, Alert | None]] = deque()
        self._session: Session | None = None
        self._began_s = self._retry_s = self._ticked_s = clock_s()
        self._backoff = Backoff(most_s=settings.max_backoff_s)
        self._trouble = ""
        self._is_closing = False
        self._told_s: dict[str, float] = {}

    @property
    def has_all(self) -> bool:
        """Whether the broker took us and nothing we heard is still to be written."""
        return self.is_subscribed and not self._waiting

    def step(self) -> None:
        """Do what is due, waiting at most LOOK_S for something to happen (longer for a broker that lets us wait)."""
        now_s = self._clock_s()
        if self._session is None and not self._waiting and now_s >= self._retry_s:
            self._connect()
        self._gather()
        now_s = self._clock_s()
        if now_s - self._ticked_s >= TICK_S:
            self._ticked_s = now_s
            self._target.tick()
            self._write()
        elif not self._trouble:
            self._write()

    def reopen(self) -> None:
        """Open anew what a log rotation may have moved away."""
        self._target.reopen()

    def close(self) -> None:
        """Write what was heard, acknowledge it, and leave; the broker keeps the session."""
        self._is_closing = True
        self._write()
        session = self._session
        if session is not None:
            session.close()
            deadline_s = self._clock_s() + FAREWELL_S
            while self._session is not None and (left_s := deadline_s - self._clock_s()) > 0:
                self._gather(left_s)
        self._target.close()

    def _connect(self) -> None:
        self._settings = self._settings.refreshed()
        self._began_s = self._clock_s()
        session = Session(self._settings, filters_of(self._gateways), expiry_s=self._expiry_s, tell=self._events.put)
        try:
            session.open()
        except ssl.SSLError as exc:
            self._note(f"TLS: {exc.reason or exc}", is_final=not isinstance(exc, ssl.SSLEOFError))
            self._wait()
        except OSError as exc:
            self._note(exc.strerror or str(exc) or type(exc).__name__)
            self._wait()
        else:
            self._session = session

    def _wait(self) -> None:
        now_s = self._clock_s()
        if now_s - self._began_s >= STEADY_S:
            self._backoff.reset()
        self._retry_s = now_s + self._backoff.next_s()

    def _gather(self, timeout_s: float = LOOK_S) -> None:
        """Wait for an event, then take all that stand there, up to what one connection may bring."""
        try:
            self._take(self._events.get(timeout=timeout_s))
            for _ in range(MOST_UNACKNOWLEDGED):
                self._take(self._events.get_nowait())
        except queue.Empty:
            pass
        if self._session is not None and not self.is_subscribed:
            self._check_patience(self._session)

    def _check_patience(self, session: Session) -> None:
        if self._clock_s() - self._began_s > 2 * self._settings.connect_timeout_s:
            self._note("no answer to CONNECT or SUBSCRIBE")
            session.close()
            self._session = None
            self._wait()

    def _take(self, event: Event) -> None:
        if isinstance(event, Heard):
            self.quiet_since_s = self._clock_s()
            self._waiting.append((event, self._admitted(event)))
        elif event.session is not self._session:
            return
        elif isinstance(event, Subscribed):
            self.quiet_since_s = self._clock_s()
            self.counts.connects += 1
            self.is_subscribed, self.is_refused = True, False
            kept = "session resumed" if event.is_resumed else "new session: nothing from before waits in it"
            _log.info("connected to %s, %s", self._settings.place, kept)
            self.reason = f"{self._settings.place}: connected"
        else:
            self._lose(event)

    def _lose(self, ended: Ended) -> None:
        self._session, self.is_subscribed = None, False
        if self._is_closing:
            return
        self._note(ended.said or "connection lost", is_final=ended.code in FINAL_CODES)
        self._wait()

    def _admitted(self, heard: Heard) -> Alert | None:
        try:
            return admitted(heard, self._gateways)
        except Refused as exc:
            self.counts.refused[exc.reason] += 1
            now_s = self._clock_s()
            if now_s - self._told_s.get(exc.reason, -REPEAT_S) >= REPEAT_S:
                self._told_s[exc.reason] = now_s
                total = self.counts.refused[exc.reason]
                _log.warning("refused (%s, %d so far): %s: %s", exc.reason, total, brief(heard.topic, 100), exc)
            return None

    def _write(self) -> None:
        """Write what waits and force it to disk; acknowledge what got there."""
        done: list[tuple[Heard, Alert | None]] = []
        fresh: list[Alert] = []
        repeated, trouble = 0, ""
        while self._waiting:
            _, alert = self._waiting[0]
            if alert is not None and alert in self._seen:
                repeated += 1
            elif alert is not None:
                try:
                    self._target.write(alert)
                except OutputError as exc:
                    trouble = str(exc)
                    break
                self._seen.add(alert.host, alert.alert_id)
                fresh.append(alert)
            done.append(self._waiting.popleft())
        try:
            if fresh:
                self._target.sync()
        except OutputError as exc:
            trouble = str(exc)
            for alert in fresh:
                self._seen.forget(alert)
            self._waiting.extendleft(reversed(done))
        else:
            self.counts.written += len(fresh)
            self.counts.repeated += repeated
            for heard, _ in done:
                heard.session.settle(heard)
        self._tell_trouble(trouble)

    def _tell_trouble(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _log.warning("%s: nothing is acknowledged until this ends", trouble)
        if self._trouble and not trouble:
            _log.warning("writes again")
        self._trouble = trouble

    def _note(self, reason: str, *, is_final: bool = False) -> None:
        reason = f"{self._settings.place}: {reason}"
        if reason != self.reason:
            _log.warning("%s", reason)
        self.reason, self.is_refused = reason, is_final
