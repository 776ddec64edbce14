"""The last hop as one object: an alert goes to the sinks and, where there is a broker, through the outbox to MQTT.

`publish` and `take` return once the alert is queued for the disk and given to the sinks; one thread commits what has
gathered (an fsync takes some milliseconds, so a burst shares it), another sends what is committed. An alert counts as
delivered when its PUBACK is on disk too, that is, when its row is gone. A replay publishes, and hears by an exception
what went wrong; a service takes: whatever goes wrong is counted, tried again, and stops nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.delivery.broker import MqttSettings
from agent.delivery.eve import EveFile
from agent.delivery.letters import letter_of
from agent.delivery.outbox import Bounds, Letter, Outbox
from agent.delivery.sender import Sender
from agent.delivery.sink import Sink
from agent.monitoring.facts import DISK_EDGES_S, LATENCY_EDGES_S, DeliveryFacts, Histogram
from contracts.alert import Alert
from contracts.errors import BrokerRefused, OutboxError
from contracts.eve import render_eve

RETRY_S: Final = 1.0  # between attempts to write to a disk that would not take it
END_S: Final = 2.0  # for the last commit: a disk that hangs longer is left alone
COMMIT_MOST: Final = 512  # letters in one commit
COMMIT_LEAST: Final = 8  # after failures: a disk with little room takes some of them, and has room again once they left
# Acknowledgements alone wait so long for others: a row that is deleted late is at worst a message sent twice.
GATHER_S: Final = 0.05

_log = logging.getLogger(__name__)


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
    ) -> None:
        self.alerts = 0
        self.delivered = 0
        self._sinks = tuple(sinks)
        self._eve = eve
        self._mqtt = mqtt
        self._outbox_file = outbox
        self._bounds = bounds or Bounds()
        self._sets_aside = sets_aside
        self._clock_s = clock_s
        self._outbox: Outbox | None = None
        self._sender: Sender | None = None
        self._status = b""
        self._committer = threading.Thread(target=self._commit_forever, name="penstock-outbox", daemon=True)
        self._commit_times = Histogram(DISK_EDGES_S)
        self._acknowledge_times = Histogram(LATENCY_EDGES_S)
        self._writing = threading.Lock()  # sinks and eve; never taken while _changed is held
        self._changed = threading.Condition()
        # All guarded by _changed:
        self._new: list[Letter] = []
        self._committing = 0
        self._commit_most = COMMIT_MOST
        self._on_disk = 0
        self._acknowledged: list[int] = []
        self._unsendable: list[int] = []
        self._trouble: OutboxError | None = None
        self._dropped_unwritten = 0
        self._is_closing = False

    def __enter__(self) -> Delivery:
        if self._mqtt is not None:
            self._begin_sending(self._mqtt)
        return self

    def _begin_sending(self, mqtt: MqttSettings) -> None:
        if self._outbox_file is None:
            self._outbox = Outbox.temporary(bounds=self._bounds)
        elif (trouble := self._open_outbox(self._outbox_file)) is not None:
            if not (self._sets_aside and trouble.is_ours):
                raise trouble
            _log.warning("%s; alerts wait in memory, it is tried again", trouble)
            self._trouble = trouble
        sender = Sender(
            mqtt,
            self,
            delivered=self._take_acknowledgement,
            unsendable=self._take_unsendable,
            changed=self._notify,
            clock_s=self._clock_s,
        )
        sender.tell_status(self._status)
        self._committer.start()
        sender.start()
        self._mqtt, self._sender = mqtt, sender

    def _open_outbox(self, path: Path) -> OutboxError | None:
        """Open the outbox; return what is wrong where it cannot be."""
        try:
            self._outbox = Outbox(path, bounds=self._bounds, sets_aside=self._sets_aside)
        except OutboxError as exc:
            return exc
        self._on_disk = len(self._outbox)
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def left(self) -> int:
        """How many alerts no broker has acknowledged yet, those of earlier runs in the same outbox included."""
        with self._changed:
            return self._left()

    @property
    def dropped(self) -> int:
        """How many alerts left the outbox without a broker's word: by its bounds, or because MQTT cannot carry them."""
        return self._dropped_unwritten + (0 if self._outbox is None else self._outbox.dropped)

    @property
    def outbox_path(self) -> Path | None:
        """Where the alerts that are left stand."""
        return None if self._outbox is None else self._outbox.path

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
                self._enqueue(letter)
        with self._writing:
            for sink in self._sinks:
                sink.write(alert)

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
            self._bounds = bounds
            if self._outbox is not None:
                self._outbox.use(bounds)
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
        outbox, sender, mqtt = self._outbox, self._sender, self._mqtt
        if sender is None or mqtt is None:
            return DeliveryFacts(sinks=sinks)
        with self._changed:
            rows = self._left()
            trouble = "" if self._trouble is None else str(self._trouble)
            counts = {} if outbox is None else outbox.dropped_by
            dropped = (*counts.items(), ("unwritten", self._dropped_unwritten))
        return DeliveryFacts(
            broker=mqtt.place,
            broker_state=sender.state,
            broker_reason=sender.reason,
            connects=sender.connects,
            in_flight=sender.in_flight,
            outbox_path=str(self._outbox_file if outbox is None else outbox.path),
            outbox_rows=rows,
            outbox_bytes=0 if outbox is None else outbox.size_bytes,
            outbox_max_rows=self._bounds.rows,
            outbox_oldest_us=None if outbox is None else outbox.oldest_us,
            outbox_trouble=trouble,
            delivered=self.delivered,
            resent=sender.resent,
            dropped=dropped,
            commit=self._commit_times.facts(),
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
                left, remaining_s = self._left(), deadline_s - self._clock_s()
                if left == 0 or remaining_s <= 0:
                    return left
                self._changed.wait(remaining_s)

    def close(self) -> None:
        """Say goodbye to the broker, put on disk what was acknowledged, delete an empty temporary outbox."""
        if self._sender is not None:
            self._sender.stop()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._committer.is_alive():
            self._committer.join(END_S)
        self._dropped_unwritten += len(self._new)
        self._new.clear()
        with self._writing:
            for sink in self._sinks:
                sink.close()
        if self._outbox is not None and not self._committer.is_alive():
            if self._outbox_file is None and len(self._outbox) == 0:
                self._outbox.delete()
            else:
                self._outbox.close()
        if self._eve is not None:
            self._eve.close()

    def after(self, number: int, limit: int) -> list[tuple[int, Letter]]:
        """Return letters to send next (for Sender): those on disk, without what is acknowledged but still there."""
        if self._outbox is None:
            return []
        with self._changed:
            settled = {*self._acknowledged, *self._unsendable}
        letters = self._outbox.after(number, limit + len(settled))
        return [pair for pair in letters if pair[0] not in settled][:limit]

    def _enqueue(self, letter: Letter) -> None:
        self._new.append(letter)
        if len(self._new) > self._bounds.rows:  # only while the disk takes nothing
            self._new.remove(max(self._new, key=lambda each: each.severity))
            self._dropped_unwritten += 1
        self._changed.notify_all()

    def _left(self) -> int:
        return len(self._new) + self._committing + self._on_disk

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        if self._sender is not None and self._sender.refused:
            raise BrokerRefused(f"mqtt: refused by {self._sender.reason}")

    def _take_acknowledgement(self, number: int, seconds: float) -> None:
        self._acknowledge_times.observe(seconds)
        with self._changed:
            self._acknowledged.append(number)
            if len(self._acknowledged) in {1, COMMIT_MOST}:
                self._changed.notify_all()

    def _take_unsendable(self, number: int) -> None:
        with self._changed:
            self._unsendable.append(number)
            self._changed.notify_all()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _commit_forever(self) -> None:
        """Commit what gathered while the last commit ran, until closing and nothing is left to commit."""
        while True:
            with self._changed:
                while not (
                    self._new or self._acknowledged or self._unsendable or self._is_closing or self._outbox is None
                ):
                    self._changed.wait()
                if self._trouble is not None:  # a full disk is not asked again with every alert
                    self._changed.wait_for(lambda: self._is_closing, RETRY_S)
                elif not self._new:
                    self._changed.wait_for(self._is_urgent, GATHER_S)
                added, self._new = self._new[: self._commit_most], self._new[self._commit_most :]
                settled, unsendable = tuple(self._acknowledged), tuple(self._unsendable)
                self._committing = len(added)
                is_last = self._is_closing and not (self._new and self._trouble is None)
            if added or settled or unsendable or self._outbox is None:
                self._commit(added, settled, unsendable)
            if is_last:
                return

    def _is_urgent(self) -> bool:
        return bool(self._new) or self._is_closing or len(self._acknowledged) >= COMMIT_MOST

    def _commit(self, added: list[Letter], settled: tuple[int, ...], unsendable: tuple[int, ...]) -> None:
        if self._sender is None:
            return
        gone, was_late, began_s = 0, self._outbox is None, self._clock_s()
        trouble = self._open_outbox(self._outbox_file) if was_late and self._outbox_file is not None else None
        if trouble is None and self._outbox is not None:
            gone, trouble = self._apply(self._outbox, added, settled, unsendable)
        is_settled = trouble is None
        if trouble is not None and added and (settled or unsendable) and self._outbox is not None:
            # What leaves makes room, and must not wait for what has none.
            gone, stuck = self._apply(self._outbox, [], settled, unsendable)
            is_settled = stuck is None
        self._commit_times.observe(self._clock_s() - began_s)
        with self._changed:
            if (trouble is None) != (self._trouble is None):
                _log.warning("%s", trouble or "outbox: takes alerts again")
            self._trouble = trouble
            self._committing = 0
            self._on_disk = 0 if self._outbox is None else len(self._outbox)
            if is_settled:
                self.delivered += gone
                del self._acknowledged[: len(settled)]
                del self._unsendable[: len(unsendable)]
            if trouble is None:
                self._commit_most = min(COMMIT_MOST, 2 * self._commit_most)
            else:
                self._commit_most = max(COMMIT_LEAST, self._commit_most // 2)
                self._new[:0] = added
            self._changed.notify_all()
        if (added or was_late) and trouble is None:
            self._sender.wake()

    @staticmethod
    def _apply(
        outbox: Outbox, added: list[Letter], settled: tuple[int, ...], unsendable: tuple[int, ...]
    ) -> tuple[int, OutboxError | None]:
        try:
            return outbox.apply(added=added, removed=settled, unsendable=unsendable), None
        except OutboxError as exc:
            return 0, exc
