"""The thread that keeps one connection to the broker and empties the outbox into it.

It waits for events and for nothing else: a letter on disk, an acknowledgement, the end of a connection, the wish to
stop. Letters go out in order of arrival, at most a window of them unacknowledged, and are handed back as delivered only
on PUBACK; a connection that ends takes its window with it, and the next one begins with the oldest letter on disk.
After a refusal it goes on trying, more and more rarely: whoever runs it decides whether to wait.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from agent.delivery.broker import MqttSettings, alert_topic
from agent.delivery.mqtt import (
    FINAL_CODES,
    OFFLINE,
    ONLINE,
    UNSUPPORTED_VERSION,
    Accepted,
    Acknowledged,
    Connection,
    Ended,
    Event,
)
from agent.delivery.outbox import Letter
from contracts.errors import OutboxError

FIRST_BACKOFF_S: Final = 0.25
STEADY_S: Final = 10.0  # a connection that lasted this long was a good one: the next delay begins at the first again
FAREWELL_S: Final = 1.0  # for the acknowledgement of "offline"

_log = logging.getLogger(__name__)


class TimedOut:
    """What waiting for an event gives when there was none in time."""


TIMED_OUT: Final = TimedOut()


class Letters(Protocol):
    """Where letters wait (Delivery, over its Outbox)."""

    def after(self, number: int, limit: int) -> list[tuple[int, Letter]]:
        """Return up to `limit` letters with ids above `number`, oldest first."""


class Backoff:
    """Delays between attempts: doubled each time up to a most, and spread so that gateways do not come all at once."""

    def __init__(self, *, most_s: float, spread: Callable[[], float] = random.random) -> None:
        self._most_s = most_s
        self._spread = spread
        self._next_s = FIRST_BACKOFF_S

    def next_s(self) -> float:
        """Return how long to wait now: between half the delay and all of it."""
        delay_s = min(self._next_s, self._most_s)
        self._next_s = min(2 * delay_s, self._most_s)
        return delay_s * (0.5 + 0.5 * self._spread())

    def reset(self) -> None:
        """Begin again with the first delay."""
        self._next_s = FIRST_BACKOFF_S


class Sender(threading.Thread):
    """Start it once; `wake` it when letters reached the disk; `stop` it at the end.

    `delivered` is called with the id of each letter the broker has, `unsendable` with that of each that MQTT cannot
    carry, `changed` when `reason` or `refused` did; all from this thread. `reason` is the last thing that kept letters
    from going out, `refused` tells whether waiting is vain.
    """

    def __init__(
        self,
        settings: MqttSettings,
        letters: Letters,
        *,
        delivered: Callable[[int], None],
        unsendable: Callable[[int], None],
        changed: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="penstock-mqtt", daemon=True)
        self.reason = f"{settings.place}: not reached yet"
        self.refused = False
        self.is_online = False
        self._settings = settings
        self._letters = letters
        self._delivered = delivered
        self._unsendable = unsendable
        self._changed = changed
        self._clock_s = clock_s
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: look again
        self._backoff = Backoff(most_s=settings.max_backoff_s)
        self._is_version_5 = True
        self._window = settings.window
        self._is_stopping = False

    def wake(self) -> None:
        """Let the thread look for new letters."""
        self._events.put(None)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Say goodbye to the broker and end; a connect that hangs longer than the timeout is left alone."""
        self._is_stopping = True
        self._events.put(None)
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Keep a connection until stopped; a mistake of ours ends that, and is said to whoever waits."""
        try:
            self._keep_connected()
        except Exception as exc:
            _log.exception("mqtt: internal error, please report it")
            self.is_online = False
            self._note(f"internal error: {type(exc).__name__}", is_final=True)

    def _keep_connected(self) -> None:
        while not self._is_stopping:
            began_s = self._clock_s()
            connection = self._connect()
            if connection is not None:
                self._serve(connection)
            if self._clock_s() - began_s >= STEADY_S:
                self._backoff.reset()
            self._pause(self._backoff.next_s())

    def _connect(self) -> Connection | None:
        """Return a connection the broker accepted, or None and the reason why not."""
        connection, ended = self._attempt()
        if connection is None and ended is not None and self._is_version_5 and ended.code in (0, UNSUPPORTED_VERSION):
            # A broker of MQTT 3.1.1 says that it does not know version 5, or hangs up without a word.
            self._is_version_5 = False
            connection, ended = self._attempt()
            if connection is None and ended is not None and ended.code == 0:
                self._is_version_5 = True
        return connection

    def _attempt(self) -> tuple[Connection | None, Ended | None]:
        connection = Connection(self._settings, is_version_5=self._is_version_5, tell=self._events.put)
        try:
            connection.open()
        except ssl.SSLError as exc:
            is_hung_up = isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)
            self._note(f"TLS: {_complaint(exc)}", is_final=not is_hung_up)
            return None, None
        except OSError as exc:
            # Python names its own line for this one; a TCP connect that takes too long says "timed out".
            is_handshake = isinstance(exc, TimeoutError) and "handshake" in str(exc)
            complaint = "no answer in TLS: is it an mqtt:// port?" if is_handshake else exc.strerror or str(exc)
            self._note(complaint or type(exc).__name__)
            return None, None
        answer = self._answer(connection)
        if isinstance(answer, Accepted):
            self._window = min(self._settings.window, answer.receive_maximum)
            return connection, None
        connection.close()
        if answer is None:
            self._note("no answer to CONNECT")
        else:
            self._note(answer.said or "connection closed before an answer", is_final=answer.code in FINAL_CODES)
        return None, answer

    def _answer(self, connection: Connection) -> Accepted | Ended | None:
        deadline_s = self._clock_s() + self._settings.connect_timeout_s
        while (event := self._next(deadline_s, connection)) is not TIMED_OUT and not self._is_stopping:
            if isinstance(event, Accepted | Ended):
                return event
        return None

    def _serve(self, connection: Connection) -> None:
        """Send what is on disk until the connection ends or we stop."""
        self._went_online(connection)
        in_flight: dict[int, tuple[int, str]] = {}  # number of the message -> id on disk (0: not a letter), topic
        last = 0
        if (greeting := connection.say(ONLINE)) is not None:
            in_flight[greeting] = 0, self._settings.availability_topic
        while not self._is_stopping:
            last = self._fill(connection, in_flight, last)
            event = self._next(None, connection)
            if isinstance(event, Ended):
                self._note(event.said or "connection lost", is_final=event.code in FINAL_CODES)
                break
            if isinstance(event, Acknowledged) and not self._settle(event, in_flight):
                break
        self.is_online = False
        self._take_leave(connection)

    def _went_online(self, connection: Connection) -> None:
        _log.info("mqtt: connected to %s, version %s", self._settings.place, 5 if connection.is_version_5 else "3.1.1")
        self.is_online = True
        self.refused = False
        self.reason = f"{self._settings.place}: connected, not yet acknowledged"

    def _fill(self, connection: Connection, in_flight: dict[int, tuple[int, str]], last: int) -> int:
        """Send letters until the window is full; return the id of the last one sent."""
        room = self._window - len(in_flight)
        try:
            letters = self._letters.after(last, room) if room > 0 else []
        except OutboxError as exc:
            self._note(str(exc))
            return last
        for number, letter in letters:
            last = number
            try:
                sent = connection.send(letter)
            except ValueError as exc:  # only a letter that somebody else wrote into the outbox
                self._note(f"an alert cannot be sent and is dropped: {exc}")
                self._unsendable(number)
                continue
            if sent is None:
                break  # its end is in the queue
            in_flight[sent] = number, alert_topic(letter.gateway, letter.attack_class)
        return last

    def _settle(self, event: Acknowledged, in_flight: dict[int, tuple[int, str]]) -> bool:
        """Take note of a PUBACK; return whether the connection may go on."""
        number, topic = in_flight.pop(event.number)
        if event.code >= 0x80:
            self._note(f"{topic}: {event.said}", is_final=event.code in FINAL_CODES)
            return False
        if number:
            self._delivered(number)
        return True

    def _take_leave(self, connection: Connection) -> None:
        """Say that we are offline (the last will is for when we cannot) and disconnect."""
        if (farewell := connection.say(OFFLINE)) is not None:
            deadline_s = self._clock_s() + FAREWELL_S
            while (event := self._next(deadline_s, connection)) is not TIMED_OUT:
                if isinstance(event, Ended) or (isinstance(event, Acknowledged) and event.number == farewell):
                    break
        connection.close()

    def _pause(self, delay_s: float) -> None:
        deadline_s = self._clock_s() + delay_s
        while not self._is_stopping and self._next(deadline_s, None) is not TIMED_OUT:
            pass

    def _next(self, deadline_s: float | None, connection: Connection | None) -> Event | TimedOut | None:
        """Return the next event of this connection, None for a wake-up or one of another, TIMED_OUT at the deadline."""
        try:
            left_s = None if deadline_s is None else max(0.0, deadline_s - self._clock_s())
            event = self._events.get(timeout=left_s)
        except queue.Empty:
            return TIMED_OUT
        return event if event is not None and event.connection is connection else None

    def _note(self, reason: str, *, is_final: bool = False) -> None:
        """Keep what stopped us; a refusal stands until a broker accepts us, whatever happens on the way."""
        reason = f"{self._settings.place}: {reason}"
        if reason != self.reason:
            _log.info("mqtt: %s", reason)
        if is_final or not self.refused:
            self.reason, self.refused = reason, is_final
        self._changed()


def _complaint(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {exc.verify_message}"
    return (exc.reason or str(exc)).replace("_", " ").lower()
