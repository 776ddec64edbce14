"""The broker is killed again and again while alerts go out."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.delivery import Delivery, MqttSettings
from tests.alerts import make_alert
from tests.broker import Door
from tests.faults.figures import Figures, times

pytestmark = [pytest.mark.needs_broker, pytest.mark.slow]

PER_S = 200
PATIENCE_S = 60.0


class Listener:
    """A subscriber for all the lives of a broker. `lost` is set once everything a dead broker had sent was read.

    At QoS 0, so that it only reads: a client that has acknowledgements to write gives up at the first that cannot be
    written, and leaves unread what had come before. A broker hands a message on before it acknowledges it.
    """

    def __init__(self, port: int) -> None:
        self.payloads: dict[str, bytes] = {}
        self.messages = self.changed = self.online = 0
        self.heard_online, self.lost = threading.Event(), threading.Event()
        self._port = port

    def connect(self) -> None:
        """Subscribe to a broker that has just begun; everything counts from when this returns."""
        ready = threading.Event()
        self.heard_online.clear()
        self.lost.clear()
        self._client = Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        self._client.on_connect = lambda client, *_: client.subscribe("penstock/#", qos=0)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._take
        self._client.on_disconnect = lambda *_: self.lost.set()
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if "/alert/" in message.topic:
            number = dict(message.properties.UserProperty)["alert_id"]
            self.messages += 1
            self.changed += self.payloads.setdefault(number, message.payload) != message.payload
        elif message.topic.endswith("/availability") and message.payload == b"online":
            self.online += 1
            self.heard_online.set()


def test_every_alert_arrives_and_what_comes_twice_can_be_told_by_its_id(broker, tmp_path: Path, figures: Figures):
    kills, rng = times(5, long=100), random.Random(1)
    running = broker()
    heard, door, done, published = Listener(running.port), Door(to_port=running.port), threading.Event(), 0
    settings = MqttSettings.from_url(f"mqtt://127.0.0.1:{door.port}", gateway="cellar", client_id="cellar")

    with Delivery(mqtt=settings, outbox=tmp_path / "outbox.db") as delivery:

        def publish() -> None:
            nonlocal published
            while not done.wait(1 / PER_S):
                delivery.publish(make_alert(published))
                published += 1

        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        for life in range(kills + 1):
            running.start()
            heard.connect()
            door.open()  # the agent finds the broker when somebody listens there: what nobody hears would seem lost
            assert heard.heard_online.wait(PATIENCE_S)
            if life < kills:
                time.sleep(rng.uniform(0.0, 0.4))
                running.kill()
                door.shut()
                assert heard.lost.wait(PATIENCE_S)
        done.set()
        thread.join()
        left = delivery.drain(PATIENCE_S)
        until_s = time.monotonic() + PATIENCE_S
        while len(heard.payloads) < published and time.monotonic() < until_s:
            time.sleep(0.02)
        heard.close()
    door.shut()

    figures.told(
        fault=f"broker killed {kills} times while {PER_S} alerts a second are made",
        goal="0 lost, duplicates removable by alert_id, availability right each time",
        kills=kills,
        alerts=published,
        lost=published - len(heard.payloads),
        duplicates=heard.messages - len(heard.payloads),
        duplicates_that_differ=heard.changed,
        came_online_again=heard.online - 1,
    )
    assert left == 0
    assert len(heard.payloads) == published
    assert heard.changed == 0
    assert heard.online == kills + 1
