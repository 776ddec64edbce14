"""Delivery against a real mosquitto on the loopback."""

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.delivery import Delivery, EveFile, MqttSettings
from contracts.errors import BrokerRefused
from contracts.eve import render_eve
from tests.alerts import make_alert
from tests.broker import PATIENCE_S, Door, Subscriber
from tests.delivery.certificates import Authority
from tests.ports import free_port

pytestmark = pytest.mark.needs_broker


def settings(port, *, scheme="mqtt", login="", **options):
    return MqttSettings.from_url(f"{scheme}://{login}127.0.0.1:{port}", gateway="replay", **options)


def until(is_so):
    until_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def payloads(messages):
    return [message.payload.decode() for message in messages]


def test_a_subscriber_receives_exactly_the_lines_of_eve_json_at_qos_1(broker, tmp_path):
    running = broker().start()
    with Subscriber(running.port).listening() as subscriber:
        with Delivery(eve=EveFile(str(tmp_path / "eve.json")), mqtt=settings(running.port)) as delivery:
            for number in range(500):
                delivery.publish(make_alert(number))
            assert delivery.drain(PATIENCE_S) == 0
        heard = subscriber.next_alerts(500)

    assert payloads(heard) == (tmp_path / "eve.json").read_text().splitlines()
    assert {(message.topic, message.qos, message.retain) for message in heard} == {
        ("penstock/v1/replay/alert/brute_force", 1, False)
    }


def test_a_message_says_in_mqtt_5_what_it_is_and_how_long_it_is_worth_keeping(broker):
    running = broker().start()
    with Subscriber(running.port).listening() as subscriber, Delivery(mqtt=settings(running.port)) as delivery:
        delivery.publish(make_alert())
        (message,) = subscriber.next_alerts(1)

    assert message.properties.ContentType == "application/json"
    assert message.properties.PayloadFormatIndicator == 1
    assert 604_000 < message.properties.MessageExpiryInterval <= 604_800
    assert dict(message.properties.UserProperty) == {
        "alert_id": make_alert().alert_id,
        "severity": "2",
        "schema": "urn:penstock:eve:1",
    }


@pytest.fixture
def door(broker):
    """Give a running broker behind a door that is still shut."""
    running = broker().start()
    door = Door(to_port=running.port)
    yield running, door
    door.shut()


def test_a_broker_that_is_there_only_later_gets_everything(door, tmp_path):
    running, entrance = door
    with (
        Subscriber(running.port).listening() as subscriber,
        Delivery(eve=EveFile(str(tmp_path / "eve.json")), mqtt=settings(entrance.port)) as delivery,
    ):
        for number in range(40):
            delivery.publish(make_alert(number))
        until(lambda: "not reached yet" not in delivery.reason)
        assert delivery.left == 40
        assert delivery.reason == f"127.0.0.1:{entrance.port}: Connection refused"

        entrance.open()

        assert delivery.drain(PATIENCE_S) == 0
        heard = subscriber.next_alerts(40)
    assert payloads(heard) == (tmp_path / "eve.json").read_text().splitlines()


def test_a_broker_that_is_killed_on_the_way_and_comes_back_gets_all_it_had_not_acknowledged(door):
    running, entrance = door
    alerts = [make_alert(number) for number in range(300)]
    entrance.open()
    with Delivery(mqtt=settings(entrance.port)) as delivery:
        with Subscriber(running.port).listening() as subscriber:
            for alert in alerts[:150]:
                delivery.publish(alert)
            subscriber.next_alerts(50)
            until(lambda: delivery.delivered >= 30)
            running.kill()
        entrance.shut()
        until(lambda: delivery.facts().broker_state != "connected")  # what was acknowledged is known
        for alert in alerts[150:]:
            delivery.publish(alert)
        until(lambda: len(delivery._committer.outbox) + delivery.delivered == 300)  # and on disk
        left = delivery.left

        running.start()
        with Subscriber(running.port).listening() as subscriber:
            entrance.open()
            assert delivery.drain(PATIENCE_S) == 0
            heard = payloads(subscriber.next_alerts(left))

    assert 150 <= left <= 270  # a window may have been on its way
    assert heard == [render_eve(alert) for alert in alerts[-left:]]
    assert delivery.delivered == 300


def test_availability_is_online_again_after_a_broker_lost_everything(broker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port)):
        with Subscriber(running.port).listening() as subscriber:
            assert subscriber.availability("online").topic == "penstock/v1/replay/availability"
        running.kill()
        running.start()
        with Subscriber(running.port).listening() as subscriber:
            subscriber.availability("online")


def test_availability_is_retained_offline_after_the_end(broker):
    running = broker().start()
    with Delivery(mqtt=settings(running.port)) as delivery:
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0

    def kept():
        with Subscriber(running.port).listening() as subscriber:
            return subscriber.next()

    until(lambda: kept().payload != b"online")  # a farewell may be on its way
    message = kept()

    assert (message.topic, message.payload, message.retain) == ("penstock/v1/replay/availability", b"offline", True)


VANISHING = """
import sys, time
from agent.delivery import Delivery, MqttSettings
from tests.alerts import make_alert
with Delivery(mqtt=MqttSettings.from_url(sys.argv[1], gateway="replay")) as delivery:
    delivery.publish(make_alert())
    delivery.drain(120)
    print(delivery.outbox_path, flush=True)
    time.sleep(600)
"""


def test_the_broker_says_offline_for_an_agent_that_vanishes(broker):
    running = broker().start()
    with Subscriber(running.port).listening() as subscriber:
        agent = subprocess.Popen(
            [sys.executable, "-c", VANISHING, f"mqtt://127.0.0.1:{running.port}"],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            text=True,
        )
        try:
            outbox = Path(agent.stdout.readline().strip())
            assert not subscriber.availability("online").retain
        finally:
            agent.send_signal(signal.SIGKILL)
            agent.wait()

        subscriber.availability("offline")
    for file in outbox.parent.glob(f"{outbox.name}*"):
        file.unlink()


def test_what_a_replay_left_is_delivered_by_the_next_one(broker, tmp_path):
    late = broker()
    outbox = tmp_path / "outbox.db"
    with Delivery(mqtt=settings(late.port), outbox=outbox) as delivery:
        delivery.publish(make_alert(1))
        assert delivery.drain(0) == 1

    late.start()
    with (
        Subscriber(late.port).listening() as subscriber,
        Delivery(mqtt=settings(late.port), outbox=outbox) as delivery,
    ):
        delivery.publish(make_alert(2))
        assert delivery.drain(PATIENCE_S) == 0
        heard = payloads(subscriber.next_alerts(2))

    assert [make_alert(number).alert_id in text for number, text in zip((1, 2), heard, strict=True)] == [True, True]
    assert outbox.exists()


def test_a_temporary_outbox_stays_only_with_something_in_it(broker):
    running, absent_port = broker().start(), free_port()
    with Delivery(mqtt=settings(running.port)) as delivered:
        delivered.publish(make_alert())
        assert delivered.drain(PATIENCE_S) == 0
    with Delivery(mqtt=settings(absent_port)) as undelivered:
        undelivered.publish(make_alert())
        assert undelivered.drain(0) == 1

    assert not delivered.outbox_path.exists()
    assert undelivered.outbox_path.exists()


def refusal(delivery):
    with pytest.raises(BrokerRefused) as caught:
        delivery.drain(PATIENCE_S)
    return str(caught.value)


def test_a_wrong_password_is_refused_at_once_and_not_repeated(broker):
    guarded = broker("allow_anonymous false", "password_file passwords")
    guarded.password_file("gateway", "right")
    guarded.start()

    with Delivery(mqtt=settings(guarded.port, login="gateway:wr0ng@")) as delivery:
        with contextlib.suppress(BrokerRefused):  # it may have been refused already
            delivery.publish(make_alert())
        said = refusal(delivery)

    assert said == f"mqtt: refused by 127.0.0.1:{guarded.port}: Not authorized"


def test_the_right_password_is_accepted(broker):
    guarded = broker("allow_anonymous false", "password_file passwords")
    guarded.password_file("gateway", "r:i/g@ht")
    guarded.start()

    with (
        Subscriber(guarded.port, login=("gateway", "r:i/g@ht")).listening() as subscriber,
        Delivery(mqtt=settings(guarded.port, login="gateway@", password="r:i/g@ht")) as delivery,
    ):
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0
        assert subscriber.next_alerts(1)


def test_a_topic_that_is_not_ours_is_a_refusal_that_names_it(broker):
    listed = broker("acl_file acl")
    (listed.folder / "acl").write_text("topic write penstock/v1/replay/availability\n")
    (listed.folder / "acl").chmod(0o600)
    listed.start()

    with Delivery(mqtt=settings(listed.port)) as delivery:
        with contextlib.suppress(BrokerRefused):  # it may have been refused already
            delivery.publish(make_alert())
        said = refusal(delivery)

    assert said.endswith("penstock/v1/replay/alert/brute_force: Not authorized")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def with_tls(broker, authority, *settings_lines, address="127.0.0.1"):
    cert, key = authority.issue("broker", address=address)
    return broker(f"cafile {authority.ca}", f"certfile {cert}", f"keyfile {key}", *settings_lines).start()


def test_tls_to_a_broker_of_our_authority_delivers(broker, authority):
    running = with_tls(broker, authority)
    with (
        Subscriber(running.port, tls=ssl.create_default_context(cafile=authority.ca)).listening() as subscriber,
        Delivery(mqtt=settings(running.port, scheme="mqtts", ca=authority.ca)) as delivery,
    ):
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0
        assert subscriber.next_alerts(1)


def test_a_broker_of_another_authority_is_not_spoken_to(broker, authority, tmp_path):
    running = with_tls(broker, authority)
    other = Authority(tmp_path, "other")

    with Delivery(mqtt=settings(running.port, scheme="mqtts", ca=other.ca)) as delivery:
        with contextlib.suppress(BrokerRefused):  # it may have been refused already
            delivery.publish(make_alert())
        said = refusal(delivery)

    assert "TLS: the broker's certificate is not trusted" in said


def test_a_broker_under_another_name_is_not_spoken_to(broker, authority):
    running = with_tls(broker, authority, address="127.0.0.9")

    with Delivery(mqtt=settings(running.port, scheme="mqtts", ca=authority.ca)) as delivery:
        with contextlib.suppress(BrokerRefused):  # it may have been refused already
            delivery.publish(make_alert())
        said = refusal(delivery)

    assert "IP address mismatch" in said


def test_a_broker_without_tls_is_not_spoken_to_in_plain(broker, authority):
    running = broker().start()

    with Delivery(mqtt=settings(running.port, scheme="mqtts", ca=authority.ca)) as delivery:
        delivery.publish(make_alert())
        until(lambda: "not reached yet" not in delivery.reason)
        assert delivery.left == 1
        assert delivery.reason.startswith(f"127.0.0.1:{running.port}: ")


def test_a_client_certificate_opens_a_broker_that_wants_one(broker, authority):
    running = with_tls(broker, authority, "require_certificate true")
    cert, key = authority.issue("gateway")

    with Delivery(mqtt=settings(running.port, scheme="mqtts", ca=authority.ca, cert=cert, key=key)) as delivery:
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0

    with Delivery(mqtt=settings(running.port, scheme="mqtts", ca=authority.ca)) as delivery:
        delivery.publish(make_alert())
        until(lambda: "not reached yet" not in delivery.reason)
        assert delivery.left == 1
