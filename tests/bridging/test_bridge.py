"""The loop of a bridge against a real mosquitto: what is written, what comes again, what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading

import pytest

from agent.bridging.session import MOST_UNACKNOWLEDGED, Session
from agent.delivery import Delivery, EveFile, MqttSettings
from contracts.errors import OutputError
from contracts.eve import render_eve
from tests.alerts import make_alert
from tests.bridging.messages import Crank, ids, numbered, publisher, settings_of
from tests.broker import PATIENCE_S

pytestmark = pytest.mark.needs_broker

TOPIC = "penstock/v1/replay/alert/brute_force"


def agents(port: int) -> MqttSettings:
    return MqttSettings.from_url(f"mqtt://127.0.0.1:{port}", gateway="replay")


def test_the_file_of_a_bridge_holds_exactly_the_lines_of_the_agents_own(broker, tmp_path):
    running = broker().start()

    with Crank(running.port, tmp_path / "siem.json") as crank:
        with Delivery(eve=EveFile(str(tmp_path / "eve.json")), mqtt=agents(running.port)) as delivery:
            for number in range(500):
                delivery.publish(numbered(number))
            assert delivery.drain(PATIENCE_S) == 0
        crank.until(lambda: crank.heard == 500)

    assert (tmp_path / "siem.json").read_text() == (tmp_path / "eve.json").read_text()
    assert str(crank.bridge.counts) == "500 alerts written, 0 came again, 0 refused"


def test_what_is_published_while_the_bridge_is_away_waits_for_it(broker, tmp_path):
    running = broker().start()
    with Crank(running.port, tmp_path / "siem.json"):
        pass  # from here on the broker keeps a session

    with publisher(running.port) as publish:
        for number in range(50):
            publish(TOPIC, render_eve(numbered(number)).encode())
    with Crank(running.port, tmp_path / "siem.json") as crank:
        crank.until(lambda: crank.heard == 50)

    assert ids(tmp_path / "siem.json") == [numbered(number).alert_id for number in range(50)]


class FullDisk:
    """A target that takes two alerts and then none until `room` says so; `sync` may fail too."""

    def __init__(self) -> None:
        self.room = 2
        self.lines: list[str] = []
        self.forced = 0
        self.syncs_fail = False

    def write(self, alert) -> None:
        if len(self.lines) >= self.room:
            raise OutputError("eve: full")
        self.lines.append(alert.alert_id)

    def sync(self) -> None:
        if self.syncs_fail:
            raise OutputError("eve: input/output error")
        self.forced = len(self.lines)

    def tick(self) -> None: ...

    def reopen(self) -> None: ...

    def close(self) -> None: ...


def test_what_cannot_be_written_is_not_acknowledged_and_waits_at_the_broker(broker, tmp_path):
    running = broker().start()
    full = FullDisk()
    with Crank(running.port, full) as crank, publisher(running.port) as publish:
        for number in range(5):
            publish(TOPIC, render_eve(numbered(number)).encode())
        crank.until(lambda: crank.bridge.counts.written == 2 and not crank.bridge.has_all)

    with Crank(running.port, tmp_path / "siem.json") as crank:
        crank.until(lambda: crank.heard == 3)

    assert full.lines == [numbered(number).alert_id for number in range(2)]
    assert ids(tmp_path / "siem.json") == [numbered(number).alert_id for number in range(2, 5)]


def test_the_bridge_goes_on_by_itself_when_there_is_room_again(broker):
    running = broker().start()
    full = FullDisk()
    with Crank(running.port, full) as crank, publisher(running.port) as publish:
        for number in range(5):
            publish(TOPIC, render_eve(numbered(number)).encode())
        crank.until(lambda: crank.bridge.counts.written == 2 and not crank.bridge.has_all)
        full.room = 100
        crank.until(lambda: crank.heard == 5)

    assert full.lines == [numbered(number).alert_id for number in range(5)]
    assert full.forced == 5


def test_a_group_that_did_not_reach_the_disk_is_written_once_more_and_only_then_acknowledged(broker):
    running = broker().start()
    full = FullDisk()
    full.room, full.syncs_fail = 100, True
    with Crank(running.port, full) as crank, publisher(running.port) as publish:
        publish(TOPIC, render_eve(numbered(0)).encode())
        crank.until(lambda: len(full.lines) == 2)  # written again, and still not on disk
        assert crank.bridge.counts.written == 0
        full.syncs_fail = False
        crank.until(lambda: crank.heard == 1)

    assert set(full.lines) == {numbered(0).alert_id}
    assert crank.bridge.counts.repeated == 0


def test_an_alert_that_comes_twice_is_written_once_also_over_a_restart(broker, tmp_path):
    running = broker().start()
    line = render_eve(numbered(1)).encode()
    with publisher(running.port) as publish:
        with Crank(running.port, tmp_path / "siem.json") as crank:
            publish(TOPIC, line)
            publish(TOPIC, line)
            crank.until(lambda: crank.heard == 2)
            first = str(crank.bridge.counts)
        with Crank(running.port, tmp_path / "siem.json") as crank:
            publish(TOPIC, line)
            crank.until(lambda: crank.heard == 1)

    assert first == "1 alerts written, 1 came again, 0 refused"
    assert str(crank.bridge.counts) == "0 alerts written, 1 came again, 0 refused"
    assert ids(tmp_path / "siem.json") == [numbered(1).alert_id]


def test_no_message_is_acknowledged_before_its_line_is_forced_to_disk(broker, tmp_path, monkeypatch):
    running = broker().start()
    path = tmp_path / "siem.json"
    on_disk: set[str] = set()
    early: list[str] = []
    acknowledged: list[str] = []
    force, settle = os.fdatasync, Session.settle

    def forced(fd: int) -> None:
        force(fd)
        on_disk.update(ids(path))

    def settled(session: Session, heard) -> None:
        alert_id = json.loads(heard.payload)["alert"]["context"]["penstock"]["alert_id"]
        acknowledged.append(alert_id)
        early.extend([alert_id] if alert_id not in on_disk else [])
        settle(session, heard)

    monkeypatch.setattr(os, "fdatasync", forced)
    monkeypatch.setattr(Session, "settle", settled)
    with Crank(running.port, path) as crank, publisher(running.port) as publish:
        for number in range(100):
            publish(TOPIC, render_eve(numbered(number)).encode())
        crank.until(lambda: crank.heard == 100)

    assert acknowledged == [numbered(number).alert_id for number in range(100)]
    assert early == []


HOSTILE = [
    ("json", TOPIC, b"\x00\xff not JSON"),
    ("json", TOPIC, b""),
    ("oversize", TOPIC, b"[" * 60_000),
    ("schema", TOPIC, b"{}"),
    ("schema", TOPIC, json.dumps({**json.loads(render_eve(make_alert())), "more": 1}).encode()),
    ("topic", "penstock/v1/re play/alert/scan", render_eve(make_alert()).encode()),
    ("mismatch", "penstock/v1/other/alert/brute_force", render_eve(make_alert()).encode()),
    ("mismatch", "penstock/v1/replay/alert/scan", render_eve(make_alert()).encode()),
]


def test_hostile_messages_are_counted_by_reason_and_stop_nothing(broker, tmp_path):
    running = broker().start()

    with Crank(running.port, tmp_path / "siem.json") as crank, publisher(running.port) as publish:
        for number, (_, topic, payload) in enumerate(HOSTILE):
            publish(topic, payload)
            publish(TOPIC, render_eve(numbered(number)).encode())
        crank.until(lambda: crank.heard == 2 * len(HOSTILE))

    assert ids(tmp_path / "siem.json") == [numbered(number).alert_id for number in range(len(HOSTILE))]
    assert crank.bridge.counts.refused == {"json": 2, "oversize": 1, "schema": 2, "topic": 1, "mismatch": 2}


def test_a_retained_alert_is_not_taken_for_a_new_one(broker, tmp_path):
    running = broker().start()
    with publisher(running.port) as publish:
        publish(TOPIC, render_eve(numbered(0)).encode(), retain=True)
        with Crank(running.port, tmp_path / "siem.json") as crank:
            publish(TOPIC, render_eve(numbered(1)).encode())
            crank.until(lambda: crank.heard >= 1)

    assert ids(tmp_path / "siem.json") == [numbered(1).alert_id]


def test_only_the_gateways_asked_for_are_heard(broker, tmp_path):
    running = broker().start()

    with (
        Crank(running.port, tmp_path / "siem.json", gateways=("cellar", "roof")) as crank,
        publisher(running.port) as publish,
    ):
        for number, host in enumerate(["attic", "cellar", "roof"]):
            publish(f"penstock/v1/{host}/alert/brute_force", render_eve(numbered(number, host=host)).encode())
        crank.until(lambda: crank.heard == 2)

    assert ids(tmp_path / "siem.json") == [numbered(1).alert_id, numbered(2).alert_id]


def test_files_rotate_and_together_hold_every_alert(broker, tmp_path):
    running = broker().start()
    size = 10 * len(render_eve(numbered(0)))

    with (
        Crank(running.port, tmp_path / "siem.json", rotate_bytes=size, keep_files=20) as crank,
        publisher(running.port) as publish,
    ):
        for number in range(60):
            publish(TOPIC, render_eve(numbered(number)).encode())
        crank.until(lambda: crank.heard == 60)

    files = sorted(tmp_path.glob("siem.json*"))
    assert len(files) >= 6
    found = [each for file in files for each in ids(file)]
    assert sorted(found) == sorted(numbered(number).alert_id for number in range(60))


def test_a_file_that_logrotate_moved_is_begun_anew(broker, tmp_path):
    running = broker().start()
    path = tmp_path / "siem.json"

    with Crank(running.port, path) as crank, publisher(running.port) as publish:
        publish(TOPIC, render_eve(numbered(0)).encode())
        crank.until(lambda: crank.heard == 1)
        path.rename(tmp_path / "moved.json")
        crank.bridge.reopen()
        publish(TOPIC, render_eve(numbered(1)).encode())
        crank.until(lambda: crank.heard == 2)

    assert ids(tmp_path / "moved.json") == [numbered(0).alert_id]
    assert ids(path) == [numbered(1).alert_id]


def test_a_broker_that_is_there_only_later_is_found(broker, tmp_path):
    made = broker()
    crank = Crank(made.port, tmp_path / "siem.json")
    crank.until(lambda: "refused" in crank.bridge.reason)

    made.start()

    with crank:
        assert crank.bridge.reason == f"127.0.0.1:{made.port}: connected"


def test_a_password_that_is_wrong_is_a_refusal_that_ends_when_it_is_put_right(broker, tmp_path, monkeypatch):
    made = broker("allow_anonymous false", "password_file passwords")
    made.password_file("siem", "right")
    made.start()
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    crank = Crank(made.port, tmp_path / "siem.json")
    crank.bridge._settings = settings_of(made.port, user="siem", password_file=secret)

    crank.until(lambda: crank.bridge.is_refused)
    secret.write_text("right\n")

    with crank:
        assert not crank.bridge.is_refused


def test_a_last_line_that_a_power_cut_tore_is_cut_off_and_comes_again(broker, tmp_path):
    running = broker().start()
    path = tmp_path / "siem.json"
    torn = render_eve(numbered(1))
    path.write_text(f"{render_eve(numbered(0))}\n{torn[:700]}")

    with Crank(running.port, path) as crank, publisher(running.port) as publish:
        publish(TOPIC, torn.encode())
        crank.until(lambda: crank.heard == 1)

    assert path.read_text() == f"{render_eve(numbered(0))}\n{torn}\n"


def test_a_file_without_lines_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(b"\0" * 10_000)

    with pytest.raises(OutputError, match="not a file of alerts"):
        Crank(1, path)

    assert path.read_bytes() == b"\0" * 10_000


def test_more_messages_at_once_than_fit_wait_in_the_connection_and_all_come(broker, tmp_path):
    """mosquitto sends what a session holds in one go where its own window is off, whatever a subscriber can bear."""
    running = broker("max_inflight_messages 0", "max_queued_messages 100000").start()
    with Crank(running.port, tmp_path / "siem.json"):
        pass
    many = 4 * MOST_UNACKNOWLEDGED
    with publisher(running.port) as publish:
        for number in range(many):
            publish(TOPIC, render_eve(numbered(number)).encode())

    with Crank(running.port, tmp_path / "siem.json") as crank:
        crank.until(lambda: crank.heard >= many)

    assert ids(tmp_path / "siem.json") == [numbered(number).alert_id for number in range(many)]
    assert crank.bridge.counts.connects == 1


def test_a_bridge_that_cannot_write_ends_all_the_same_while_the_broker_sends(broker):
    running = broker("max_inflight_messages 0", "max_queued_messages 100000").start()
    full = FullDisk()
    full.room = 0
    with Crank(running.port, full) as crank, publisher(running.port) as publish:
        for number in range(2 * MOST_UNACKNOWLEDGED):
            publish(TOPIC, render_eve(numbered(number)).encode())
        crank.until(lambda: len(crank.bridge._waiting) == MOST_UNACKNOWLEDGED)

    assert crank.bridge.counts.written == 0


def a_hostile_broker(first: bytes):
    """Return a server on the loopback that answers CONNECT with these octets; give its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            with link, contextlib.suppress(ConnectionError):
                link.recv(4096)
                link.sendall(first)
                link.recv(4096)

    threading.Thread(target=serve, daemon=True).start()
    return server


CONNACK, SUBACK = b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x01"


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\x30\xff\xff\xff\x7f", id="a packet of 256 MiB"),
        pytest.param(b"HTTP/1.1 400\r\n\r\n", id="no MQTT"),
        pytest.param(b"\x00" * 64, id="zeros"),
        pytest.param(CONNACK + b"\x30\xff\xff\xff\x7f", id="a packet of 256 MiB after CONNACK"),
        pytest.param(CONNACK + SUBACK + b"\x30\xff\xff\xff\x7f", id="a packet of 256 MiB after SUBACK"),
        pytest.param(CONNACK + SUBACK + b"\x32\x02\x00\xff", id="a message shorter than its topic"),
        pytest.param(CONNACK + SUBACK + b"\x32\x00", id="a message of nothing"),
    ],
)
def test_a_hostile_broker_costs_neither_memory_nor_the_bridge(octets, tmp_path):
    with a_hostile_broker(octets) as server:
        crank = Crank(server.getsockname()[1], tmp_path / "siem.json", connect_timeout_s=2.0)
        crank.until(lambda: "not reached yet" not in crank.bridge.reason and ": connected" not in crank.bridge.reason)
        server.shutdown(socket.SHUT_RDWR)

    assert not crank.bridge.is_subscribed
    crank.bridge.close()
