"""The way out of a replay: what goes wrong there is said once and remembered, and the replay goes on.

An alert that no broker takes is safe in the outbox, so reading on loses nothing; only eve.json that cannot be written
ends a replay. An alert that the outbox could not hold is lost, and that is an error too. `penstock run` drains its last
alerts by it, and tells what stayed.
"""

from __future__ import annotations

import time

from agent.delivery import Delivery
from agent.stopping import StopRequest
from contracts.alert import Alert
from contracts.errors import BrokerRefused, BrokerUnavailable, DeliveryError, PenstockError
from contracts.terminal import complain

SLICE_S = 0.2  # how long Ctrl-C may have to wait for a broker


class Outgoing:
    """A delivery as a replay uses it. `errors` in the order they happened."""

    def __init__(self, delivery: Delivery, *, stop: StopRequest) -> None:
        self.errors: list[PenstockError] = []
        self._delivery = delivery
        self._stop = stop

    def publish(self, alert: Alert) -> None:
        """Hand over an alert. Raises OutputError where eve.json cannot be written."""
        try:
            self._delivery.publish(alert)
        except DeliveryError as exc:
            self.remember(exc)

    def drain(self, wait_s: float) -> None:
        """Wait until the broker has every alert, says that it will not take them, or a stop is asked for."""
        deadline_s = time.monotonic() + (0.0 if self._stop else wait_s)
        try:
            while self._delivery.drain(0.0) and not self._stop and (left_s := deadline_s - time.monotonic()) > 0:
                self._delivery.drain(min(left_s, SLICE_S))
        except DeliveryError as exc:
            self.remember(exc)

    def settle(self) -> None:
        """Say what stayed in the outbox and what it lost, after the delivery was closed.

        Where a refusal was said, it told already what stayed.
        """
        left = self._delivery.left
        if left and not any(isinstance(error, DeliveryError) for error in self.errors):
            reason = self._delivery.reason or "no broker answered yet"
            kept = f"{left} alerts undelivered, kept in {self._delivery.outbox_path}"
            self.remember(BrokerUnavailable(f"{kept}: {reason}"))
        if dropped := self._delivery.dropped:
            self.remember(DeliveryError(f"{dropped} alerts dropped undelivered: more than the outbox may hold"))

    def remember(self, error: PenstockError) -> None:
        """Say and keep an error, once: a broker that refuses does so for every alert."""
        if isinstance(error, BrokerRefused) and self._delivery.left:
            error = BrokerRefused(f"{error}; alerts are kept in {self._delivery.outbox_path}")
        if str(error) not in map(str, self.errors):
            complain(error)
            self.errors.append(error)
