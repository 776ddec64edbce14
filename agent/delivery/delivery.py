"""The last hop as one object: an alert goes to the sinks and, where there is a broker, through the outbox to MQTT.

`publish` and `take` return once the alert is queued for the disk and given to the sinks; one thread commits what has
gathered (`committer`), another sends what is committed (`sender`). An alert counts as delivered when its PUBACK is on
disk too, that is, when its row is gone. A replay publishes, and hears by an exception what went wrong; a service takes:
whatever goes wrong is counted, tried again, and stops nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.delivery.broker import MqttSettings
from agent.delivery.committer import Committer
from agent.delivery.eve import EveFile
from agent.delivery.inbox import Inbox, Incoming, Subscription
from agent.delivery.letters import Posted, letter_of, opaque_letter
from agent.delivery.outbox import Bounds
from agent.delivery.sender import Sender
from agent.delivery.sink import Sink
from agent.monitoring.facts import DeliveryFacts
from agent.monitoring.histogram import LATENCY_EDGES_S, Histogram
from contracts.alert import Alert
from contracts.errors import BrokerRefused
from contracts.eve import render_eve


class Delivery:
    """Takes alerts from any thread; a context manager that opens the outbox and leaves nothing running.

    Without `mqtt` there is no outbox. `outbox` is its file; None makes a temporary one, deleted at the end if nothing
    is left in it. `eve` is a replay's file, which raises where it cannot be written; `sinks` never do, and are closed
    with the delivery. `sets_aside` renames an outbox that cannot be used, where otherwise entering raises OutboxError.
    """

    def __init__(
        self,
        sinks: Sequence[Sink] = (),
        *,
        eve: EveFile | None = None,
        mqtt: MqttSettings | None = None,
        outbox: Path | None = None,
        bounds: Bounds | None = None,
        sets_aside: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
        subscriptions: Sequence[Subscription] = (),
    ) -> None:
        self.inbox = Inbox(subscriptions)
        self.alerts = 0
        self._sinks = tuple(sinks)
        self._eve = eve
        self._mqtt = mqtt
        self._clock_s = clock_s
        self._committer = Committer(outbox, bounds=bounds or Bounds(), sets_aside=sets_aside, clock_s=clock_s)
        self._changed = self._committer.changed
        self._sender: Sender | None = None
        self._status = b""
        self._acknowledge_times = Histogram(LATENCY_EDGES_S)
        self._writing = threading.Lock()  # sinks and eve; never taken while _changed is held

    def __enter__(self) -> Delivery:
        if self._mqtt is not None:
            self._begin_sending(self._mqtt)
        return self

    def _begin_sending(self, mqtt: MqttSettings) -> None:
        committer = self._committer
        committer.open()
        sender = Sender(
            mqtt,
            committer,
            delivered=self._take_acknowledgement,
            unsendable=committer.unsendable,
            changed=committer.notify,
            clock_s=self._clock_s,
            inbox=self.inbox,
        )
        sender.tell_status(self._status)
        committer.begin(sender.wake)
        sender.start()
        self._mqtt, self._sender = mqtt, sender

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def delivered(self) -> int:
        """How many alerts the broker has acknowledged, and this is on disk."""
        return self._committer.delivered

    @property
    def left(self) -> int:
        """How many alerts no broker has acknowledged yet, those of earlier runs in the same outbox included."""
        with self._changed:
            return self._committer.left()

    @property
    def dropped(self) -> int:
        """How many alerts left the outbox without a broker's word: by its bounds, or because MQTT cannot carry them."""
        return self._committer.dropped

    @property
    def outbox_path(self) -> Path | None:
        """Where the alerts that are left stand."""
        outbox = self._committer.outbox
        return None if outbox is None else outbox.path

    @property
    def reason(self) -> str:
        """The last thing the broker or the network said, as `host:port: what`."""
        return "" if self._sender is None else self._sender.reason

    def publish(self, alert: Alert) -> None:
        """Take one alert; it is neither lost nor refused once this has returned.

        Raises OutputError, OutboxError (the alert is kept in memory and tried again) or BrokerRefused, each after the
        other ways out were tried.
        """
        self.take(alert)
        if self._eve is not None:
            with self._writing:
                self._eve.write(render_eve(alert))
        self.check()

    def take(self, alert: Alert) -> None:
        """Take one alert; what goes wrong with it is counted (see `facts`) and stops nobody."""
        mqtt = self._mqtt
        letter = None if mqtt is None else letter_of(alert, mqtt.format)
        with self._changed:
            self.alerts += 1
            if letter is not None and self._sender is not None:
                self._committer.put(letter)
        with self._writing:
            for sink in self._sinks:
                sink.write(alert)

    def post(self, topic: str, payload: bytes, *, content_type: str) -> Posted | None:
        """Send octets that nobody here opens, through the outbox; return what tells when they are on disk.

        None where there is no broker. The topic must be below this gateway's own, or ValueError is raised.
        """
        mqtt = self._mqtt
        if mqtt is None or self._sender is None:
            return None
        letter = opaque_letter(mqtt.gateway, topic, payload, content_type=content_type)
        with self._changed:
            return self._committer.post(letter)

    def status(self, text: str) -> None:
        """Publish how we are, retained: now where there is a broker, and whenever we come back to it."""
        self._status = text.encode(errors="replace")
        if self._sender is not None:
            self._sender.tell_status(self._status)

    def tick(self) -> None:
        """Do what is due about once a second: lines that wait for room on a disk, files that were moved."""
        with self._writing:
            for sink in self._sinks:
                sink.tick()

    def incoming(self) -> list[Incoming]:
        """Return what the broker sent since the last call, oldest first."""
        return self.inbox.drain()

    def listen(self, subscriptions: Sequence[Subscription]) -> None:
        """Hear these messages of the broker, and no others, from now on."""
        if self.inbox.use(subscriptions) and self._sender is not None and self._mqtt is not None:
            self._sender.use(self._mqtt)

    def reopen(self) -> None:
        """Open anew what a log rotation moved away."""
        with self._writing:
            for sink in self._sinks:
                sink.reopen()

    def use(
        self,
        *,
        sinks: Sequence[Sink] | None = None,
        mqtt: MqttSettings | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """Go on with other sinks, another broker, or other bounds of the outbox; None leaves what there is.

        The outbox stays where it is. Raises OutboxError where a broker is wanted for the first time and no outbox can
        be opened; then nothing has changed but its bounds.
        """
        if bounds is not None:
            self._committer.use(bounds)
        if mqtt is not None and self._sender is None:
            self._begin_sending(mqtt)
        elif mqtt is not None and self._sender is not None:
            self._mqtt = mqtt
            self._sender.use(mqtt)
        if sinks is not None:
            with self._writing:
                old, self._sinks = self._sinks, tuple(sinks)
            for sink in old:
                if sink not in self._sinks:
                    sink.close()

    def facts(self) -> DeliveryFacts:
        """Return what was delivered, what waits and what is wrong now; cheap, from any thread."""
        sinks = tuple(sink.facts() for sink in self._sinks)
        committer, sender, mqtt = self._committer, self._sender, self._mqtt
        if sender is None or mqtt is None:
            return DeliveryFacts(sinks=sinks)
        with self._changed:
            rows = committer.left()
            trouble = "" if committer.trouble is None else str(committer.trouble)
            outbox = committer.outbox
            counts = {} if outbox is None else outbox.dropped_by
            dropped = (*counts.items(), ("unwritten", committer.dropped_unwritten))
        return DeliveryFacts(
            broker=mqtt.place,
            broker_state=sender.state,
            broker_reason=sender.reason,
            connects=sender.connects,
            in_flight=sender.in_flight,
            outbox_path=str(committer.file if outbox is None else outbox.path),
            outbox_rows=rows,
            outbox_bytes=committer.size_bytes,
            outbox_max_rows=committer.bounds.rows,
            outbox_oldest_us=committer.oldest_us,
            outbox_trouble=trouble,
            delivered=self.delivered,
            resent=sender.resent,
            dropped=dropped,
            received=self.inbox.received,
            refused=self.inbox.refused,
            commit=committer.times.facts(),
            acknowledge=self._acknowledge_times.facts(),
            sinks=sinks,
        )

    def check(self) -> None:
        """Raise BrokerRefused or OutboxError if alerts cannot be delivered by waiting."""
        with self._changed:
            self._raise_trouble()

    def drain(self, wait_s: float) -> int:
        """Wait until no alert is left, at most `wait_s`; return how many are. Raises as `check` does."""
        return self._wait(wait_s, self._raise_trouble)

    def flush(self, wait_s: float) -> int:
        """Wait as `drain` does, whatever is wrong meanwhile; it may pass."""
        return self._wait(wait_s, lambda: None)

    def _wait(self, wait_s: float, check: Callable[[], None]) -> int:
        deadline_s = self._clock_s() + wait_s
        with self._changed:
            while True:
                check()
                left, remaining_s = self._committer.left(), deadline_s - self._clock_s()
                if left == 0 or remaining_s <= 0:
                    return left
                self._changed.wait(remaining_s)

    def close(self) -> None:
        """Say goodbye to the broker, put on disk what was acknowledged, delete an empty temporary outbox."""
        if self._sender is not None:
            self._sender.stop()
        self._committer.close()
        with self._writing:
            for sink in self._sinks:
                sink.close()
        if self._eve is not None:
            self._eve.close()

    def _raise_trouble(self) -> None:
        if self._committer.trouble is not None:
            raise self._committer.trouble
        if self._sender is not None and self._sender.refused:
            raise BrokerRefused(f"mqtt: refused by {self._sender.reason}")

    def _take_acknowledgement(self, number: int, seconds: float) -> None:
        self._acknowledge_times.observe(seconds)
        self._committer.acknowledged(number)
