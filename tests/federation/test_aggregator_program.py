"""`penstock-aggregator`: commands on a file, what a worker takes and says, metrics, what systemd is told."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from prometheus_client.parser import text_string_to_metric_families

from contracts.bundle import load_bundle, write_manifest
from contracts.errors import ConfigError, ListenError, OutputError
from contracts.update import REASONS
from exporter.sign import make_key
from federation.aggregator import office as offices
from federation.aggregator.ledger import LedgerError
from federation.aggregator.metrics import Board
from federation.aggregator.notify import ALIVE, notify
from federation.aggregator.office import RELEASE_AGAIN_US, UPDATES, Office
from federation.aggregator.post import RECEIVE_MAXIMUM, Incoming, Post
from federation.aggregator.program import main
from federation.aggregator.releasing import _named, kept
from federation.aggregator.settings import BrokerSection, load_config
from federation.aggregator.windows import ServerWindows, server_windows
from federation.aggregator.worker import Worker, client_id, filters
from tests.broker import PATIENCE_S, Broker, NoMosquitto
from tests.federation.homes import DEMO, bundle, engine, hold_out
from tests.federation.house import until
from tests.federation.postgres import Cluster
from tests.federation.private_fleet import key_of, participant
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "federation.md").read_text()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, *, store: str = "") -> Path:
    for name in ("calls", "bundles"):
        make_key(folder / f"{name}.pem")
    path = folder / "aggregator.toml"
    path.write_text(
        f'[fleet]\nname = "homes"\n[broker]\nurl = "mqtt://127.0.0.1:{free_port()}"\n'
        f'[keys]\ncalls = "{folder}/calls.pem"\nbundles = "{folder}/bundles.pem"\n'
        f'[windows]\nteaching = ["{DEMO}"]\njudging = ["{DEMO}"]\n'
        f'[worker]\nstate_dir = "{folder}/state"\nname = "one"\nshare = "workers"\nstore = "{store}"\n'
    )
    return path


@pytest.fixture
def office(config: Path, monkeypatch: pytest.MonkeyPatch):
    """Give an office whose windows are the demo's, without reading captures."""
    monkeypatch.setattr(
        offices, "server_windows",
        lambda *_, **__: ServerWindows(
            teaching=hold_out(), judging=hold_out(), captures=(), values=None, mask=None, label=None
        ),
    )  # fmt: skip
    made = Office(load_config(config))
    yield made
    made.close()


def key_file(folder: Path, name: str = "attic") -> Path:
    path = folder / f"{name}.pub"
    path.write_bytes(
        Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    path.chmod(0o644)
    return path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_gateways_are_enrolled_told_and_revoked(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    key, words = str(key_file(tmp_path)), ("--config", str(config))

    assert said(capsys, "enrol", "attic", key, *words) == (0, "enrolled attic\n", "")
    assert said(capsys, "enrol", "barn", key, *words)[::2] == (
        64, "penstock-aggregator: gateway barn or its key is enrolled, or 10000 are\n",
    )  # fmt: skip
    code, out, _ = said(capsys, "open", *words, "--json")
    assert (code, json.loads(out)) == (0, {"round": 1})
    code, out, _ = said(capsys, "status", *words)
    assert code == 0
    assert "round 1 is open: 0 updates, quorum 3, 7" in out
    assert "  attic: waited for" in out
    assert said(capsys, "revoke", "attic", *words)[0] == 0
    code, out, _ = said(capsys, "status", *words, "--json")
    assert json.loads(out)["gateways"] == [
        {"calibration": None, "has_sent": False, "is_revoked": True, "name": "attic", "release": None}
    ]
    code, out, _ = said(capsys, "log", *words, "--json")
    assert [json.loads(line)["what"] for line in out.splitlines()] == ["enrolled", "opened", "revoked"]


def test_of_a_private_round_it_is_told_who_has_answered_in_its_state_and_at_its_end_who_is_in_the_sum(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Everybody was waited for, whoever had answered: updates are not what such a round is made of."""
    config.write_text(
        config.read_text() + '[rounds]\nmode = "private"\nis_automatic = false\n[rollout]\nis_automatic = false\n'
    )
    names, now_us = ("attic", "barn", "cellar", "dairy"), time.time_ns() // 1000
    office = Office(load_config(config))
    office.windows = ServerWindows(
        teaching=hold_out(), judging=hold_out(), captures=(), values=None, mask=None, label=None
    )
    for name in names:
        office.rounds.enrol(name, key_of(name).public_key(), now_us=now_us)
    office.open_round(now_us=now_us)
    call, _ = office.rounds.opened()
    key = office.rounds.key.public_key()
    members = {
        name: participant(name, call, np.ones(call.header.kept, np.int8), aggregators=(key,)) for name in names[:3]
    }

    def answered() -> tuple[str, list[str]]:
        lines = said(capsys, "status", "--config", str(config))[1].splitlines()
        return lines[1].partition(", quorum")[0], [each.split()[0] for each in lines if each.endswith(": sent")]

    office.take("penstock/v1/attic/federation/up/1", members["attic"].keys(), now_us=now_us)
    assert answered() == ("round 1 is open: keys of 1 gateways", ["attic:"])

    for name in names[1:3]:
        office.take(f"penstock/v1/{name}/federation/up/1", members[name].keys(), now_us=now_us)
    now_us += 72_000_000_000 * 40 // 100  # nobody waits for the fourth any longer
    office.tick(now_us=now_us)
    assert answered() == ("round 1 is open: shares of 0 gateways", [])

    for _ in range(4):
        for name, message in office.masked.outgoing():
            office.take(f"penstock/v1/{name}/federation/up/1", members[name].answer(message), now_us=now_us)
        office.tick(now_us=now_us)
    said_last, sent = answered()
    office.close()
    assert said_last.startswith(("round 1 is adopted: 3 updates", "round 1 is refused: 3 updates"))
    assert sent == ["attic:", "barn:", "cellar:"]


@pytest.mark.parametrize("name", ["", "attic room", "a+b", "#", "../attic", "atti\xe7", "attic\n", "-attic", "a" * 65])
def test_who_has_a_name_that_no_topic_and_no_order_bears_is_not_enrolled(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    """It was, and every worker ended at the next roll-out, at the order to it."""
    code, _, told = said(capsys, "enrol", "--config", str(config), "--", name, str(key_file(tmp_path)))

    assert (code, told.count("\n")) == (64, 1)
    assert "wanted up to 64 letters" in told
    assert '"gateways": []' in said(capsys, "status", "--json", "--config", str(config))[1]


def test_the_store_that_settings_name_is_used_and_what_was_in_another_one_can_be_copied_there(
    cluster: Cluster, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said(capsys, "enrol", "attic", str(key_file(tmp_path)), "--config", str(config))
    said(capsys, "open", "--config", str(config))
    store = cluster.new_store()

    assert said(capsys, "copy", store, "--config", str(config)) == (0, f"copied 6, to {store}\n", "")
    assert said(capsys, "copy", store, "--config", str(config))[::2] == (
        64, f"penstock-aggregator: {store}: holds a fleet already, wanted an empty store\n",
    )  # fmt: skip
    assert said(capsys, "copy", "a.db", "--config", str(config))[::2] == (
        64, "penstock-aggregator: no absolute path, and no URL of postgresql://\n",
    )  # fmt: skip
    (tmp_path / "moved").mkdir()
    moved = written(tmp_path / "moved", store=store)
    (moved.parent / "calls.pem").write_bytes((tmp_path / "calls.pem").read_bytes())
    code, out, _ = said(capsys, "status", "--config", str(moved))
    assert code == 0
    assert "round 1 is open: 0 updates" in out
    assert "  attic: waited for" in out
    assert not (moved.parent / "state" / "aggregator.db").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("halt",), "no roll-out is in canary: nothing to halt"),
        (("rollback", "--why", "x"), "no release is out: nothing to roll back"),
        (("release",), "the fleet's head is that of a release, or of the first bundle: nothing to release"),
        (("revoke", "nobody"), "gateway nobody is not enrolled, or revoked already"),
    ],
)
def test_what_cannot_be_done_is_a_line_and_64(
    config: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
):
    assert said(capsys, *words, "--config", str(config)) == (64, "", f"penstock-aggregator: {complaint}\n")


def test_a_key_that_others_may_read_and_a_setting_that_is_none_end_with_78(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "calls.pem").chmod(0o644)
    code, _, complaint = said(capsys, "status", "--config", str(config))
    assert code == 78
    assert complaint.startswith(f"penstock-aggregator: key: {tmp_path}/calls.pem has mode 0644, wanted 0600")
    config.write_text("[fleet]\n")
    assert said(capsys, "status", "--config", str(config))[0] == 78


def test_help_shows_examples_of_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])

    out = capsys.readouterr().out
    for command in ("run", "status", "enrol", "revoke", "open", "log", "release", "halt", "rollback"):
        assert f"  penstock-aggregator {command}" in out


def test_captures_that_teach_must_not_judge(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"windows\.judging: .* teaches as well"):
        server_windows(bundle(), engine(), teaching=[DEMO], judging=[DEMO], cache=tmp_path)


def test_messages_are_taken_by_topic(office: Office):
    assert office.take("penstock/v1/attic/update/1", b"noise", now_us=1) == "refused"
    assert office.take("penstock/v1/attic/federation/up/1", b"noise", now_us=1) == "refused"
    assert office.take("penstock/v1/attic/status", b"{}", now_us=1) == "foreign"
    assert office.take("penstock/v1/attic/alert/scan", b"{}", now_us=1) == "foreign"
    assert office.take("elsewhere", b"", now_us=1) == "foreign"
    assert sum(office.ledger.counters().values()) == 4  # two refusals, each counted and logged


def test_an_automatic_office_opens_rounds_one_after_the_other(office: Office):
    office.tick(now_us=1_800_000_000_000_000)
    told = {each.topic: each.content() for each in office.sayings(now_us=0)}

    assert sorted(told) == ["penstock/v1/fleet/homes/anchors", "penstock/v1/fleet/homes/round"]
    assert office.ledger.rows("SELECT number, state FROM rounds") == [(1, "open")]
    day = 1_800_000_000_000_000 + 20 * 3_600_000_000
    office.tick(now_us=day)
    assert office.ledger.rows("SELECT number, state FROM rounds") == [(1, "void")]  # 20 hours, and a day is not over
    office.tick(now_us=day + 4 * 3_600_000_000)
    assert office.ledger.rows("SELECT number, state FROM rounds") == [(1, "void"), (2, "open")]


def test_what_is_not_on_disk_is_not_acknowledged_and_tried_again(office: Office, monkeypatch: pytest.MonkeyPatch):
    worker = Worker(office)
    acknowledged: list[int] = []
    monkeypatch.setattr(worker.post, "acknowledge", lambda incoming: acknowledged.append(incoming.number))
    worker._waiting.append(Incoming("penstock/v1/attic/update/1", b"noise", 7, 1))
    full = pytest.MonkeyPatch()
    full.setattr(office, "take", lambda *_, **__: (_ for _ in ()).throw(LedgerError("disk is full")))

    worker._guarded(worker._take_waiting)
    assert (acknowledged, len(worker._waiting)) == ([], 1)
    full.undo()
    worker._guarded(worker._take_waiting)

    assert (acknowledged, len(worker._waiting)) == ([7], 0)


@pytest.mark.parametrize("error", [OutputError("bundles: no space left"), OSError(28, "No space left on device")])
def test_where_a_disk_takes_no_bundle_rounds_go_on_and_it_is_tried_again_later(
    office: Office, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    tries = []
    monkeypatch.setattr(Office, "_released", lambda self: set())

    def full(self: Office, *, now_us: int) -> None:
        tries.append(now_us)
        raise error

    monkeypatch.setattr(Office, "release", full)
    times = [1_000_000, 2_000_000, 1_000_000 + RELEASE_AGAIN_US]

    for now_us in times:
        office.tick(now_us=now_us)

    assert tries == [times[0], times[2]]
    assert office.ledger.rows("SELECT number, state FROM rounds") == [(1, "open")]


def test_a_turn_that_a_full_disk_ends_is_no_end_of_the_worker(office: Office, capsys: pytest.CaptureFixture[str]):
    worker = Worker(office)

    def full() -> None:
        raise OSError(28, "No space left on device")

    for _ in range(3):
        worker._guarded(full)

    assert capsys.readouterr().err.count("No space left on device") == 1


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), Path.unlink])
def test_a_bundle_that_a_power_cut_left_in_pieces_is_unpacked_once_more(office: Office, tmp_path: Path, damage):
    newer = tmp_path / "newer"
    shutil.copytree(bundle().path, newer)
    write_manifest(newer, bundle().manifest.model_copy(update={"release": bundle().manifest.release + 1}))
    office.rollouts.begin(load_bundle(newer), head_sha256="c" * 64, now_us=1)
    release = office.rollouts.releases()[0]
    state_dir = office.config.worker.state_dir
    first = kept(state_dir, office.base, office.rollouts, release)
    for path in list(first.path.iterdir()):
        damage(path)

    again = kept(state_dir, office.base, office.rollouts, release)

    assert (again.path, again.manifest_sha256, again.model) == (first.path, first.manifest_sha256, first.model)


def test_several_workers_have_a_session_each_and_share_updates(office: Office):
    assert client_id(office) == "penstock-aggregator-homes-one"
    assert filters(office) == {
        "$share/workers/penstock/v1/+/update/+": False,
        "$share/workers/penstock/v1/+/federation/up/+": False,
        "penstock/v1/+/status": True,
    }


def page_of(facts: dict) -> dict[str, dict[tuple[str, ...], float]]:
    board, port = Board(), free_port()
    board.post(facts)
    stop = board.serve(port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as answer:
            text = answer.read().decode()
    finally:
        stop()
    return {
        family.name: {tuple(each.labels.values()): each.value for each in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_metrics_count_what_the_ledger_does_and_name_nobody(office: Office, tmp_path: Path):
    for name in ("attic", "barn"):
        key = Ed25519PrivateKey.generate().public_key()
        office.rounds.enrol(name, key, now_us=1)
    office.rounds.revoke("barn", now_us=1)
    office.open_round(now_us=time.time_ns() // 1000)
    office.take("penstock/v1/attic/update/1", b"noise" * 20, now_us=1)
    facts = office.facts(now_us=1) | {"broker": {"is_connected": True, "connects": 2, "refusals": 0}}

    page = page_of(facts)

    assert page["penstock_aggregator_gateways"] == {("enrolled",): 1.0, ("revoked",): 1.0}
    assert page["penstock_aggregator_refused_updates"][("foreign",)] == 1.0
    assert set(page["penstock_aggregator_refused_updates"]) == {(reason,) for reason in REASONS}
    assert page["penstock_aggregator_round"] == {(): 1.0}
    assert page["penstock_aggregator_round_open"] == {(): 1.0}
    assert page["penstock_aggregator_connects"] == {(): 2.0}
    labels = {value for series in page.values() for values in series for value in values}
    assert not labels & {"attic", "barn", "homes"}


def test_every_metric_is_in_the_docs(office: Office):
    facts = office.facts(now_us=1) | {"broker": {"is_connected": False, "connects": 0, "refusals": 0}}

    missing = [name for name in page_of(facts) if f"`{name.removeprefix('penstock_aggregator_')}" not in PAGE]

    assert missing == []


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1, port {port}"):
            Board().serve(port)


def test_a_broker_beyond_this_machine_wants_tls():
    with pytest.raises(ConfigError, match=r"broker\.url: 192\.0\.2\.1 is beyond this machine"):
        Post(BrokerSection(url="mqtt://192.0.2.1"), client_id="x", filters={})


def test_certificates_that_are_none_are_named(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"broker\.ca: .*ca\.pem: not what it must be, wanted a certificate in PEM"):
        Post(BrokerSection(url="mqtts://x", ca=tmp_path / "ca.pem"), client_id="x", filters={})
    with pytest.raises(ConfigError, match=r"broker\.ca: .*gone\.pem: No such file"):
        Post(BrokerSection(url="mqtts://x", ca=tmp_path / "gone.pem"), client_id="x", filters={})


def test_a_broker_that_is_away_is_tried_again(tmp_path: Path):
    post = Post(BrokerSection(url=f"mqtt://127.0.0.1:{free_port()}"), client_id="x", filters={})

    assert not post.open()
    assert post.next(0.01) is None
    post.close()


def test_a_file_that_cannot_be_read_just_now_is_tried_again_too(office: Office, monkeypatch: pytest.MonkeyPatch):
    worker, broken = Worker(office), sqlite3.connect(":memory:")
    with monkeypatch.context() as patch:
        patch.setattr(office.ledger._store, "_db", broken)  # no such table, as any other error of a disk
        worker._guarded(lambda: office.facts(now_us=0))
    assert "cannot be read" in worker._trouble

    worker._guarded(lambda: office.facts(now_us=0))

    assert worker._trouble == ""
    broken.close()


def test_what_is_said_at_qos_0_while_we_are_busy_fills_no_memory():
    post = Post(BrokerSection(url="mqtt://127.0.0.1"), client_id="x", filters={})
    for qos in (0, 1):
        said = MQTTMessage(topic=b"penstock/v1/attic/status")
        said.payload, said.qos = b"{}", qos
        for _ in range(RECEIVE_MAXIMUM + 10 * (1 - qos)):
            post._on_message(None, None, said)

    assert post.left_out == 10
    assert post._inbox.qsize() == 2 * RECEIVE_MAXIMUM


def test_what_a_session_held_comes_whole_and_in_order_and_no_more_of_it_waits_than_we_told(tmp_path: Path):
    """A broker sends what a session held all at once, whatever maximum it was told."""
    try:
        broker = Broker(tmp_path, "allow_anonymous true", "max_queued_messages 1000").start()
    except NoMosquitto as exc:
        pytest.skip(str(exc))
    settings = BrokerSection(url=f"mqtt://127.0.0.1:{broker.port}")
    gateway = Client(CallbackAPIVersion.VERSION2, client_id="attic", protocol=MQTTProtocolVersion.MQTTv5)
    try:
        is_heard = threading.Event()
        before = Post(settings, client_id="aggregator", filters={UPDATES: False})
        before._client.on_subscribe = lambda *_: is_heard.set()
        assert before.open()
        until(is_heard.is_set, what="a session")
        before.close()
        gateway.connect("127.0.0.1", broker.port)
        gateway.loop_start()
        wanted = [str(number).encode() for number in range(6 * RECEIVE_MAXIMUM)]
        for payload in wanted:
            gateway.publish("penstock/v1/attic/update/1", payload, qos=1).wait_for_publish(PATIENCE_S)

        post = Post(settings, client_id="aggregator", filters={UPDATES: False})
        assert post.open()
        until(lambda: post._inbox.qsize() == RECEIVE_MAXIMUM, what="as many as we told")
        seen, most = [], 0
        while len(seen) < len(wanted):
            most = max(most, post._inbox.qsize())
            incoming = post.next(PATIENCE_S)
            assert incoming is not None
            seen.append(incoming.payload)
            post.acknowledge(incoming)

        assert seen == wanted
        assert (most, post.connects, post.left_out) == (RECEIVE_MAXIMUM, 1, 0)
        post.close()
    finally:
        gateway.disconnect()
        gateway.loop_stop()
        broker.stop()


def test_who_takes_leave_while_more_comes_than_we_told_does_not_hang():
    post = Post(BrokerSection(url="mqtt://127.0.0.1"), client_id="x", filters={})
    said = MQTTMessage(mid=1, topic=b"penstock/v1/attic/status")
    said.payload, said.qos = b"{}", 1
    paho = threading.Thread(target=lambda: [post._on_message(None, None, said) for _ in range(RECEIVE_MAXIMUM + 1)])
    paho.start()
    until(lambda: post._owed == RECEIVE_MAXIMUM, what="as many as we told")
    assert paho.is_alive()

    post.close()

    paho.join(PATIENCE_S)
    assert not paho.is_alive()


def test_who_says_something_at_qos_0_does_not_have_the_broker_hang_up_on_us(tmp_path: Path):
    """It was acknowledged by number 0, at which a broker ends the connection; anybody could have it do so for ever."""
    try:
        broker = Broker(tmp_path, "allow_anonymous true").start()
    except NoMosquitto as exc:
        pytest.skip(str(exc))
    settings = BrokerSection(url=f"mqtt://127.0.0.1:{broker.port}")
    post = Post(settings, client_id="aggregator", filters={UPDATES: False})
    gateway = Client(CallbackAPIVersion.VERSION2, client_id="attic", protocol=MQTTProtocolVersion.MQTTv5)
    is_heard = threading.Event()
    post._client.on_subscribe = lambda *_: is_heard.set()
    try:
        assert post.open()
        gateway.connect("127.0.0.1", broker.port)
        gateway.loop_start()
        until(lambda: is_heard.is_set() and gateway.is_connected(), what="both at the broker")
        seen = []
        for qos in (0, 1) * 20:
            gateway.publish("penstock/v1/attic/update/1", str(qos).encode(), qos=qos)
            incoming = post.next(PATIENCE_S)
            assert incoming is not None
            post.acknowledge(incoming)
            seen.append((incoming.payload, incoming.connection))

        assert seen == [(b"0", 1), (b"1", 1)] * 20
        assert (post.connects, post._owed) == (1, 0)
    finally:
        gateway.disconnect()
        gateway.loop_stop()
        post.close()
        broker.stop()


def test_what_comes_at_qos_2_which_nobody_asked_for_ends_the_connection():
    post = Post(BrokerSection(url="mqtt://127.0.0.1"), client_id="x", filters={})
    post._client._in_packet.update(command=0x34, packet=bytearray(b"\x00\x01a\x00\x01\x00x"), remaining_length=7)

    assert post._client._packet_handle() == MQTTErrorCode.MQTT_ERR_PROTOCOL
    assert not post._client._in_messages


def test_a_packet_that_does_not_hold_together_ends_a_connection_and_not_us():
    post = Post(BrokerSection(url="mqtt://127.0.0.1"), client_id="x", filters={})
    post._client._in_packet.update(command=0x30, packet=bytearray(b"\x00"), remaining_length=1)

    assert post._client._packet_handle() == MQTTErrorCode.MQTT_ERR_PROTOCOL


def test_systemd_is_told_and_nobody_else(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notify(ALIVE, {"NOTIFY_SOCKET": str(tmp_path / "notify")})

        assert manager.recv(100) == b"WATCHDOG=1"
    notify(ALIVE, {})
    notify(ALIVE, {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_a_release_is_built_once_though_two_workers_want_it(tmp_path: Path):
    draft = tmp_path / "bundles" / "draft"
    for name in ("one", "two"):
        draft.mkdir(parents=True)
        (draft / name).write_text(name)
        folder = _named(draft, "a" * 64)
        assert folder == tmp_path / "bundles" / ("a" * 64)
    assert [path.name for path in folder.iterdir()] == ["one"]
    assert not draft.exists()
