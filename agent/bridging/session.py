"""One connection to a broker that keeps our session while we are away, told as events.

The session outlives connections and processes: subscriptions stand in it, and what is published meanwhile waits in it.
A message is acknowledged by whoever wrote it to disk, never by paho; what was not acknowledged comes again. MQTT 5
alone: 3.1.1 has no word for how many unacknowledged messages we bear, nor for how long a session lasts. Traps:
mosquitto sends what a session holds without heeding that number, so beyond it paho's thread waits, and with it the
broker; callbacks otherwise only put an event into a queue, since paho holds locks of its own while it calls them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.delivery.broker import MqttSettings
from agent.delivery.wary import WaryClient
from contracts.eve import MAX_LINE_BYTES

MOST_UNACKNOWLEDGED: Final = 256  # messages that may wait for the disk
MAX_PACKET_BYTES: Final = 1 << 16  # beyond it a broker must not send us a message, and is hung up on if it does
MAX_KEPT_BYTES: Final = MAX_LINE_BYTES + 1  # of a message: enough to see that it is too long


@dataclass(frozen=True)
class Subscribed:
    """The broker took us and our filters. `is_resumed`: it had kept our session."""

    session: Session
    is_resumed: bool


@dataclass(frozen=True)
class Heard:
    """One message, at most MAX_KEPT_BYTES of it. `topic` is None where its octets are no text."""

    session: Session
    topic: str | None
    payload: bytes
    number: int
    qos: int
    is_retained: bool


@dataclass(frozen=True)
class Ended:
    """The connection is over; `code` is the broker's last word, 0 where it had none."""

    session: Session
    code: int
    said: str


Event: TypeAlias = Subscribed | Heard | Ended


class _Client(WaryClient):
    def most_bytes(self) -> int:
        return MAX_PACKET_BYTES


class Session:
    """One client of paho. `tell` is called from its thread, must not wait, and gets exactly one Ended, at the end."""

    def __init__(
        self, settings: MqttSettings, filters: Sequence[str], *, expiry_s: int, tell: Callable[[Event], None]
    ) -> None:
        self._settings = settings
        self._filters = filters
        self._expiry_s = expiry_s
        self._tell = tell
        self._last_word = (0, "")
        self._is_resumed = False
        self._waiting = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = settings.connect_timeout_s
        if settings.user is not None:
            self._client.username_pw_set(settings.user, settings.password)
        if settings.tls is not None:
            self._client.tls_set_context(settings.tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect

    def open(self) -> None:
        """Reach the broker and ask to be let in; the answer comes as an event. Raises OSError, of it ssl.SSLError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._expiry_s
        properties.ReceiveMaximum = MOST_UNACKNOWLEDGED
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        settings = self._settings
        self._client.connect(
            settings.host, settings.port, keepalive=settings.keep_alive_s, clean_start=False, properties=properties
        )
        link = self._client.socket()
        if isinstance(link, socket.socket):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.loop_start()

    def settle(self, heard: Heard) -> None:
        """Acknowledge a message of this connection; nothing happens where it is over."""
        with self._changed:
            self._waiting -= 1
            self._changed.notify()
        if heard.qos:
            self._client.ack(heard.number, heard.qos)

    def close(self) -> None:
        """Take leave; the broker keeps the session, and what is not acknowledged in it."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._client.disconnect()

    def _on_connect(
        self, client: Client, _data: Any, flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._last_word = (code.value, str(code))
            return
        self._is_resumed = flags.session_present
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        sent, _ = client.subscribe([(each, options) for each in self._filters])
        if sent != MQTTErrorCode.MQTT_ERR_SUCCESS:
            client.disconnect()

    def _on_subscribe(
        self, client: Client, _data: Any, _number: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = [(each, code) for each, code in zip(self._filters, codes, strict=False) if code.is_failure]
        if refused:
            topic_filter, code = refused[0]
            self._last_word = (code.value, f"{topic_filter}: {code}")
            client.disconnect()
        else:
            self._tell(Subscribed(self, self._is_resumed))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting < MOST_UNACKNOWLEDGED or self._is_closing)
            if self._is_closing:
                return
            self._waiting += 1
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        payload = bytes(message.payload[:MAX_KEPT_BYTES])
        self._tell(Heard(self, topic, payload, message.mid, message.qos, message.retain))

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._last_word = (code.value, str(code))
        self._tell(Ended(self, *self._last_word))
