"""paho's client, less its trust in a broker.

It would set aside whatever a packet announces, up to 256 MiB; its thread would end without a word at a packet that does
not hold together; and at QoS 2, which we never ask for, it would keep what comes until the broker says more.
"""

from __future__ import annotations

import struct
from typing import Final

from paho.mqtt import MQTTException
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

PUBLISH_AND_QOS_2: Final = 0xF4  # of a packet's first octet
PUBLISH_AT_QOS_2: Final = 0x34


class WaryClient(Client):
    """Hangs up on a broker that sends what it must not."""

    def most_bytes(self) -> int:
        """Return how many octets a packet may have."""
        raise NotImplementedError

    def too_large(self) -> None:
        """Take note of a packet above that."""

    def malformed(self) -> None:
        """Take note of a packet that does not hold together, or is of QoS 2."""

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > self.most_bytes():
            self.too_large()
            raise ConnectionError(f"a packet of {bufsize} bytes")  # paho ends the connection
        return super()._sock_recv(bufsize)

    def _packet_handle(self) -> MQTTErrorCode:
        if self._in_packet["command"] & PUBLISH_AND_QOS_2 != PUBLISH_AT_QOS_2:
            try:
                return super()._packet_handle()
            except (MQTTException, ValueError, TypeError, LookupError, struct.error, AssertionError):
                pass
        self.malformed()
        return MQTTErrorCode.MQTT_ERR_PROTOCOL
