"""What a service leans on: nothing raises, the status is there after every connection, secrets may change."""

import json
import logging
import sqlite3
import threading

import pytest

from agent.delivery import Bounds, Delivery, MqttSettings, Outbox, committer, secret_file
from agent.delivery import mqtt as connections
from contracts.errors import OutboxError, UsageError
from contracts.formats import FORMATS
from tests.alerts import make_alert
from tests.delivery.certificates import Authority
from tests.delivery.scripted import HANG_UP, VERSION_5, VERSION_311, ScriptedBroker
from tests.ports import free_port

PATIENCE_S = 120.0  # a guard against hanging
STATUS = "penstock/v1/replay/status"


def settings(port, **changes):
    return MqttSettings(
        **{
            "host": "127.0.0.1",
            "port": port,
            "gateway": "replay",
            "client_id": "t",
            "connect_timeout_s": PATIENCE_S,
            "max_backoff_s": 0.3,
            **changes,
        }
    )


def until(delivery, is_so):
    """Wait until the facts of a delivery are so, and return them."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if is_so(facts := delivery.facts()):
            return facts
        waiting.wait(0.01)
    raise AssertionError(facts)


def next_on(broker, topic):
    while True:
        heard = broker.heard.get(timeout=PATIENCE_S)
        if heard.topic == topic:
            return heard


def test_without_anything_asked_for_the_facts_are_empty():
    with Delivery() as delivery:
        delivery.take(make_alert())
        delivery.tick()
        delivery.reopen()
        delivery.status("{}")
        facts = delivery.facts()

    assert (facts.broker, facts.broker_state, facts.sinks) == ("", "none", ())


def test_a_refusal_stops_nobody_and_is_told_in_the_facts():
    with ScriptedBroker(greet=lambda _version: 0x87) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        for number in range(3):
            delivery.take(make_alert(number))
        facts = until(delivery, lambda facts: facts.broker_state == "refused")

    assert (facts.outbox_rows, facts.connects) == (3, 0)
    assert facts.broker_reason == f"127.0.0.1:{broker.port}: Not authorized"


def test_what_was_delivered_is_counted_with_the_times_it_took():
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        for number in range(5):
            delivery.take(make_alert(number))
        assert delivery.drain(PATIENCE_S) == 0
        facts = delivery.facts()

    assert (facts.broker, facts.broker_state, facts.connects) == (f"127.0.0.1:{broker.port}", "connected", 1)
    assert (facts.delivered, facts.outbox_rows, facts.outbox_bytes, facts.outbox_oldest_us) == (5, 0, 0, None)
    assert (facts.acknowledge.total, facts.resent, dict(facts.dropped)["unwritten"]) == (5, 0, 0)
    assert facts.commit.total >= 2


def test_what_is_sent_again_is_counted():
    alerts = []

    def acknowledge(heard):
        if "/alert/" in heard.topic:
            alerts.append(heard)
        is_second = len(alerts) > 1 and heard.session is alerts[0].session
        return None if is_second else 0

    with ScriptedBroker(acknowledge=acknowledge) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.take(make_alert(0))
        until(delivery, lambda facts: facts.delivered == 1 and facts.in_flight == 0)
        delivery.take(make_alert(1))
        # Hung up on before paho's call returned, it would not count as sent.
        until(delivery, lambda facts: facts.in_flight == 1)
        alerts[0].session.hang_up()

        assert delivery.drain(PATIENCE_S) == 0
        assert (delivery.facts().resent, delivery.facts().connects) == (1, 2)


def test_the_status_is_retained_renewed_and_there_again_on_every_connection():
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.status('{"state":"calibrating"}')
        first = next_on(broker, STATUS)
        delivery.status('{"state":"watching"}')
        second = next_on(broker, STATUS)
        broker.sessions[-1].hang_up()
        third = next_on(broker, STATUS)

    assert [json.loads(each.payload)["state"] for each in (first, second, third)] == [
        "calibrating",
        "watching",
        "watching",
    ]
    assert all(each.is_retained for each in (first, second, third))


def test_a_status_of_before_the_connection_is_published_once_there_is_one():
    with ScriptedBroker() as broker:
        delivery = Delivery(mqtt=settings(broker.port))
        delivery.status("early")
        with delivery:
            assert next_on(broker, STATUS).payload == b"early"


@pytest.mark.parametrize("form", FORMATS)
def test_a_message_is_written_in_the_format_asked_for(form):
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port, format=form)) as delivery:
        delivery.take(make_alert())

        assert broker.next().payload.decode() == FORMATS[form].render(make_alert())


def test_the_next_connection_tries_mqtt_5_again():
    answers = iter([HANG_UP, 0, 0])

    def acknowledge(heard):
        if "/alert/" in heard.topic and len(broker.sessions) == 2:
            heard.session.hang_up()
            return None
        return 0

    with (
        ScriptedBroker(greet=lambda _version: next(answers), acknowledge=acknowledge) as broker,
        Delivery(mqtt=settings(broker.port)) as delivery,
    ):
        delivery.take(make_alert())
        assert delivery.drain(PATIENCE_S) == 0

    assert [session.version for session in broker.sessions] == [VERSION_5, VERSION_311, VERSION_5]


def test_a_reload_says_goodbye_to_the_old_broker_and_goes_on_with_the_new_one():
    with ScriptedBroker() as old, ScriptedBroker() as new, Delivery(mqtt=settings(old.port)) as delivery:
        delivery.status("well")
        delivery.take(make_alert(0))
        assert delivery.drain(PATIENCE_S) == 0
        old.next()

        delivery.use(mqtt=settings(new.port, gateway="attic"))
        assert next_on(old, "penstock/v1/replay/availability").payload == b"offline"
        assert next_on(new, "penstock/v1/attic/availability").payload == b"online"
        delivery.take(make_alert(1))
        assert delivery.drain(PATIENCE_S) == 0

        assert json.loads(new.next().payload)["flow_id"] == make_alert(1).flow_id
        assert delivery.facts().broker == f"127.0.0.1:{new.port}"


def test_a_broker_may_be_asked_for_by_a_reload_only(tmp_path):
    with ScriptedBroker() as broker, Delivery(outbox=tmp_path / "outbox.db") as delivery:
        delivery.take(make_alert(0))
        delivery.use(mqtt=settings(broker.port))
        delivery.take(make_alert(1))
        assert delivery.drain(PATIENCE_S) == 0

        assert json.loads(broker.next().payload)["flow_id"] == make_alert(1).flow_id


def test_a_reload_may_change_how_much_the_outbox_holds(tmp_path):
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "outbox.db") as delivery:
        for number in range(4):
            delivery.take(make_alert(number))
        until(delivery, lambda facts: facts.outbox_oldest_us is not None)

        delivery.use(bounds=Bounds(rows=2))
        delivery.take(make_alert(4))
        facts = until(delivery, lambda facts: facts.outbox_rows == 2)

        assert (facts.outbox_max_rows, dict(facts.dropped)["rows"]) == (2, 3)


def test_an_acknowledgement_of_what_was_never_sent_changes_nothing():
    def acknowledge(heard):
        heard.session.acknowledge(4_000)
        return 0

    with ScriptedBroker(acknowledge=acknowledge) as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.take(make_alert())

        assert delivery.flush(PATIENCE_S) == 0
        assert (delivery.facts().broker_state, delivery.delivered) == ("connected", 1)


def test_a_full_disk_is_waited_for_counted_and_said_twice(tmp_path, monkeypatch, caplog):
    is_full, tries, real = threading.Event(), [], Outbox.apply

    def apply(self, **changes):
        tries.append(len(changes["added"]))
        if is_full.is_set():
            raise OutboxError("outbox: the disk is full")
        return real(self, **changes)

    monkeypatch.setattr(Outbox, "apply", apply)
    with (
        ScriptedBroker() as broker,
        Delivery(mqtt=settings(broker.port), outbox=tmp_path / "o.db", bounds=Bounds(rows=50)) as delivery,
    ):
        until(delivery, lambda facts: facts.broker_state == "connected")
        is_full.set()
        for number in range(60):
            delivery.take(make_alert(number))
        facts = until(delivery, lambda facts: facts.outbox_trouble)
        assert dict(facts.dropped)["unwritten"] == 10
        assert len(tries) < 10
        assert delivery.flush(0.01) >= 50
        is_full.clear()
        assert delivery.flush(PATIENCE_S) == 0
        assert delivery.facts().outbox_trouble == ""
        assert dict(delivery.facts().dropped)["unwritten"] == 10
        assert delivery.delivered == 50

    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["outbox: the disk is full", "outbox: takes alerts again"]


def test_what_the_disk_gave_back_and_what_came_meanwhile_are_bounded_together(tmp_path, monkeypatch):
    has_begun, may_fail = threading.Event(), threading.Event()

    def apply(self, **changes):
        has_begun.set()
        may_fail.wait(PATIENCE_S)
        raise OutboxError("outbox: the disk is full")

    monkeypatch.setattr(Outbox, "apply", apply)
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db", bounds=Bounds(rows=50)) as delivery:
        with delivery._changed:  # five alerts in the committer's hands, no fewer
            for number in range(5):
                delivery.take(make_alert(number))
        assert has_begun.wait(PATIENCE_S)
        for number in range(5, 60):
            delivery.take(make_alert(number))
        may_fail.set()
        facts = until(delivery, lambda facts: facts.outbox_trouble)

    assert (facts.outbox_rows, dict(facts.dropped)["unwritten"]) == (50, 10)


def test_a_disk_with_room_for_a_few_alerts_takes_a_few_at_a_time(tmp_path, monkeypatch):
    real = Outbox.apply

    def apply(self, **changes):
        if len(self) + len(changes["added"]) > 20:
            raise OutboxError("outbox: the disk is full")
        return real(self, **changes)

    monkeypatch.setattr(Outbox, "apply", apply)
    monkeypatch.setattr(committer, "RETRY_S", 0.01)
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=tmp_path / "o.db") as delivery:
        for number in range(200):
            delivery.take(make_alert(number))

        assert delivery.flush(PATIENCE_S) == 0
        assert (delivery.delivered, delivery.dropped) == (200, 0)


def test_alerts_that_never_reached_the_disk_are_counted_as_lost_at_the_end(tmp_path, monkeypatch):
    def apply(self, **changes):
        raise OutboxError("outbox: the disk is full")

    monkeypatch.setattr(Outbox, "apply", apply)
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db") as delivery:
        for number in range(3):
            delivery.take(make_alert(number))

    assert (delivery.left, delivery.dropped) == (0, 3)


def test_a_disk_that_will_not_be_read_is_looked_at_again(tmp_path, monkeypatch):
    real, failures = Outbox.after, [1]

    def after(self, *place):
        if failures and len(self):
            failures.pop()
            raise OutboxError("outbox: Input/output error")
        return real(self, *place)

    monkeypatch.setattr(Outbox, "after", after)
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=tmp_path / "o.db") as delivery:
        delivery.take(make_alert())

        assert delivery.drain(PATIENCE_S) == 0
    assert not failures


def test_a_mistake_of_ours_is_logged_once_and_costs_a_connection_but_not_the_thread(monkeypatch, caplog):
    real, mistakes = Outbox.after, [1, 2]

    def after(self, *place):
        if mistakes and len(self):
            mistakes.pop()
            raise ZeroDivisionError
        return real(self, *place)

    monkeypatch.setattr(Outbox, "after", after)
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.take(make_alert())

        assert delivery.flush(PATIENCE_S) == 0
        assert (delivery.facts().broker_state, delivery.facts().connects) == ("connected", 3)
    assert caplog.text.count("Traceback") == 1


def test_a_damaged_outbox_is_set_aside_and_the_service_starts(tmp_path):
    path = tmp_path / "outbox.db"
    path.write_bytes(b"nothing" * 999)

    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=path, sets_aside=True) as delivery:
        delivery.take(make_alert())
        assert delivery.drain(PATIENCE_S) == 0

    assert path.with_name("outbox.db.aside-1").read_bytes() == b"nothing" * 999


def test_a_message_of_a_time_that_nobody_knew_says_so(monkeypatch):
    monkeypatch.setattr(connections, "is_clock_synchronised", lambda: False)
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port)) as delivery:
        delivery.take(make_alert(clock="unsynchronised"))
        assert delivery.drain(PATIENCE_S) == 0
        alert = broker.next()

    penstock = json.loads(alert.payload)["alert"]["context"]["penstock"]
    assert penstock["clock"] == "unsynchronised"
    # The last will and "online": as user properties of MQTT 5.
    assert b"\x00\x05clock\x00\x0eunsynchronised" in broker.sessions[0].connect


def test_a_letter_of_a_format_nobody_knows_is_dropped(tmp_path):
    path = tmp_path / "outbox.db"
    with Delivery(mqtt=settings(free_port()), outbox=path) as delivery:
        delivery.take(make_alert())
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE alerts SET format = 'leef'")
    db.close()

    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=path) as delivery:
        assert delivery.drain(PATIENCE_S) == 0
        assert dict(delivery.facts().dropped)["unsendable"] == 1


# Secrets


def test_a_password_that_changed_on_disk_is_the_one_of_the_next_connection(tmp_path):
    (tmp_path / "secret").write_text("old\n")
    first = MqttSettings.from_url("mqtt://127.0.0.1", gateway="g", user="u", password_file=tmp_path / "secret")

    (tmp_path / "secret").write_text("new\n")
    second = first.refreshed()
    (tmp_path / "secret").unlink()

    assert (first.password, second.password, second.refreshed().password) == ("old", "new", "new")
    assert "new" not in repr(second)


def test_certificates_that_changed_on_disk_are_those_of_the_next_connection(tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("gateway")
    first = MqttSettings.from_url("mqtts://h", gateway="g", ca=authority.ca, cert=cert, key=key)

    cert.write_text("just being written")
    assert first.refreshed() is first
    authority.issue("gateway")
    second = first.refreshed()

    assert second.tls is not first.tls
    assert second.tls.verify_mode == first.tls.verify_mode


def test_settings_without_files_are_never_read_again():
    first = MqttSettings.from_url("mqtt://127.0.0.1", gateway="g", user="u", password="p")

    assert first.refreshed() == first


def test_the_address_comes_before_user_and_password_file(tmp_path):
    (tmp_path / "secret").write_text("from file")
    options = {"gateway": "g", "user": "option", "password_file": tmp_path / "secret"}

    plain = MqttSettings.from_url("mqtt://127.0.0.1", **options)
    named = MqttSettings.from_url("mqtt://address:pw@127.0.0.1", **options)

    assert (plain.user, plain.password) == ("option", "from file")
    assert (named.user, named.password, named.refreshed().password) == ("address", "pw", "pw")


def test_an_unknown_format_is_refused():
    with pytest.raises(UsageError, match="mqtt: format 'leef', wanted one of eve, ecs, ocsf, cef"):
        MqttSettings.from_url("mqtt://127.0.0.1", gateway="g", format="leef")


@pytest.mark.parametrize(
    ("name", "environ", "path"),
    [
        ("mqtt-key", {"CREDENTIALS_DIRECTORY": "/run/c"}, "/run/c/mqtt-key"),
        ("/etc/key", {"CREDENTIALS_DIRECTORY": "/run/c"}, "/etc/key"),
        ("./key", {"CREDENTIALS_DIRECTORY": "/run/c"}, "key"),
        ("..", {"CREDENTIALS_DIRECTORY": "/run/c"}, ".."),
        ("mqtt-key", {}, "mqtt-key"),
        ("mqtt-key", {"CREDENTIALS_DIRECTORY": ""}, "mqtt-key"),
    ],
)
def test_a_bare_name_is_a_credential_of_systemd(name, environ, path):
    assert str(secret_file(name, environ)) == path


def test_an_outbox_that_cannot_be_opened_at_the_start_is_opened_when_it_can(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(committer, "RETRY_S", 0.01)
    path = tmp_path / "mounted later" / "o.db"
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=path, sets_aside=True) as delivery:
        for number in range(5):
            delivery.take(make_alert(number))
        before = until(delivery, lambda facts: facts.outbox_trouble)
        path.parent.mkdir()

        assert delivery.flush(PATIENCE_S) == 0
        after = delivery.facts()

    assert (before.outbox_rows, before.outbox_path, before.delivered) == (5, str(path), 0)
    assert (after.outbox_trouble, after.delivered, delivery.dropped) == ("", 5, 0)
    assert "outbox: takes alerts again" in caplog.text


def test_what_an_outbox_held_before_goes_out_once_it_can_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(committer, "RETRY_S", 0.01)
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "o.db") as delivery:
        delivery.take(make_alert())
    real, failures = Outbox.__init__, [1, 2]

    def opened(self, *place, **how):
        if failures:
            failures.pop()
            raise OutboxError("outbox: read-only file system")
        real(self, *place, **how)

    monkeypatch.setattr(Outbox, "__init__", opened)
    outbox = tmp_path / "o.db"
    with ScriptedBroker() as broker, Delivery(mqtt=settings(broker.port), outbox=outbox, sets_aside=True) as delivery:
        until(delivery, lambda facts: facts.delivered == 1)

        assert delivery.flush(PATIENCE_S) == 0


def test_an_outbox_of_somebody_else_is_refused_at_the_start(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE theirs (x)")

    with pytest.raises(OutboxError, match="another program's database"):
        Delivery(mqtt=settings(free_port()), outbox=tmp_path / "other.db", sets_aside=True).__enter__()


def test_an_outbox_that_never_could_be_opened_loses_what_it_was_given_and_says_so(tmp_path):
    with Delivery(mqtt=settings(free_port()), outbox=tmp_path / "none" / "o.db", sets_aside=True) as delivery:
        delivery.take(make_alert())

    assert (delivery.left, delivery.dropped) == (0, 1)
