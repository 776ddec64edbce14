"""The sender against a broker that does what the test says."""

import contextlib
import json
import queue
import socket
import sqlite3
import ssl
import threading

import pytest

from agent.delivery import Bounds, Delivery, MqttSettings
from agent.delivery.letters import letter_of
from agent.delivery.outbox import Outbox
from agent.delivery.sender import Sender
from contracts.errors import BrokerRefused, OutboxError
from tests.alerts import make_alert
from tests.delivery.scripted import HANG_UP, VERSION_5, VERSION_311, ScriptedBroker

PATIENCE_S = 120.0  # a guard against hanging: on a machine that is busy with other things it may take that long


def settings(port, **changes):
    return MqttSettings(
        **{
            "host": "127.0.0.1",
            "port": port,
            "gateway": "replay",
            "client_id": "t",
            "connect_timeout_s": PATIENCE_S,
            **changes,
        }
    )


def refusal(delivery):
    """Return how the broker's refusal reads, once it came."""
    with pytest.raises(BrokerRefused) as caught:
        delivery.drain(PATIENCE_S)
    return str(caught.value)


def number_of(heard):
    """Return which of make_alert's alerts a message is; None for availability."""
    return json.loads(heard.payload)["flow_id"] - make_alert().flow_id if "/alert/" in heard.topic else None


def only_availability(heard):
    """Acknowledge no alert."""
    return None if "/alert/" in heard.topic else 0


def test_availability_comes_first_and_is_retained_and_alerts_are_not():
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.publish(make_alert())
        assert delivery.drain(PATIENCE_S) == 0
        online, alert = broker.heard.get(timeout=PATIENCE_S), broker.heard.get(timeout=PATIENCE_S)

    assert (online.topic, online.payload, online.is_retained) == ("penstock/v1/replay/availability", b"online", True)
    assert (alert.topic, alert.is_retained) == ("penstock/v1/replay/alert/brute_force", False)


def test_at_the_end_the_sender_says_that_it_is_offline_and_takes_leave():
    others = set(threading.enumerate())  # one that an earlier test left hanging may still be on its way out
    with ScriptedBroker() as broker:
        with Delivery(mqtt=settings(broker.port)):
            assert broker.next(alerts=False).payload == b"online"
        assert broker.next(alerts=False).payload == b"offline"
        left = set(threading.enumerate()) - others
        threads = [thread for thread in left if thread.name.startswith("penstock-")]

    assert not threads


def test_without_an_acknowledgement_a_letter_stays_on_disk_and_the_window_bounds_what_is_sent():
    with ScriptedBroker(acknowledge=only_availability) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        for number in range(30):
            delivery.publish(make_alert(number))
        sent = [broker.next() for _ in range(20)]

        assert delivery.drain(0.2) == 30
        assert broker.heard.empty()
        for heard in sent:
            heard.session.acknowledge(heard.number)
        sent += [broker.next() for _ in range(10)]
        assert delivery.left >= 10
        for heard in sent[20:]:
            heard.session.acknowledge(heard.number)
        assert delivery.drain(PATIENCE_S) == 0
        assert delivery.delivered == 30

    assert len({heard.payload for heard in sent}) == 30


def test_a_broker_that_takes_fewer_at_a_time_gets_fewer():
    with (
        ScriptedBroker(acknowledge=only_availability, receive_maximum=3) as broker,
        Delivery(mqtt=settings(broker.port)) as delivery,
    ):
        for number in range(9):
            delivery.publish(make_alert(number))
        for _ in range(3):
            broker.next()

        assert delivery.drain(0.2) == 9
        with pytest.raises(queue.Empty):
            broker.heard.get(timeout=0.1)


def test_letters_go_out_in_order_of_arrival():
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        alerts = [make_alert(number, severity=number % 2 + 2) for number in range(50)]
        for alert in alerts:
            delivery.publish(alert)
        assert delivery.drain(PATIENCE_S) == 0

        numbers = [number_of(broker.next()) for _ in alerts]
    assert numbers == list(range(50))


def test_what_was_not_acknowledged_when_the_connection_ended_is_sent_again_and_nothing_else():
    def acknowledge(heard):
        if number_of(heard) == 2 and len(broker.sessions) == 1:
            heard.session.hang_up()
            return None
        return 0

    with ScriptedBroker(acknowledge=acknowledge) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        for number in range(2):
            delivery.publish(make_alert(number))
        assert delivery.drain(PATIENCE_S) == 0
        for number in range(2, 5):
            delivery.publish(make_alert(number))
        assert delivery.drain(PATIENCE_S) == 0

        heard = [broker.next() for _ in range(6)]
    first, again = ([number_of(each) for each in heard if each.session is session] for session in broker.sessions)
    assert first[:3] == [0, 1, 2]
    assert again[0] == 2
    assert delivery.delivered == 5


@pytest.mark.parametrize("greeting", [1, 0x84, HANG_UP])
def test_a_broker_that_does_not_know_mqtt_5_is_spoken_to_in_3_1_1(greeting):
    with (
        ScriptedBroker(greet=lambda version: greeting if version == VERSION_5 else 0) as broker,
        Delivery(mqtt=settings(broker.port)) as delivery,
    ):
        delivery.publish(make_alert())

        assert delivery.drain(PATIENCE_S) == 0
        assert [session.version for session in broker.sessions] == [VERSION_5, VERSION_311]
        assert broker.next().topic == "penstock/v1/replay/alert/brute_force"


@pytest.mark.parametrize(
    ("version", "code", "said"),
    [
        (VERSION_5, 0x86, "Bad user name or password"),
        (VERSION_5, 0x87, "Not authorized"),
        (VERSION_5, 0x8A, "Banned"),
        (VERSION_5, 0x85, "Client identifier not valid"),
        (VERSION_311, 4, "Bad user name or password"),
        (VERSION_311, 5, "Not authorized"),
        (VERSION_311, 2, "Client identifier not valid"),
    ],
)
def test_a_refusal_ends_the_wait_at_once_with_the_brokers_words(version, code, said):
    def greet(seen):
        return code if seen == version else 1

    with (
        ScriptedBroker(greet=greet) as broker,
        Delivery(mqtt=settings(broker.port, user="u", password="s3cret")) as delivery,
    ):
        with contextlib.suppress(BrokerRefused):  # it may have been refused already; the alert is taken all the same
            delivery.publish(make_alert())

        assert refusal(delivery) == f"mqtt: refused by 127.0.0.1:{broker.port}: {said}"
        assert delivery.left == 1
        with pytest.raises(BrokerRefused):
            delivery.publish(make_alert(1))


def test_a_busy_broker_is_tried_again():
    answers = iter([0x89, 0x88, 0])

    with (
        ScriptedBroker(greet=lambda _version: next(answers)) as broker,
        Delivery(mqtt=settings(broker.port)) as delivery,
    ):
        delivery.publish(make_alert())

        assert delivery.drain(PATIENCE_S) == 0
        assert [session.version for session in broker.sessions] == [VERSION_5] * 3


def test_a_publish_that_is_not_allowed_is_a_refusal_that_names_the_topic():
    def acknowledge(heard):
        return 0x87 if "/alert/" in heard.topic else 0

    with ScriptedBroker(acknowledge=acknowledge) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.publish(make_alert())

        assert refusal(delivery).endswith("penstock/v1/replay/alert/brute_force: Not authorized")
        assert delivery.left == 1


def test_a_message_the_broker_could_not_take_now_is_sent_again():
    codes = iter([0x97, 0])

    def acknowledge(heard):
        return next(codes) if "/alert/" in heard.topic else 0

    with ScriptedBroker(acknowledge=acknowledge) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.publish(make_alert())

        assert delivery.drain(PATIENCE_S) == 0
        assert len(broker.sessions) == 2


@pytest.mark.parametrize("column", ["gateway = 'a/#'", "gateway = cast(x'ff' as text)"])
def test_a_letter_mqtt_cannot_carry_is_dropped_and_the_others_go_out(tmp_path, column):
    outbox = tmp_path / "outbox.db"
    with Delivery(mqtt=settings(1), outbox=outbox) as delivery:
        for number in range(3):
            delivery.publish(make_alert(number))
    with sqlite3.connect(outbox) as db:
        db.execute(f"UPDATE alerts SET {column} WHERE id = 2")
    db.close()

    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=outbox) as delivery:
        assert delivery.drain(PATIENCE_S) == 0
        assert [number_of(broker.next()) for _ in range(2)] == [0, 2]
        assert (delivery.delivered, delivery.dropped) == (2, 1)
        assert "an alert cannot be sent and is dropped" in delivery.reason
    assert len(Outbox(outbox)) == 0


def test_a_letter_above_256_mib_is_dropped_and_the_others_go_out():
    letters = [(number, letter_of(make_alert(number), "eve")) for number in (1, 2, 3)]
    letters[1] = 2, letters[1][1]._replace(payload=bytes(1 << 28))
    settled = queue.SimpleQueue()

    class Waiting:
        def after(self, number, limit):
            return [pair for pair in letters if pair[0] > number][:limit]

    with ScriptedBroker() as broker:
        sender = Sender(
            settings(broker.port),
            Waiting(),
            delivered=lambda number, _seconds: settled.put((number, "delivered")),
            unsendable=lambda number: settled.put((number, "unsendable")),
            changed=lambda: None,
        )
        sender.start()

        told = sorted(settled.get(timeout=PATIENCE_S) for _ in range(3))
        sender.stop()

        assert told == [(1, "delivered"), (2, "unsendable"), (3, "delivered")]
        assert [number_of(broker.next()) for _ in range(2)] == [1, 3]
    assert "an alert cannot be sent and is dropped: Payload too large." in sender.reason


def test_a_mistake_of_ours_in_the_thread_is_said_to_who_waits_and_logged_once(monkeypatch, caplog):
    monkeypatch.setattr(Outbox, "after", lambda *_: 1 / 0)

    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        with contextlib.suppress(BrokerRefused):
            delivery.publish(make_alert())

        assert refusal(delivery) == f"mqtt: refused by 127.0.0.1:{broker.port}: internal error: ZeroDivisionError"
        assert delivery.left == 1
    assert caplog.text.count("Traceback") == 1


def test_a_packet_longer_than_any_we_ask_for_ends_the_connection_before_it_is_read():
    def acknowledge(heard):
        if len(broker.sessions) == 1:
            heard.session.link.sendall(bytes([0x30, 0xFF, 0xFF, 0xFF, 0x7F]))  # a PUBLISH of 256 MiB, and no more of it
            return None
        return 0

    with ScriptedBroker(acknowledge=acknowledge) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.publish(make_alert())

        assert delivery.drain(PATIENCE_S) == 0
        assert len(broker.sessions) == 2
        assert b"\x27\x00\x01\x00\x00" in broker.sessions[0].connect  # Maximum Packet Size: 65,536


def test_a_port_that_does_not_answer_in_tls_is_asked_about():
    tls = ssl.create_default_context()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with Delivery(mqtt=settings(port, tls=tls, connect_timeout_s=0.1)) as delivery, delivery._changed:
            delivery._changed.wait_for(lambda: "not reached yet" not in delivery.reason, PATIENCE_S)

    assert delivery.reason == f"127.0.0.1:{port}: no answer in TLS: is it an mqtt:// port?"


def test_a_broker_without_a_subscriber_has_the_message_all_the_same():
    with ScriptedBroker(acknowledge=lambda heard: 0x10) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.publish(make_alert())

        assert delivery.drain(PATIENCE_S) == 0


def test_a_broker_that_never_answers_is_waited_for_and_no_longer():
    with ScriptedBroker(greet=lambda _version: 0) as broker:
        broker._answer = lambda session: True
        with Delivery(mqtt=settings(broker.port, connect_timeout_s=0.2)) as delivery:
            delivery.publish(make_alert())

            with delivery._changed:
                assert delivery._changed.wait_for(lambda: "not reached yet" not in delivery.reason, PATIENCE_S)
            assert delivery.left == 1
            assert delivery.reason == f"127.0.0.1:{broker.port}: no answer to CONNECT"


def test_an_outbox_that_holds_nothing_but_what_fits_counts_what_it_drops(tmp_path):
    with Delivery(mqtt=settings(1), outbox=tmp_path / "outbox.db", bounds=Bounds(rows=2)) as delivery:
        for number in range(5):
            delivery.publish(make_alert(number))
            delivery.drain(0)
        delivery.close()

        assert (delivery.alerts, delivery.dropped) == (5, 3)
    assert len(Outbox(tmp_path / "outbox.db")) == 2


def test_an_outbox_that_cannot_be_written_is_named_and_nothing_is_forgotten(tmp_path, monkeypatch):
    is_full = threading.Event()
    is_full.set()
    real_apply = Outbox.apply

    def apply(self, **changes):
        if is_full.is_set():
            raise OutboxError("outbox: the disk is full")
        return real_apply(self, **changes)

    monkeypatch.setattr(Outbox, "apply", apply)
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.publish(make_alert())
        with pytest.raises(OutboxError, match="the disk is full"):
            delivery.drain(PATIENCE_S)
        assert delivery.left == 1

        is_full.clear()
        with pytest.raises(OutboxError, match="the disk is full"):
            delivery.publish(make_alert(1))
        with delivery._changed:
            assert delivery._changed.wait_for(lambda: delivery._committer.trouble is None, PATIENCE_S)
        assert delivery.drain(PATIENCE_S) == 0
        assert delivery.delivered == 2
