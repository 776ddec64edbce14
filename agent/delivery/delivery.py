"""The last hop as one object: an alert goes to eve.json and, where there is a broker, through the outbox to MQTT.

`publish` returns once the line is written and the alert is queued for the disk; one thread commits what has gathered
(an fsync takes some milliseconds, so a burst shares it), another sends what is committed. An alert counts as delivered
when its PUBACK is on disk too, that is, when its row is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.delivery.broker import MqttSettings
from agent.delivery.eve import EveFile
from agent.delivery.outbox import Bounds, Letter, Outbox
from agent.delivery.sender import Sender
from contracts.alert import Alert
from contracts.errors import BrokerRefused, OutboxError
from contracts.eve import render_eve

RETRY_S: Final = 1.0  # between attempts to write to a disk that would not take it


class Delivery:
    """Takes alerts from any thread; a context manager that opens the outbox and leaves nothing running.

    Without `mqtt` there is no outbox. `outbox` is its file; None makes a temporary one, deleted at the end if nothing
    is left in it. Entering raises OutboxError where it cannot be opened.
    """

    def __init__(
        self,
        *,
        eve: EveFile | None = None,
        mqtt: MqttSettings | None = None,
        outbox: Path | None = None,
        bounds: Bounds | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.alerts = 0
        self.delivered = 0
        self._eve = eve
        self._mqtt = mqtt
        self._outbox_file = outbox
        self._bounds = bounds or Bounds()
        self._clock_s = clock_s
        self._outbox: Outbox | None = None
        self._sender: Sender | None = None
        self._committer = threading.Thread(target=self._commit_forever, name="penstock-outbox", daemon=True)
        self._changed = threading.Condition()
        # All guarded by _changed:
        self._new: list[Letter] = []
        self._committing = 0
        self._on_disk = 0
        self._acknowledged: list[int] = []
        self._unsendable: list[int] = []
        self._trouble: OutboxError | None = None
        self._dropped_unwritten = 0
        self._is_closing = False

    def __enter__(self) -> Delivery:
        if self._mqtt is not None:
            if self._outbox_file is None:
                self._outbox = Outbox.temporary(bounds=self._bounds)
            else:
                self._outbox = Outbox(self._outbox_file, bounds=self._bounds)
            self._on_disk = len(self._outbox)
            self._sender = Sender(
                self._mqtt,
                self,
                delivered=self._take_acknowledgement,
                unsendable=self._take_unsendable,
                changed=self._notify,
                clock_s=self._clock_s,
            )
            self._committer.start()
            self._sender.start()
        return self

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
        other way out was tried.
        """
        line = render_eve(alert)
        with self._changed:
            self.alerts += 1
            if self._sender is not None:
                self._enqueue(Letter(alert.severity, alert.host, alert.attack_class, alert.alert_id, line.encode()))
            if self._eve is not None:
                self._eve.write(line)
            self._raise_trouble()

    def check(self) -> None:
        """Raise BrokerRefused or OutboxError if alerts cannot be delivered by waiting."""
        with self._changed:
            self._raise_trouble()

    def drain(self, wait_s: float) -> int:
        """Wait until no alert is left, at most `wait_s`; return how many are. Raises as `check` does."""
        deadline_s = self._clock_s() + wait_s
        with self._changed:
            while True:
                self._raise_trouble()
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
            self._committer.join()
        if self._outbox is not None:
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

    def _take_acknowledgement(self, number: int) -> None:
        with self._changed:
            self._acknowledged.append(number)
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
                while not (self._new or self._acknowledged or self._unsendable or self._is_closing):
                    self._changed.wait()
                if self._trouble is not None and not self._is_closing:
                    self._changed.wait(RETRY_S)
                added, self._new = self._new, []
                settled, unsendable = tuple(self._acknowledged), tuple(self._unsendable)
                self._committing = len(added)
                is_last = self._is_closing
            if added or settled or unsendable:
                self._commit(added, settled, unsendable)
            if is_last:
                return

    def _commit(self, added: list[Letter], settled: tuple[int, ...], unsendable: tuple[int, ...]) -> None:
        if self._outbox is None or self._sender is None:
            return
        trouble, gone = None, 0
        try:
            gone = self._outbox.apply(added=added, removed=settled, unsendable=unsendable)
        except OutboxError as exc:
            trouble = exc
        with self._changed:
            self._trouble = trouble
            self._committing = 0
            self._on_disk = len(self._outbox)
            if trouble is None:
                self.delivered += gone
                del self._acknowledged[: len(settled)]
                del self._unsendable[: len(unsendable)]
            else:
                self._new[:0] = added
            self._changed.notify_all()
        if added and trouble is None:
            self._sender.wake()
