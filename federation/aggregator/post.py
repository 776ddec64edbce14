"""The aggregator's broker: what gateways send comes in, what they should find stands there retained.

MQTT 5 over TLS with our own certificate. A message is acknowledged by who took it, after it is on disk: until then the
broker keeps it, and sends it again after a crash. The session outlives us by SESSION_S, so what is sent while no worker
runs waits there. What is to be retained is said again on every connection, whatever the broker may have forgotten.
paho's callbacks come from its own thread and only put things into queues. Trap: through a shared subscription a broker
sends no retained messages, so what is retained is subscribed to plainly, by every worker.
"""

from __future__ import annotations

import ipaddress
import queue
import ssl
import struct
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from paho.mqtt import MQTTException
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from contracts.errors import ConfigError
from contracts.files import open_regular
from contracts.terminal import complain
from federation.aggregator.office import Saying
from federation.aggregator.settings import BrokerSection

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
RETAINED: Final = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
NOT_RETAINED: Final = SubscribeOptions.RETAIN_DO_NOT_SEND
SESSION_S: Final = 7 * 86_400
MAX_PACKET_BYTES: Final = 1 << 18  # of what a gateway may send us; an update has 5 KB
RECEIVE_MAXIMUM: Final = 50  # messages not yet acknowledged; the broker waits with more
CONNECT_TIMEOUT_S: Final = 10.0
SLOWEST_RETRY_S: Final = 60
MAX_REFUSED: Final = 1000  # topics told apart that a broker does not let us use
PUBLISH_AND_QOS_2: Final = 0xF4  # of a packet's first octet
PUBLISH_AT_QOS_2: Final = 0x34


@dataclass(frozen=True)
class Incoming:
    """A message of somebody's. `number` is what it is acknowledged by on the connection it came on; 0 at QoS 0."""

    topic: str
    payload: bytes
    number: int
    connection: int


class _Client(Client):
    """paho's client, less its trust in lengths: it would set aside whatever a packet announces.

    And its thread would end without a word at a packet that does not hold together. At QoS 2, which we never ask for,
    it would keep what a broker sends until that says that it may be had.
    """

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > MAX_PACKET_BYTES:
            raise ConnectionError(f"a packet of {bufsize} bytes")
        return super()._sock_recv(bufsize)

    def _packet_handle(self) -> MQTTErrorCode:
        if self._in_packet["command"] & PUBLISH_AND_QOS_2 == PUBLISH_AT_QOS_2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        try:
            return super()._packet_handle()
        except (MQTTException, ValueError, TypeError, LookupError, struct.error, AssertionError):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL


class Post:
    """A session with the broker, reconnecting by itself.

    `filters` are subscribed to at QoS 1, each with whether what is retained there is wanted: an update that somebody
    had retained would come again on every connection.
    """

    def __init__(self, settings: BrokerSection, *, client_id: str, filters: Mapping[str, bool]) -> None:
        self.connects = 0
        self.left_out = 0
        self.refused: dict[str, int] = {}
        self.is_connected = False
        self._host, self._port, self._tls = place_of(settings)
        self._keep_alive_s = settings.keep_alive_s
        self._filters = dict(filters)
        self._inbox: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._said: dict[str, bytes] = {}
        self._topics: dict[int, str] = {}
        self._owed = 0  # acknowledgements, on this connection
        self._is_closing = False
        self._lock = threading.Condition()
        self._client = self._made(client_id)
        self._is_started = False

    def open(self) -> bool:
        """Reach the broker, once; from then on paho does it. Return whether that is so."""
        if self._is_started:
            return True
        try:
            self._client.connect(
                self._host, self._port, keepalive=self._keep_alive_s, clean_start=False, properties=_session()
            )
        except (OSError, ValueError) as exc:
            complain(f"broker {self._host}: {getattr(exc, 'strerror', None) or exc}; trying again")
            return False
        self._is_closing = False
        self._client.loop_start()
        self._is_started = True
        return True

    def close(self) -> None:
        """Take leave; the session stays at the broker."""
        with self._lock:
            self._is_closing = True
            self._lock.notify()
        if self._is_started:
            self._client.disconnect()
            self._client.loop_stop()
            self._is_started = False

    def next(self, timeout_s: float) -> Incoming | None:
        """Return the next message, None where none came in time or the wait was cut short."""
        try:
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def wake(self) -> None:
        """Cut a wait short; may be called from a signal handler."""
        self._inbox.put(None)

    def acknowledge(self, incoming: Incoming) -> None:
        """Say that a message is safe with us; nothing where its connection is gone, it comes again then."""
        if not incoming.number or incoming.connection != self.connects or not self.is_connected:
            return  # what came at QoS 0 has no number: a broker hangs up on who acknowledges that
        with self._lock:
            self._owed -= 1
            self._lock.notify()
        self._client.ack(incoming.number, 1)

    def keep_said(self, saying: Saying) -> None:
        """See to it that a topic holds what it should: say it where its name changed since it was said here."""
        if not self.is_connected or self._said.get(saying.topic) == saying.name:
            return
        sent = self._client.publish(
            saying.topic, saying.content(), qos=1, retain=saying.is_retained, properties=_octets()
        )
        with self._lock:
            self._said[saying.topic] = saying.name
            self._topics[sent.mid] = saying.topic

    def forget(self, *, but: Collection[str]) -> None:
        """Hold nothing of topics that are said no more: those of a round are others in the next."""
        with self._lock:
            for topic in self._said.keys() - but:
                del self._said[topic]

    def _made(self, client_id: str) -> Client:
        client = _Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(1, SLOWEST_RETRY_S)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            complain(f"broker {self._host}: {code}")
            return
        with self._lock:
            self._said.clear()
            self._topics.clear()
            self._owed = 0
        self.connects += 1
        self.is_connected = True
        client.subscribe(
            [
                (each, SubscribeOptions(qos=1, retainHandling=RETAINED if is_wanted else NOT_RETAINED))
                for each, is_wanted in self._filters.items()
            ]
        )

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if self.is_connected and code.is_failure:
            complain(f"broker {self._host}: {code}; trying again")
        self.is_connected = False

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.qos == 0 and self._inbox.qsize() >= RECEIVE_MAXIMUM:
            self.left_out += 1  # ours say everything at QoS 1; nothing else bounds what is said at 0
            return
        with self._lock:
            # What a session held comes all at once, whatever maximum we told: paho's thread waits, the broker with it.
            self._lock.wait_for(lambda: not message.qos or self._owed < RECEIVE_MAXIMUM or self._is_closing)
            self._owed += int(message.qos > 0)
        self._inbox.put(Incoming(message.topic, bytes(message.payload), message.mid, self.connects))

    def _on_publish(
        self, _client: Client, _data: Any, number: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        with self._lock:
            topic = self._topics.pop(number, "")
        if code.is_failure:
            self._count(f"{topic}: {code}")

    def _on_subscribe(
        self, _client: Client, _data: Any, _number: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        for topic, code in zip(self._filters, codes, strict=False):
            if code.is_failure:
                self._count(f"{topic}: {code}")

    def _count(self, what: str) -> None:
        """Count what the broker does not let us do, and say it once."""
        if what not in self.refused and len(self.refused) >= MAX_REFUSED:
            what = "further topics"  # those of a round are others in the next
        if what not in self.refused:
            complain(f"broker {self._host}: refused {what}")
        self.refused[what] = self.refused.get(what, 0) + 1


def _session() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_S
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties


def _octets() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/octet-stream"
    return properties


def place_of(settings: BrokerSection) -> tuple[str, int, ssl.SSLContext | None]:
    """Return host, port and TLS of the settings. Raises ConfigError."""
    parts = urlsplit(settings.url)
    try:
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    except ValueError:
        host, port = "", 0
    if not host:
        raise ConfigError(f"broker.url: {settings.url}, wanted mqtts://host[:port]")
    if parts.scheme == "mqtts":
        return host, port, _context(settings)
    if not _is_this_machine(host):
        raise ConfigError(f"broker.url: {host} is beyond this machine and mqtt:// is not encrypted, wanted mqtts://")
    return host, port, None


def _context(settings: BrokerSection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    key = "ca"
    try:
        open_regular(settings.ca).close()  # OpenSSL would wait for a pipe
        context.load_verify_locations(settings.ca)
        key = "cert"
        for file in (settings.cert, settings.key):
            open_regular(file).close()
        # An encrypted key would make OpenSSL ask on the terminal; with an empty password it is refused instead.
        context.load_cert_chain(settings.cert, settings.key, password="")
    except (OSError, ValueError) as exc:
        said = None if isinstance(exc, ssl.SSLError) or not isinstance(exc, OSError) else exc.strerror
        wanted = "a certificate in PEM" if key == "ca" else "a certificate and its unencrypted key in PEM"
        path = settings.ca if key == "ca" else f"{settings.cert}, {settings.key}"
        raise ConfigError(f"broker.{key}: {path}: {said or 'not what it must be'}, wanted {wanted}") from exc
    return context


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
