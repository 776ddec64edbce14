"""The thread that keeps one connection to the broker and empties the outbox into it.

It waits for events and for nothing else: a letter on disk, an acknowledgement, the end of a connection, the wish to
stop. Letters go out in order of arrival, at most a window of them unacknowledged, and are handed back as delivered only
on PUBACK; a connection that ends takes its window with it, and the next one begins with the oldest letter on disk.
After a refusal it goes on trying, more and more rarely: whoever runs it decides whether to wait. Passwords and
certificates are read anew for every connection, so that one that was renewed on disk is used without a restart.
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from agent.delivery.backoff import Backoff
from agent.delivery.broker import MqttSettings, alert_topic
from agent.delivery.inbox import Inbox
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

STEADY_S: Final = 10.0  # a connection that lasted this long was a good one: the next delay begins at the first again
FAREWELL_S: Final = 1.0  # for the acknowledgement of "offline"
READ_AHEAD: Final = 256  # letters read from disk at a time
LOOK_AGAIN_S: Final = 1.0  # after the disk would not give a letter

_log = logging.getLogger(__name__)


class TimedOut:
    """What waiting for an event gives when there was none in time."""


TIMED_OUT: Final = TimedOut()


class Letters(Protocol):
    """Where letters wait (Delivery, over its Outbox)."""

    def after(self, number: int, limit: int) -> list[tuple[int, Letter]]:
        """Return up to `limit` letters with ids above `number`, oldest first."""


@dataclass
class InFlight:
    """What was sent and is not yet acknowledged: id on disk (0: not a letter), its topic, when it was sent.

    `is_vital`: where the broker refuses it, alerts wait too.
    """

    number: int
    topic: str
    sent_s: float
    is_vital: bool = True


class Sender(threading.Thread):
    """Start it once; `wake` it when letters reached the disk; `stop` it at the end.

    `delivered` is called with the id of each letter the broker has and the seconds that took it, `unsendable` with that
    of each that MQTT cannot carry, `changed` when `reason` or `refused` did; all from this thread. `reason` is the last
    thing that kept letters from going out, `refused` tells whether waiting is vain.
    """

    def __init__(
        self,
        settings: MqttSettings,
        letters: Letters,
        *,
        delivered: Callable[[int, float], None],
        unsendable: Callable[[int], None],
        changed: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
        inbox: Inbox | None = None,
    ) -> None:
        super().__init__(name="penstock-mqtt", daemon=True)
        self._inbox = inbox
        self.reason = f"{settings.place}: not reached yet"
        self.refused = False
        self.is_online = False
        self.connects = 0
        self.resent = 0
        self.in_flight = 0
        self._settings = settings
        self._letters = letters
        self._delivered = delivered
        self._unsendable = unsendable
        self._changed = changed
        self._clock_s = clock_s
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()  # None: look again
        self._backoff = Backoff(most_s=settings.max_backoff_s)
        self._window = settings.window
        self._is_stopping = False
        self._next_settings: MqttSettings | None = None
        self._status = b""
        self._told_status = b""  # on this connection
        self._highest_sent = 0
        self._ahead: deque[tuple[int, Letter]] = deque()

    def wake(self) -> None:
        """Let the thread look for new letters."""
        self._events.put(None)

    @property
    def state(self) -> Literal["connecting", "connected", "refused"]:
        """Where we stand with the broker."""
        return "connected" if self.is_online else "refused" if self.refused else "connecting"

    def tell_status(self, status: bytes) -> None:
        """Publish this, retained, now and on every connection to come; the latest is the one that counts."""
        self._status = status
        self._events.put(None)

    def use(self, settings: MqttSettings) -> None:
        """Say goodbye where we are connected and connect as these settings say."""
        self._next_settings = settings
        self._events.put(None)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Say goodbye to the broker and end; a connect that hangs longer than the timeout is left alone."""
        self._is_stopping = True
        self._events.put(None)
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        """Keep a connection until stopped; a mistake of ours is said to whoever waits, and tried again."""
        last = ""
        while not self._is_stopping:
            try:
                self._keep_connected()
            except Exception as exc:
                mistake = f"internal error: {type(exc).__name__}"
                if mistake != last:
                    last = mistake
                    _log.exception("mqtt: internal error, please report it")
                self._note(mistake, is_final=True)
                self._pause(self._backoff.next_s())

    @property
    def _is_leaving(self) -> bool:
        return self._is_stopping or self._next_settings is not None

    def _keep_connected(self) -> None:
        while not self._is_stopping:
            self._take_settings()
            connection = self._connect()
            began_s = self._clock_s()
            if connection is not None:
                self._serve(connection)
                if self._clock_s() - began_s >= STEADY_S:
                    self._backoff.reset()
            self._pause(self._backoff.next_s())

    def _take_settings(self) -> None:
        """Use the settings somebody gave us since, and what their files hold by now."""
        if (given := self._next_settings) is not None:
            self._next_settings = None
            self._settings = given
            self._backoff = Backoff(most_s=given.max_backoff_s)
        self._settings = self._settings.refreshed()

    def _connect(self) -> Connection | None:
        """Return a connection the broker accepted, or None and the reason why not.

        A broker of MQTT 3.1.1 says that it does not know version 5, or hangs up without a word. So may one of version 5
        that is just being stopped: version 5 is what every new connection tries first.
        """
        connection, ended = self._attempt(is_version_5=True)
        if connection is None and ended is not None and ended.code in (0, UNSUPPORTED_VERSION):
            connection, _ = self._attempt(is_version_5=False)
        return connection

    def _attempt(self, *, is_version_5: bool) -> tuple[Connection | None, Ended | None]:
        connection = Connection(self._settings, is_version_5=is_version_5, tell=self._events.put, inbox=self._inbox)
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
        in_flight: dict[int, InFlight] = {}  # by the number of the message
        last = 0
        try:
            self._note_sent(in_flight, connection.say(ONLINE), 0, self._settings.availability_topic)
            for topic, text in self._settings.announcements:
                self._note_sent(in_flight, connection.announce(topic, text), 0, topic, is_vital=False)
            while not self._is_leaving:
                self._renew_status(connection, in_flight)
                last, is_stuck = self._fill(connection, in_flight, last)
                self.in_flight = len(in_flight)
                event = self._next(self._clock_s() + LOOK_AGAIN_S if is_stuck else None, connection)
                if isinstance(event, Ended):
                    self._note(event.said or "connection lost", is_final=event.code in FINAL_CODES)
                    break
                if isinstance(event, Acknowledged) and not self._settle(event, in_flight):
                    break
        finally:
            self.is_online = False
            self.in_flight = 0
            self._take_leave(connection)

    def _went_online(self, connection: Connection) -> None:
        _log.info("mqtt: connected to %s, version %s", self._settings.place, 5 if connection.is_version_5 else "3.1.1")
        self.is_online = True
        self.connects += 1
        self.refused = False
        self.reason = f"{self._settings.place}: connected, not yet acknowledged"
        self._told_status = b""
        self._ahead.clear()

    def _note_sent(
        self, in_flight: dict[int, InFlight], sent: int | None, number: int, topic: str, *, is_vital: bool = True
    ) -> None:
        """Remember what waits for its PUBACK; where the connection just went, its end is in the queue."""
        if sent is not None:
            in_flight[sent] = InFlight(number, topic, self._clock_s(), is_vital)

    def _renew_status(self, connection: Connection, in_flight: dict[int, InFlight]) -> None:
        status = self._status
        if status != self._told_status:
            self._told_status = status
            try:
                self._note_sent(in_flight, connection.tell_status(status), 0, self._settings.status_topic)
            except ValueError as exc:
                _log.warning("mqtt: a status cannot be sent: %s", exc)

    def _fill(self, connection: Connection, in_flight: dict[int, InFlight], last: int) -> tuple[int, bool]:
        """Send letters until the window is full; return the id of the last one sent, and whether the disk failed us."""
        while len(in_flight) < self._window:
            if not self._ahead:
                try:
                    self._ahead.extend(self._letters.after(last, READ_AHEAD))
                except OutboxError as exc:
                    self._note(str(exc))
                    return last, True
            if not self._ahead:
                break
            number, letter = self._ahead.popleft()
            last = number
            try:
                sent = connection.send(letter)
            except ValueError as exc:  # only a letter that somebody else wrote into the outbox
                self._note(f"an alert cannot be sent and is dropped: {exc}")
                self._unsendable(number)
                continue
            if sent is None:
                break
            topic = letter.topic or alert_topic(letter.gateway, letter.attack_class)
            self._note_sent(in_flight, sent, number, topic)
            self.resent += number <= self._highest_sent
            self._highest_sent = max(self._highest_sent, number)
        return last, False

    def _settle(self, event: Acknowledged, in_flight: dict[int, InFlight]) -> bool:
        """Take note of a PUBACK; return whether the connection may go on."""
        sent = in_flight.pop(event.number, None)
        if sent is None:
            self._note(f"an acknowledgement of message {event.number}, which was not sent")
            return False
        if event.code >= 0x80 and not sent.is_vital:
            _log.warning("mqtt: %s: %s", sent.topic, event.said)
            return True
        if event.code >= 0x80:
            self._note(f"{sent.topic}: {event.said}", is_final=event.code in FINAL_CODES)
            return False
        if sent.number:
            self._delivered(sent.number, self._clock_s() - sent.sent_s)
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
        while not self._is_leaving and self._next(deadline_s, None) is not TIMED_OUT:
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
