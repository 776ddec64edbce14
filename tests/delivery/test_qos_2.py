"""Messages at QoS 2, which nobody here asks for: a broker that sends them is hung up on, and fills no memory."""

from __future__ import annotations

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from agent.bridging.session import Session
from agent.delivery import MqttSettings
from agent.delivery.inbox import Inbox
from agent.delivery.mqtt import Connection

SETTINGS = MqttSettings(host="127.0.0.1", port=1883, gateway="attic", client_id="attic")


def of_the_agent(inbox: Inbox) -> Client:
    return Connection(SETTINGS, is_version_5=True, tell=lambda _: None, inbox=inbox)._client


def of_the_bridge(_inbox: Inbox) -> Client:
    return Session(SETTINGS, ["penstock/#"], expiry_s=60, tell=lambda _: None)._client


@pytest.mark.parametrize("client_of", [of_the_agent, of_the_bridge])
@pytest.mark.parametrize("flags", [0x4, 0x5, 0xC, 0xE])
def test_a_message_at_qos_2_ends_the_connection_and_is_not_kept(client_of, flags: int):
    inbox = Inbox()
    client = client_of(inbox)
    client._in_packet.update(command=0x30 | flags, packet=bytearray(b"\x00\x01a\x00\x01\x00x"), remaining_length=7)

    assert client._packet_handle() == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert not client._in_messages
    assert dict(inbox.refused)["malformed"] == (client_of is of_the_agent)
