"""One connection to a broker, from CONNECT to its end, told as events.

paho does the protocol, in a thread of its own; what it keeps in memory is worth nothing to us, so every connection is a
new client, and whatever was not acknowledged is sent again from the outbox. Callbacks only put an event into a queue:
paho holds locks of its own while it calls them, and would wait for us for ever if we held ours.
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

from agent.delivery.broker import MqttSettings, alert_topic
from agent.delivery.clock import is_clock_synchronised
from agent.delivery.inbox import Inbox, Incoming
from agent.delivery.outbox import Letter
from agent.delivery.wary import WaryClient
from contracts.formats import FORMATS

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
UNSUPPORTED_VERSION: Final = 0x84
UNSYNCHRONISED: Final = ("clock", "unsynchronised")  # user property: we did not know the time of day
# What waiting does not mend: identifier, password, rights, ban, authentication method, QoS or retain not offered.
FINAL_CODES: Final = frozenset({0x85, 0x86, 0x87, 0x8A, 0x8C, 0x9A, 0x9B})


@dataclass(frozen=True)
class Accepted:
    """CONNACK: the broker took us. `receive_maximum` bounds what may be unacknowledged."""

    connection: Connection
    receive_maximum: int


@dataclass(frozen=True)
class Acknowledged:
    """PUBACK of a message; code 0x80 and above say that the broker did not take it."""

    connection: Connection
    number: int
    code: int
    said: str


@dataclass(frozen=True)
class Ended:
    """The connection is over; `code` is the broker's last word, 0 where it had none."""

    connection: Connection
    code: int
    said: str


Event: TypeAlias = Accepted | Acknowledged | Ended


class _Client(WaryClient):
    """Bounded as the inbox says, which counts what is turned away."""

    inbox: Inbox

    def most_bytes(self) -> int:
        return self.inbox.packet_bytes

    def too_large(self) -> None:
        self.inbox.choke()

    def malformed(self) -> None:
        self.inbox.refuse("malformed")


class Connection:
    """One client of paho. `tell` is called from its thread, must not wait, and gets exactly one Ended, at the end."""

    def __init__(
        self, settings: MqttSettings, *, is_version_5: bool, tell: Callable[[Event], None], inbox: Inbox | None = None
    ) -> None:
        self.is_version_5 = is_version_5
        self._settings = settings
        self._tell = tell
        self._last_word = (0, "")
        self._inbox = inbox or Inbox()
        self._mentioned: set[int] = set()  # numbers of what was sent at QoS 0, which paho reports like a PUBACK
        self._mentioning = threading.Lock()
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if is_version_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.inbox = self._inbox
        self._client.connect_timeout = settings.connect_timeout_s
        self._client.max_inflight_messages_set(0)  # the sender's window is the only one
        if settings.user is not None:
            self._client.username_pw_set(settings.user, settings.password)
        if settings.tls is not None:
            self._client.tls_set_context(settings.tls)
        self._client.will_set(
            settings.availability_topic,
            OFFLINE,
            qos=1,
            retain=True,
            properties=self._text_properties(PacketTypes.WILLMESSAGE),
        )
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect

    def open(self) -> None:
        """Reach the broker and ask to be let in; the answer comes as an event. Raises OSError, of it ssl.SSLError."""
        properties = self._properties(PacketTypes.CONNECT)
        if properties is not None:
            properties.MaximumPacketSize = self._inbox.packet_bytes
        place = self._settings.host, self._settings.port
        self._client.connect(*place, keepalive=self._settings.keep_alive_s, properties=properties)
        link = self._client.socket()
        if isinstance(link, socket.socket):
            # A full window of small messages must not wait for the broker's delayed acknowledgement of TCP.
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.loop_start()

    def send(self, letter: Letter) -> int | None:
        """Send an alert; return the number its PUBACK will carry, or None where the connection just went.

        Raises ValueError for one that MQTT cannot carry: a wildcard in its topic, a payload beyond 256 MiB, a format
        that nobody knows.
        """
        if letter.topic:
            return self._send_opaque(letter)
        form = FORMATS.get(letter.format)
        if form is None:
            raise ValueError(f"format {letter.format!r}")
        properties = self._properties(PacketTypes.PUBLISH)
        if properties is not None:
            properties.PayloadFormatIndicator = 1
            properties.ContentType = form.content_type
            properties.MessageExpiryInterval = self._settings.expiry_s
            properties.UserProperty = [
                ("alert_id", letter.alert_id),
                ("severity", str(letter.severity)),
                ("schema", form.schema),
                *([] if letter.is_timed else [UNSYNCHRONISED]),
            ]
        topic = alert_topic(letter.gateway, letter.attack_class)
        return self._publish(topic, letter.payload, is_retained=False, properties=properties)

    def _send_opaque(self, letter: Letter) -> int | None:
        properties = self._properties(PacketTypes.PUBLISH)
        if properties is not None:
            properties.ContentType = letter.format
            properties.MessageExpiryInterval = self._settings.expiry_s
        return self._publish(letter.topic, letter.payload, is_retained=False, properties=properties)

    def say(self, availability: bytes) -> int | None:
        """Publish our availability, retained; return as `send` does."""
        properties = self._text_properties(PacketTypes.PUBLISH)
        return self._publish(self._settings.availability_topic, availability, is_retained=True, properties=properties)

    def announce(self, topic: str, text: bytes) -> int | None:
        """Publish JSON under a topic, retained; return as `send` does."""
        properties = self._text_properties(PacketTypes.PUBLISH)
        if properties is not None:
            properties.ContentType = "application/json"
        return self._publish(topic, text, is_retained=True, properties=properties)

    def tell_status(self, status: bytes) -> int | None:
        """Publish how we are, retained; return as `send` does. Raises ValueError as `send` does."""
        properties = self._text_properties(PacketTypes.PUBLISH)
        if properties is not None and status.startswith(b"{"):
            properties.ContentType = "application/json"
        return self._publish(self._settings.status_topic, status, is_retained=True, properties=properties)

    def subscribe(self, topic_filters: Sequence[str]) -> None:
        """Ask for what others publish, at QoS 1; what comes goes to the inbox."""
        if self.is_version_5:
            options = SubscribeOptions(qos=1, noLocal=True)
            self._client.subscribe([(each, options) for each in topic_filters])
        else:
            self._client.subscribe([(each, 1) for each in topic_filters])

    def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Want no more of it."""
        self._client.unsubscribe(list(topic_filters))

    def mention(self, topic: str, payload: bytes) -> None:
        """Publish at most once, at QoS 0: nobody waits for it, and a broker that refuses it refuses nothing else."""
        with self._mentioning:
            self._mentioned.add(self._client.publish(topic, payload, qos=0).mid)

    def close(self) -> None:
        """Take leave, without the last will. What is not acknowledged by then is not delivered."""
        self._client.disconnect()

    def _publish(self, topic: str, payload: bytes, *, is_retained: bool, properties: Properties | None) -> int | None:
        sent = self._client.publish(topic, payload, qos=1, retain=is_retained, properties=properties)
        return sent.mid if sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def _properties(self, packet: int) -> Properties | None:
        return Properties(packet) if self.is_version_5 else None  # type: ignore[no-untyped-call]

    def _text_properties(self, packet: int) -> Properties | None:
        properties = self._properties(packet)
        if properties is not None:
            properties.PayloadFormatIndicator = 1
            properties.ContentType = "text/plain"
            if not is_clock_synchronised():
                properties.UserProperty = [UNSYNCHRONISED]
        return properties

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._last_word = (code.value, str(code))
        else:
            self._inbox.connected(self)
            self._tell(Accepted(self, getattr(properties, "ReceiveMaximum", 65_535)))

    def _on_publish(
        self, _client: Client, _data: Any, number: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        with self._mentioning:
            is_mentioned = number in self._mentioned
            self._mentioned.discard(number)
        if not is_mentioned:
            self._tell(Acknowledged(self, number, code.value, str(code)))

    def _on_subscribe(
        self, _client: Client, _data: Any, _number: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        for code in codes:
            if code.is_failure:
                self._inbox.deny(str(code))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._inbox.refuse("malformed")
            return
        self._inbox.take(Incoming(topic, bytes(message.payload), _properties_of(message), bool(message.retain)))

    def _on_disconnect(
        self, _client: Client, _data: Any, flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._last_word = (code.value, str(code))
        self._tell(Ended(self, *self._last_word))


def _properties_of(message: MQTTMessage) -> dict[str, str]:
    """Return what a message says of itself; MQTT 5's own names cannot be forged by a user property."""
    given = message.properties
    found = {str(name): str(value) for name, value in getattr(given, "UserProperty", [])}
    for name in ("ContentType", "ResponseTopic"):
        found.pop(name, None)
        if hasattr(given, name):
            found[name] = str(getattr(given, name))
    return found
