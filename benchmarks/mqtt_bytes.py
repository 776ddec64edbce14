"""What MQTT 5 puts around a message of a round, in octets, between a gateway and its broker.

    PUBLISH at QoS 1: 1 fixed header | remaining length | 2 + topic | 2 packet id | properties | payload
    PUBACK: 4, where there is nothing to add to it

Properties are those that agent and aggregator set: a content type, and up an expiry besides. Connecting, subscribing
and keep-alives belong to the session that carries alerts, with or without federation, and are not in it.
"""

from __future__ import annotations

from typing import Final

PUBACK_BYTES: Final = 4
CONTENT_TYPE: Final = "application/octet-stream"
_CONTENT_TYPE_BYTES: Final = 1 + 2 + len(CONTENT_TYPE)
_EXPIRY_BYTES: Final = 1 + 4
PROPERTIES_BYTES: Final = {"up": _CONTENT_TYPE_BYTES + _EXPIRY_BYTES, "down": _CONTENT_TYPE_BYTES}


def published(topic: str, payload_bytes: int, *, way: str) -> int:
    """Return how long the PUBLISH packet of a message is."""
    properties = PROPERTIES_BYTES[way]
    rest = 2 + len(topic.encode()) + 2 + _varying(properties) + properties + payload_bytes
    return 1 + _varying(rest) + rest


def around(topic: str, payload_bytes: int, *, way: str) -> int:
    """Return what is sent for a message beside its payload, both ways."""
    return published(topic, payload_bytes, way=way) - payload_bytes + PUBACK_BYTES


def _varying(length: int) -> int:
    """Return how many octets a length takes, seven bits in each.

    >>> [_varying(length) for length in (0, 127, 128, 16_383, 16_384)]
    [1, 1, 2, 2, 3]
    """
    return max(1, -(-length.bit_length() // 7))
