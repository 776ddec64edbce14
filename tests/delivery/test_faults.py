"""Delivery against brokers that are killed, that refuse for a while, and that are away for long."""

import json
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent.delivery import Bounds, Delivery, MqttSettings
from contracts.alert import uuid7
from tests.alerts import T0_US, make_alert
from tests.broker import PATIENCE_S, Door

pytestmark = pytest.mark.needs_broker

LONG_S = 240.0  # a guard against hanging on a busy machine


def settings(port, *, scheme="mqtt", login="", **options):
    return MqttSettings.from_url(f"{scheme}://{login}127.0.0.1:{port}", gateway="replay", max_backoff_s=0.3, **options)


def numbered(number):
    """Return an alert whose id is its own, as each of an agent's is."""
    return make_alert(number, alert_id=uuid7(T0_US + number * 1_000, number.to_bytes(8, "big")))


def alert_id(payload):
    return json.loads(payload)["alert"]["context"]["penstock"]["alert_id"]


class Flow:
    """A thread that hands alerts to a delivery, one after the other, until it is told to stop."""

    def __init__(self, delivery):
        self.taken = 0
        self._delivery = delivery
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.002):
            self._delivery.take(numbered(self.taken))
            self.taken += 1

    def stop(self):
        self._stop.set()
        self._thread.join()


class Ear:
    """Hears everything at QoS 0, so that it owes the broker nothing.

    mosquitto hands a message on before it acknowledges it, and what it wrote to a socket outlives it, unless something
    unread lies on its side of that socket. So every message it acknowledged is heard, even if it is killed right after.
    """

    def __init__(self, port):
        self.heard = queue.SimpleQueue()
        self.ended = threading.Event()
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.on_connect = lambda *_: self._client.subscribe("penstock/#", qos=0)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _client, _data, message: self.heard.put(message)
        self._client.on_disconnect = lambda *_: self.ended.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def collect(self, into, *, alerts=0, availability=None, last=None):
        """Put the ids heard into a list until so many alerts, this availability or this id was heard."""
        while alerts > 0 or availability is not None or last is not None:
            message = self.heard.get(timeout=LONG_S)
            if message.topic.endswith("/availability"):
                availability = None if message.payload.decode() == availability else availability
                continue
            into.append(alert_id(message.payload))
            alerts -= 1
            last = None if into[-1] == last else last

    def collect_rest(self, into):
        """Put what is left into the list, once the connection ended."""
        assert self.ended.wait(PATIENCE_S)
        while not self.heard.empty():
            message = self.heard.get()
            if "/alert/" in message.topic:
                into.append(alert_id(message.payload))

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def kill_again_and_again(broker, *, times):
    """Kill a broker with alerts flowing; return the ids taken, those heard in order, and the facts at the end.

    The door is shut only while the ear is deaf: an alert that nobody listens to would be acknowledged all the same.
    """
    running = broker("max_inflight_messages 0").start()
    door, heard = Door(to_port=running.port), []
    with Delivery(mqtt=settings(door.port), bounds=Bounds(rows=1_000_000, size_bytes=1 << 30)) as delivery:
        flow, ear = Flow(delivery), Ear(running.port)
        door.open()
        for _ in range(times):
            ear.collect(heard, availability="online")
            ear.collect(heard, alerts=5)
            running.kill()
            ear.collect_rest(heard)
            door.shut()
            running.start()
            ear = Ear(running.port)
            door.open()
        ear.collect(heard, availability="online")
        flow.stop()
        last = numbered(flow.taken - 1).alert_id
        if last not in heard:
            ear.collect(heard, last=last)
        assert delivery.flush(LONG_S) == 0
        facts = delivery.facts()
    ear.collect([], availability="offline")
    ear.close()
    door.shut()
    return [numbered(number).alert_id for number in range(flow.taken)], heard, facts


@pytest.mark.slow
def test_a_broker_that_is_killed_again_and_again_with_alerts_flowing_misses_none(broker, record_property):
    times = int(os.environ.get("PENSTOCK_BROKER_KILLS", "10"))

    taken, heard, facts = kill_again_and_again(broker, times=times)

    assert sorted(set(heard)) == taken  # none lost, and what came twice has the same id
    assert list(dict.fromkeys(heard)) == taken  # and in order
    assert facts.delivered == len(taken)
    assert facts.connects >= times + 1
    assert facts.resent >= len(heard) - len(taken)
    report = {"kills": times, "alerts": len(taken), "repeated": len(heard) - len(taken), "connects": facts.connects}
    record_property("figures", report)
    print(report)


@pytest.mark.slow
def test_ten_thousand_alerts_that_waited_are_drained_and_memory_stays_flat(broker):
    late = broker()
    with Delivery(mqtt=settings(late.port), bounds=Bounds(rows=20_000, size_bytes=1 << 30)) as delivery:
        delivery.take(numbered(0))
        delivery.flush(0.1)
        before_kb = resident_kb()
        for number in range(1, 10_000):
            delivery.take(numbered(number))
        waiting_kb = resident_kb()
        late.start()
        assert delivery.flush(LONG_S) == 0
        facts = delivery.facts()

    assert (facts.delivered, dict(facts.dropped)["rows"]) == (10_000, 0)
    assert max(waiting_kb, resident_kb()) - before_kb < 16 << 10  # of 12 MB that waited


def resident_kb():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@contextmanager
def refused_for_now(delivery) -> Iterator[None]:
    """Take ten alerts while they are refused; after the block they must all be delivered."""
    for number in range(10):
        delivery.take(numbered(number))
    waiting = threading.Event()
    for _ in range(12_000):
        if delivery.facts().broker_state == "refused":
            break
        waiting.wait(0.01)
    assert delivery.facts().broker_state == "refused"
    assert delivery.facts().outbox_rows == 10
    yield
    assert delivery.flush(PATIENCE_S) == 0
    assert delivery.facts().broker_state == "connected"


def test_a_password_that_is_revoked_and_restored_costs_nothing(broker):
    guarded = broker("allow_anonymous false", "password_file passwords")
    guarded.password_file("gateway", "another")
    guarded.start()

    with Delivery(mqtt=settings(guarded.port, login="gateway:right@")) as delivery, refused_for_now(delivery):
        guarded.password_file("gateway", "right")
        guarded.reload()


def test_a_password_that_is_renewed_on_both_sides_needs_no_restart(broker, tmp_path):
    guarded = broker("allow_anonymous false", "password_file passwords")
    guarded.password_file("gateway", "new")
    guarded.start()
    secret = tmp_path / "secret"
    secret.write_text("old\n")

    with (
        Delivery(mqtt=settings(guarded.port, login="gateway@", password_file=secret)) as delivery,
        refused_for_now(delivery),
    ):
        secret.write_text("new\n")


def test_rights_that_are_revoked_and_restored_cost_nothing(broker):
    listed = broker("acl_file acl")
    acl = listed.folder / "acl"
    acl.write_text("topic write penstock/v1/replay/availability\n")
    acl.chmod(0o600)
    listed.start()

    with Delivery(mqtt=settings(listed.port)) as delivery, refused_for_now(delivery):
        acl.write_text("topic write penstock/#\n")
        listed.reload()
