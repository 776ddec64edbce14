"""What the broker lets an aggregator do, asked without harm: `ask` connects as a worker does, and tries each right.

It comes under a client id of its own, so no worker loses its session. What it publishes is empty and not retained, to
a gateway that there is not or to the fleet, where gateways pass over empty messages. Trap: a broker may answer a
subscription with yes and then send nothing (mosquitto does), so reading shows only where something comes.
"""

from __future__ import annotations

import queue
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from federation.aggregator.office import STATUS, TOPICS, UPDATES, UPS
from federation.aggregator.post import NOT_RETAINED, place_of
from federation.aggregator.settings import BrokerSection

AVAILABILITY: Final = f"{TOPICS}/+/availability"  # retained by every gateway, and none of an aggregator's business
GONE: Final = -1
_Event = tuple[str, Any, Any]


@dataclass
class Answer:
    """What the broker said. `refused`: why it let nobody in, empty where it did."""

    place: str
    refused: str = ""
    certificate: bytes | None = None  # the broker's, DER
    lacking: list[str] = field(default_factory=list)  # what an aggregator needs and may not
    beyond: list[str] = field(default_factory=list)  # what it may and does not need


def ask(settings: BrokerSection, *, fleet: str, timeout_s: float) -> Answer:
    """Connect, try, leave. Raises ConfigError, OSError (TLS among them) and TimeoutError where nobody answers."""
    host, port, tls = place_of(settings)
    answer = Answer(f"{host}:{port}")
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    nobody = f"doctor-{secrets.token_hex(4)}"
    client = _client(f"penstock-aggregator-{fleet}-{nobody}", tls=tls, events=events, timeout_s=timeout_s)
    client.connect(host, port, keepalive=settings.keep_alive_s, clean_start=True)
    link = client.socket()
    answer.certificate = link.getpeercert(binary_form=True) if isinstance(link, ssl.SSLSocket) else None
    client.loop_start()
    try:
        _, failed, said = _next(events, time.monotonic() + timeout_s)
        if failed:
            answer.refused = said
        else:
            _Trial(client, events, timeout_s=timeout_s).rights(answer, fleet=fleet, nobody=nobody)
    finally:
        client.disconnect()
        client.loop_stop()
    return answer


class _Trial:
    """Publishes and subscriptions, each with the broker's yes or no."""

    def __init__(self, client: Client, events: queue.SimpleQueue[_Event], *, timeout_s: float) -> None:
        self._client, self._events, self._timeout_s = client, events, timeout_s
        self._heard: set[str] = set()

    def rights(self, answer: Answer, *, fleet: str, nobody: str) -> None:
        gateway, ours = f"{TOPICS}/{nobody}", f"{TOPICS}/fleet/{fleet}"
        own = [f"{gateway}/manifest", f"{gateway}/federation/down/0", f"{ours}/round", f"{ours}/anchors"]
        reads = (UPDATES, UPS, STATUS)
        answer.lacking += [f"read {each}" for each in reads if not self._may(partial(self._subscribe, each))]
        self._may(partial(self._subscribe, AVAILABILITY, retained=True))
        for each in (*own, f"{ours}/bundle/{nobody}", f"{ours}/whole/{nobody}"):
            if not self._may(partial(self._publish, each)):
                answer.lacking.append(f"write {each}")
        # An operator's verdict, and a topic that no rule names. A broker that hangs up instead of answering says no.
        for each in (f"{gateway}/feedback", f"{gateway}/{nobody}"):
            if self._may(partial(self._publish, each)):
                answer.beyond.append(f"write {each}")
        if self._heard:
            answer.beyond.append(f"read {AVAILABILITY}")

    def _may(self, request: Callable[[], int | None]) -> bool:
        """Return whether the broker says yes to one request; messages that come meanwhile are noted."""
        number, deadline_s = request(), time.monotonic() + self._timeout_s
        while True:
            kind, first, second = _next(self._events, deadline_s)
            if kind == "heard":
                self._heard.add(first)
            elif kind == "gone":
                self._events.put((kind, first, second))  # for whoever asks next
                return False
            elif kind == "answered" and first == number:
                return bool(second)

    def _subscribe(self, topic: str, *, retained: bool = False) -> int | None:
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained else NOT_RETAINED
        return self._client.subscribe([(topic, SubscribeOptions(qos=1, retainHandling=handling))])[1]

    def _publish(self, topic: str) -> int:
        return self._client.publish(topic, b"", qos=1).mid


def _client(
    client_id: str, *, tls: ssl.SSLContext | None, events: queue.SimpleQueue[_Event], timeout_s: float
) -> Client:
    """Return a client whose every callback is an event."""
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
    )  # fmt: skip
    client.connect_timeout = timeout_s
    if tls is not None:
        client.tls_set_context(tls)
    client.on_connect = lambda _c, _d, _f, code, _p: events.put(("connected", code.is_failure, str(code)))
    client.on_disconnect = lambda _c, _d, _f, code, _p: events.put(("gone", GONE, str(code)))
    client.on_publish = lambda _c, _d, number, code, _p: events.put(("answered", number, not code.is_failure))
    client.on_subscribe = lambda _c, _d, number, codes, _p: events.put(
        ("answered", number, not any(code.is_failure for code in codes))
    )
    client.on_message = lambda _c, _d, message: (
        events.put(("heard", message.topic, None)) if message.topic.endswith("/availability") else None
    )
    return client


def _next(events: queue.SimpleQueue[_Event], deadline_s: float) -> _Event:
    try:
        return events.get(timeout=max(0.0, deadline_s - time.monotonic()))
    except queue.Empty:
        raise TimeoutError from None
