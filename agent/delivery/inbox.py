"""What a broker sends us: subscriptions that outlive connections, and a bounded queue emptied now and then.

paho's thread puts messages in, the service's thread takes them out about once a second; neither waits for the other.
Each subscription has room of its own, so that a flood on one topic leaves the others theirs; what does not fit is
counted by reason and forgotten, acknowledged or not. Trap: MQTT 3.1.1 cannot tell a broker how large a packet may be.
One that is too large ends the connection; then we subscribe to nothing for some time, so that alerts still leave.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from paho.mqtt.client import topic_matches_sub

MOST_WAITING: Final = 64  # messages of one subscription
LEAST_ROOM_BYTES: Final = 1 << 18  # for those of one subscription together; else twice its largest message
OVERHEAD_BYTES: Final = 1 << 16  # of a packet beside its payload: the topic and what MQTT 5 adds
CHOKED_S: Final = 600.0

Reason: TypeAlias = Literal["topic", "size", "malformed", "full", "packet"]
REASONS: Final[tuple[Reason, ...]] = ("topic", "size", "malformed", "full", "packet")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subscription:
    """What we want to hear; `max_bytes` bounds a message's payload and user properties together."""

    topic_filter: str
    max_bytes: int


@dataclass(frozen=True)
class Incoming:
    """One message. `properties` are the user properties, and of MQTT 5's own ContentType and ResponseTopic."""

    topic: str
    payload: bytes
    properties: Mapping[str, str]
    is_retained: bool

    @property
    def size_bytes(self) -> int:
        return len(self.payload) + sum(len(name) + len(value) for name, value in self.properties.items())


class Link(Protocol):
    """A connection on which one can subscribe. No call waits."""

    def subscribe(self, topic_filters: Sequence[str]) -> None: ...

    def unsubscribe(self, topic_filters: Sequence[str]) -> None: ...

    def mention(self, topic: str, payload: bytes) -> None: ...


@dataclass
class _Room:
    """What waits of one subscription."""

    subscription: Subscription
    messages: int = 0
    size_bytes: int = 0

    def has_room_for(self, size_bytes: int) -> bool:
        most_bytes = max(LEAST_ROOM_BYTES, 2 * self.subscription.max_bytes)
        return self.messages < MOST_WAITING and self.size_bytes + size_bytes <= most_bytes


@dataclass
class Inbox:
    """Subscriptions, and what came by them. All but `drain` and `use` is called by the thread of a connection."""

    subscriptions: Sequence[Subscription] = ()
    clock_s: Callable[[], float] = time.monotonic
    received: int = 0
    _refused: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    _waiting: deque[tuple[_Room, Incoming]] = field(default_factory=deque)
    _rooms: dict[str, _Room] = field(default_factory=dict)
    _link: Link | None = None
    _choked_until_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rooms = {each.topic_filter: _Room(each) for each in self.subscriptions}

    @property
    def refused(self) -> tuple[tuple[str, int], ...]:
        """Return how many messages were not taken, by reason."""
        return tuple(self._refused.items())

    @property
    def packet_bytes(self) -> int:
        """Return how large a packet of the broker may be."""
        return OVERHEAD_BYTES + max((room.subscription.max_bytes for room in self._rooms.values()), default=0)

    def use(self, subscriptions: Sequence[Subscription]) -> bool:
        """Listen to these from now on; return whether larger packets than before may come, which wants a connection."""
        before_bytes = self.packet_bytes
        with self._lock:
            old, link = self._rooms, self._link
            rooms = {each.topic_filter: old.get(each.topic_filter, _Room(each)) for each in subscriptions}
            for each in subscriptions:
                rooms[each.topic_filter].subscription = each
            self.subscriptions, self._rooms = tuple(subscriptions), rooms
        is_larger = self.packet_bytes > before_bytes
        if link is not None and not is_larger:
            if gone := [name for name in old if name not in rooms]:
                link.unsubscribe(gone)
            if new := [name for name in rooms if name not in old]:
                self._subscribe(link, new)
        return is_larger

    def drain(self) -> list[Incoming]:
        """Return what has come since the last call, oldest first."""
        with self._lock:
            messages = [message for _, message in self._waiting]
            self._waiting.clear()
            for room in self._rooms.values():
                room.messages = room.size_bytes = 0
            link, was_choked = self._link, self._choked_until_s is not None
        if was_choked and link is not None and not self._is_choked():
            self._choked_until_s = None
            self._subscribe(link, list(self._rooms))
        return messages

    def answer(self, topic: str, payload: bytes) -> None:
        """Say something at most once, where we are connected; nobody learns whether it arrived."""
        with self._lock:
            link = self._link
        if link is not None:
            link.mention(topic, payload)

    def connected(self, link: Link) -> None:
        """Subscribe on a new connection."""
        with self._lock:
            self._link = link
            names = list(self._rooms)
        self._subscribe(link, names)

    def take(self, message: Incoming) -> None:
        """Keep a message until somebody asks for it, if it is one of ours and there is room."""
        size_bytes = message.size_bytes
        with self._lock:
            room = next((each for name, each in self._rooms.items() if topic_matches_sub(name, message.topic)), None)
            if room is None:
                self._refused["topic"] += 1
            elif size_bytes > room.subscription.max_bytes:
                self._refused["size"] += 1
            elif not room.has_room_for(size_bytes):
                self._refused["full"] += 1
            else:
                self.received += 1
                room.messages += 1
                room.size_bytes += size_bytes
                self._waiting.append((room, message))

    def refuse(self, reason: Reason) -> None:
        """Count a message that could not even be read."""
        with self._lock:
            self._refused[reason] += 1

    def choke(self) -> None:
        """Count a packet that was too large to be read, and want nothing from the broker for some time."""
        self.refuse("packet")
        self._choked_until_s = self.clock_s() + CHOKED_S
        if self._rooms:
            _log.warning("mqtt: the broker sends packets too large; nothing is subscribed for %.0f s", CHOKED_S)

    def deny(self, said: str) -> None:
        """Say that the broker did not grant a subscription."""
        _log.warning("mqtt: a subscription is refused: %s", said)

    def _is_choked(self) -> bool:
        return self._choked_until_s is not None and self.clock_s() < self._choked_until_s

    def _subscribe(self, link: Link, topic_filters: Sequence[str]) -> None:
        if topic_filters and not self._is_choked():
            link.subscribe(topic_filters)
