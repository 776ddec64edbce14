"""The broker is killed again and again while alerts go out."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from agent.delivery import Delivery, MqttSettings
from tests.alerts import make_alert
from tests.broker import Door, Subscriber
from tests.faults.figures import Figures, times

pytestmark = [pytest.mark.needs_broker, pytest.mark.slow]

PER_S = 200
PATIENCE_S = 60.0


class Heard:
    """What a subscriber of one broker's life after the other was told."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.messages = self.changed = self.online = 0

    def take(self, subscriber: Subscriber, *, until_online: bool = False) -> None:
        """Take what stands in a subscriber's queue, or what comes until the gateway says that it is online."""
        while until_online or not subscriber.heard.empty():
            message = subscriber.next()
            if "/alert/" in message.topic:
                number = dict(message.properties.UserProperty)["alert_id"]
                self.messages += 1
                self.changed += self.payloads.setdefault(number, message.payload) != message.payload
            elif message.topic.endswith("/availability") and message.payload == b"online":
                self.online += 1
                until_online = False


def test_every_alert_arrives_and_what_comes_twice_can_be_told_by_its_id(broker, tmp_path: Path, figures: Figures):
    kills, rng, heard = times(5, long=100), random.Random(1), Heard()
    # A broker that queues nothing for its subscriber has handed on what it acknowledges.
    running = broker("max_inflight_messages 0", "max_queued_messages 0")
    door, done, published = Door(to_port=running.port), threading.Event(), 0
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
            with Subscriber(running.port).listening() as subscriber:
                door.open()
                heard.take(subscriber, until_online=True)
                if life < kills:
                    time.sleep(rng.uniform(0.0, 0.4))
                    running.kill()
                    door.shut()
                    time.sleep(0.1)  # what the broker sent before it died is still on its way
                else:
                    done.set()
                    thread.join()
                    left = delivery.drain(PATIENCE_S)
                    time.sleep(0.1)
                heard.take(subscriber)
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
