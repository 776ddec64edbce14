"""Who wants what the broker sends: each taker names its subscriptions, each message goes to the first one it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paho.mqtt.client import topic_matches_sub

from agent.delivery import Delivery, Incoming, Subscription


@dataclass(frozen=True)
class _Wish:
    subscriptions: tuple[Subscription, ...]
    take: Callable[[Incoming], None]


class Mail:
    """Hand out a delivery's messages, from the service's thread; who takes one must not wait."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._wishes: dict[str, _Wish] = {}

    def ask(self, name: str, subscriptions: Sequence[Subscription], take: Callable[[Incoming], None]) -> None:
        """Let a taker have what comes by these from now on, and by those it named before no more."""
        wish = _Wish(tuple(subscriptions), take)
        if self._wishes.get(name, _Wish((), take)).subscriptions != wish.subscriptions:
            self._wishes[name] = wish
            self._delivery.listen([each for wish in self._wishes.values() for each in wish.subscriptions])

    def hand_out(self) -> None:
        """Hand out what has come."""
        for message in self._delivery.incoming():
            for wish in self._wishes.values():
                if any(topic_matches_sub(each.topic_filter, message.topic) for each in wish.subscriptions):
                    wish.take(message)
                    break
