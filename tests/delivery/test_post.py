"""Opaque messages: durable before anybody is told so, once in the outbox, below every alert, on own topics alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from agent.delivery import Bounds, Delivery, Outbox, committer
from agent.delivery.letters import MAX_OPAQUE_BYTES, OPAQUE_SEVERITY
from contracts.errors import OutboxError
from tests.alerts import make_alert
from tests.delivery.scripted import ScriptedBroker
from tests.delivery.test_service_delivery import next_on, settings
from tests.ports import free_port

PATIENCE_S = 120.0
TOPIC = "penstock/v1/replay/update/7"
OCTETS = "application/octet-stream"


def waiting(path):
    with closing(sqlite3.connect(path)) as db:
        return [(topic, bytes(payload)) for topic, payload in db.execute("SELECT topic, payload FROM alerts")]


def test_what_is_posted_arrives_on_its_topic_to_the_octet():
    payload = bytes(range(256))
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        posted = delivery.post(TOPIC, payload, content_type=OCTETS)
        heard = next_on(broker, TOPIC)

        assert posted.wait(PATIENCE_S)
        assert (heard.payload, heard.is_retained) == (payload, False)
        assert delivery.drain(PATIENCE_S) == 0


def test_it_is_durable_when_it_stands_in_the_outbox_though_no_broker_was_ever_there(tmp_path):
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db") as delivery:
        posted = delivery.post(TOPIC, b"update", content_type=OCTETS)

        assert posted.wait(PATIENCE_S)
        assert waiting(tmp_path / "o.db") == [(TOPIC, b"update")]
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=tmp_path / "o.db"):
        assert next_on(broker, TOPIC).payload == b"update"


def test_the_same_octets_posted_again_after_a_restart_stand_in_the_outbox_once(tmp_path):
    for _ in range(2):
        with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db") as delivery:
            assert delivery.post(TOPIC, b"update", content_type=OCTETS).wait(PATIENCE_S)
            assert delivery.post(TOPIC, b"update", content_type=OCTETS).wait(PATIENCE_S)

    assert waiting(tmp_path / "o.db") == [(TOPIC, b"update")]


def test_while_the_disk_takes_nothing_it_is_not_durable_and_is_queued_once(tmp_path, monkeypatch):
    real, is_full = Outbox.apply, [True]

    def apply(self, **changes):
        if is_full[0]:
            raise OutboxError("outbox: the disk is full")
        return real(self, **changes)

    monkeypatch.setattr(Outbox, "apply", apply)
    monkeypatch.setattr(committer, "RETRY_S", 0.01)
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db") as delivery:
        first = delivery.post(TOPIC, b"update", content_type=OCTETS)
        second = delivery.post(TOPIC, b"update", content_type=OCTETS)
        assert (first is second, first.is_durable, delivery.left) == (True, False, 1)

        is_full[0] = False

        assert first.wait(PATIENCE_S)


def test_what_never_reached_the_disk_is_known_to_be_lost(tmp_path, monkeypatch):
    def apply(self, **changes):
        raise OutboxError("outbox: the disk is full")

    monkeypatch.setattr(Outbox, "apply", apply)
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db") as delivery:
        posted = delivery.post(TOPIC, b"update", content_type=OCTETS)

    assert (posted.is_durable, posted.is_lost) == (False, True)


def test_where_there_is_no_room_it_leaves_before_any_alert(tmp_path):
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db", bounds=Bounds(rows=2)) as delivery:
        delivery.post(TOPIC, b"update", content_type=OCTETS).wait(PATIENCE_S)
        delivery.take(make_alert(1))
        delivery.take(make_alert(2))

    with closing(sqlite3.connect(tmp_path / "o.db")) as db:
        kept = [severity for (severity,) in db.execute("SELECT severity FROM alerts")]
    assert len(kept) == 2
    assert OPAQUE_SEVERITY not in kept


@pytest.mark.parametrize(
    "topic",
    [
        "penstock/v1/other/update/7",
        "penstock/v1/replay/",
        "penstock/v1/replay",
        "penstock/v1/replay/update/+",
        "penstock/v1/replay/#",
        "$SYS/broker",
    ],
)
def test_a_topic_that_is_not_this_gateways_own_is_refused(topic):
    with Delivery(mqtt=settings(free_port())) as delivery, pytest.raises(ValueError, match="topic"):
        delivery.post(topic, b"x", content_type=OCTETS)


def test_one_octet_too_many_is_refused():
    with Delivery(mqtt=settings(free_port())) as delivery:
        with pytest.raises(ValueError, match="at most"):
            delivery.post(TOPIC, bytes(MAX_OPAQUE_BYTES + 1), content_type=OCTETS)

        assert delivery.left == 0


def test_without_a_broker_nothing_is_posted():
    with Delivery() as delivery:
        assert delivery.post(TOPIC, b"x", content_type=OCTETS) is None
