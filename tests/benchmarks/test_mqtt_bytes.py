"""What MQTT puts around a message, held against what paho puts on a wire."""

from __future__ import annotations

import socket
import threading

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.mqtt_bytes import CONTENT_TYPE, around, published

CONNACK = bytes([0x20, 3, 0, 0, 0])


def on_the_wire(topic: str, payload: bytes, *, way: str) -> int:
    """Return how many octets paho sends for a message, counted by a broker that says no more than yes."""
    counted: list[int] = []

    is_connected = threading.Event()

    def broker(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)  # CONNECT, alone: nothing is published before its answer was read
            connection.sendall(CONNACK)
            octets = 0
            while octets < published(topic, len(payload), way=way) and (chunk := connection.recv(1 << 16)):
                octets += len(chunk)
            counted.append(octets)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=broker, args=(listening,))
        thread.start()
        client = Client(CallbackAPIVersion.VERSION2, client_id="x", protocol=MQTTProtocolVersion.MQTTv5)
        client.on_connect = lambda *_: is_connected.set()
        client.connect("127.0.0.1", listening.getsockname()[1])
        client.loop_start()
        assert is_connected.wait(120)
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        if way == "up":
            properties.MessageExpiryInterval = 604_800
        client.publish(topic, payload, qos=1, properties=properties)
        thread.join(120)
        client.loop_stop()
    return counted[0]


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("payload_bytes", [1, 60, 61, 1000, 20_000])
def test_a_packet_is_as_long_as_the_one_that_is_sent(way: str, payload_bytes: int):
    topic = "penstock/v1/gateway-00/federation/up/7"

    assert on_the_wire(topic, bytes(payload_bytes), way=way) == published(topic, payload_bytes, way=way)


def test_around_a_message_is_all_but_its_payload_and_the_acknowledgement():
    assert around("abc", 10, way="down") == published("abc", 10, way="down") - 10 + 4
