"""`penstock bridge` as a process: killed, stopped, let in by certificate, writing to pipes and syslog servers."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import cli
from agent.commands import bridge as command
from agent.delivery import Delivery, MqttSettings
from contracts.errors import BrokerRefused, BrokerUnavailable, OutputError, UsageError
from contracts.eve import render_eve
from tests.bridging.messages import ids, ids_so_far, numbered, publisher
from tests.broker import PATIENCE_S, Broker
from tests.delivery.certificates import Authority
from tests.ports import free_port

pytestmark = pytest.mark.needs_broker

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "mosquitto"
LONG_S = 120.0  # a guard against hanging on a busy machine
TOPIC = "penstock/v1/replay/alert/brute_force"


class Process:
    """One `penstock bridge`; `said` is what it told on standard error, line by line."""

    def __init__(self, *options: str, stdout: int = subprocess.DEVNULL) -> None:
        self.said: list[str] = []
        self.connects = 0
        arguments = [sys.executable, "-m", "agent.cli", "bridge", *options]
        self.process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, umask=0o022
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            self.connects += ": connected to " in line

    def connected(self, *, times: int = 1) -> Process:
        """Return when a broker has taken it so many times."""
        deadline_s = time.monotonic() + LONG_S
        while self.connects < times:
            assert time.monotonic() < deadline_s, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        return self

    def end(self, number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        return code


@contextlib.contextmanager
def bridge(*options: str, stdout: int = subprocess.DEVNULL) -> Iterator[Process]:
    """Run one, connected, and end it with the block."""
    running = Process(*options, stdout=stdout)
    try:
        yield running.connected()
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)


@contextlib.contextmanager
def stream(port: int) -> Iterator[list[str]]:
    """Let an agent's delivery send alerts, a hundred a second, until the block ends and all are acknowledged.

    Give the ids it took.
    """
    taken: list[str] = []
    stop = threading.Event()
    settings = MqttSettings.from_url(f"mqtt://127.0.0.1:{port}", gateway="replay", max_backoff_s=0.3, window=5)
    with Delivery(mqtt=settings) as delivery:

        def run() -> None:
            while not stop.wait(0.01):
                alert = numbered(len(taken))
                delivery.take(alert)
                taken.append(alert.alert_id)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield taken
        finally:
            stop.set()
            thread.join()
        assert delivery.drain(LONG_S) == 0


def wait_for(path: Path, wanted: list[str]) -> None:
    """Return when a file holds all these ids, or fail."""
    deadline_s = time.monotonic() + LONG_S
    while missing := set(wanted) - set(ids_so_far(path)):
        assert time.monotonic() < deadline_s, f"{len(missing)} of {len(wanted)} alerts are missing"
        time.sleep(0.1)


def wait_for_save(running: Broker) -> None:
    """Return when the broker has put on disk what it knows by now, sessions among it."""
    saved, began_s = running.folder / "mosquitto.db", time.time()
    deadline_s = time.monotonic() + PATIENCE_S
    while not saved.exists() or saved.stat().st_mtime <= began_s + 0.1:  # not one that was on its way already
        assert time.monotonic() < deadline_s, "the broker saves nothing"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_bridge_killed_amid_a_stream_loses_nothing_and_writes_nothing_twice(broker, tmp_path):
    running = broker("max_queued_messages 100000").start()
    path = tmp_path / "siem.json"
    options = ("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", str(path))
    dice = random.Random(7)

    with bridge(*options) as first, stream(running.port) as taken:
        time.sleep(0.3)
        first.end(signal.SIGKILL)
        for _ in range(4):
            with bridge(*options):
                time.sleep(0.2 + 0.3 * dice.random())
    with bridge(*options):
        wait_for(path, taken)

    found = ids(path)
    assert len(taken) > 100
    assert set(found) == set(taken)
    assert len(found) == len(taken)  # the file itself is the memory of what was written


@pytest.mark.slow
def test_a_broker_killed_and_started_again_amid_a_stream_costs_no_alert(broker, tmp_path):
    """It had saved the session; what it acknowledged to the agent while the bridge was there, it had handed on before.

    What waits in a broker's memory for a bridge that is away or behind dies with it: that is the broker's promise.
    """
    running = broker("autosave_interval 1", "max_inflight_messages 0", "max_queued_messages 100000")
    conf = running.folder / "mosquitto.conf"
    conf.write_text(conf.read_text().replace("persistence false", "persistence true"))
    running.start()
    path = tmp_path / "siem.json"

    with bridge("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", str(path)) as carrying:
        wait_for_save(running)
        with stream(running.port) as taken:
            for number in range(5):
                carrying.connected(times=1 + number)
                wait_for(path, list(taken))  # nothing but what is on its way waits at the broker
                time.sleep(0.4)
                running.kill()
                running.start()
        wait_for(path, taken)
        carrying.connected(times=6)
        code = carrying.end(signal.SIGTERM)

    assert len(taken) > 50
    assert set(ids(path)) == set(taken)
    assert len(ids(path)) == len(taken)
    assert code == 0
    assert carrying.connects == 6


def test_sigterm_ends_in_order_and_says_what_was_done(broker, tmp_path):
    running = broker().start()
    path = tmp_path / "siem.json"

    with (
        bridge("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", str(path)) as carrying,
        publisher(running.port) as publish,
    ):
        for number in range(20):
            publish(TOPIC, render_eve(numbered(number)).encode())
        publish(TOPIC, b"{")
        wait_for(path, [numbered(number).alert_id for number in range(20)])
        code = carrying.end(signal.SIGTERM)

    assert code == 0
    assert not any("connection lost" in line for line in carrying.said)
    assert carrying.said[-1].endswith("20 alerts written, 0 came again, 1 refused (json 1)")
    assert path.stat().st_mode & 0o777 == 0o640


def test_sighup_lets_go_of_a_file_that_was_moved(broker, tmp_path):
    running = broker().start()
    path = tmp_path / "siem.json"

    with (
        bridge("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", str(path)) as carrying,
        publisher(running.port) as publish,
    ):
        publish(TOPIC, render_eve(numbered(0)).encode())
        wait_for(path, [numbered(0).alert_id])
        path.rename(tmp_path / "moved")
        carrying.process.send_signal(signal.SIGHUP)
        publish(TOPIC, render_eve(numbered(1)).encode())
        deadline_s = time.monotonic() + PATIENCE_S
        while numbered(1).alert_id not in ids_so_far(path) + ids_so_far(tmp_path / "moved"):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    assert sorted(ids(path) + ids(tmp_path / "moved")) == [numbered(number).alert_id for number in range(2)]


def run(*options: str) -> int:
    return int(command.run(cli.build_parser(["bridge"]).parse_args(["bridge", *options])))


def test_once_takes_what_waits_and_ends(broker, tmp_path, monkeypatch):
    running = broker().start()
    monkeypatch.setattr(command, "ONCE_QUIET_S", 3.0)
    options = ("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", str(tmp_path / "siem.json"), "--once")
    assert run(*options) == 0  # from here on the broker keeps a session

    with publisher(running.port) as publish:
        for number in range(300):
            publish(TOPIC, render_eve(numbered(number)).encode())

    wanted = [numbered(number).alert_id for number in range(300)]
    assert run(*options) == 0
    deadline_s = time.monotonic() + LONG_S
    while len(ids(tmp_path / "siem.json")) < len(wanted):  # it was quiet for so long that the rest was left for later
        assert time.monotonic() < deadline_s
        assert run(*options) == 0
    assert ids(tmp_path / "siem.json") == wanted


def test_once_without_a_broker_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "ONCE_PATIENCE_S", 0.2)
    options = ("--mqtt", f"mqtt://127.0.0.1:{free_port()}", "--eve", str(tmp_path / "siem.json"), "--once")

    with pytest.raises(BrokerUnavailable, match="Connection refused"):
        run(*options)


def test_once_with_a_wrong_password_is_refused(broker, tmp_path, monkeypatch):
    made = broker("allow_anonymous false", "password_file passwords")
    made.password_file("siem", "right")
    made.start()
    (tmp_path / "secret").write_text("wrong\n")
    place = f"mqtt://siem@127.0.0.1:{made.port}"
    options = ("--mqtt", place, "--mqtt-password-file", str(tmp_path / "secret"), "--eve", "x", "--once")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BrokerRefused, match=r"[Nn]ot authori[sz]ed"):
        run(*options)


def test_a_duration_ends_it_without_error(broker, tmp_path):
    running = broker().start()

    assert run("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", str(tmp_path / "e"), "--duration", "0.1") == 0


@pytest.fixture
def guarded(broker, tmp_path) -> tuple[Broker, Authority]:
    """Give the broker of deploy/mosquitto, with nothing changed but paths and the port, and who signs its guests."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("broker")
    acl = tmp_path / "acl"
    acl.write_text((SAMPLE / "penstock.acl").read_text())
    acl.chmod(0o600)
    text = (SAMPLE / "penstock.conf").read_text()
    for place, file in (
        ("/etc/mosquitto/certs/ca.pem", authority.ca),
        ("/etc/mosquitto/certs/broker.crt", cert),
        ("/etc/mosquitto/certs/broker.key", key),
        ("/etc/mosquitto/penstock.acl", acl),
    ):
        text = text.replace(place, str(file))
    made = broker()
    text = text.replace("\nlistener 8883\n", f"\nlistener {made.port} 127.0.0.1\n")
    user = (made.folder / "mosquitto.conf").read_text().splitlines()[0]
    (made.folder / "mosquitto.conf").write_text(f"{user}\n{text}")
    return made.start(), authority


def test_the_broker_of_deploy_lets_the_siem_in_by_its_certificate(guarded, tmp_path):
    running, authority = guarded
    path = tmp_path / "siem.json"

    def options(name: str) -> dict[str, Path]:
        return dict(zip(("ca", "cert", "key"), (authority.ca, *authority.issue(name)), strict=True))

    place, mine = f"mqtts://127.0.0.1:{running.port}", options("siem")
    files = [text for name in mine for text in (f"--mqtt-{name}", str(mine[name]))]
    with (
        bridge("--mqtt", place, *files, "--eve", str(path)),
        Delivery(mqtt=MqttSettings.from_url(place, gateway="replay", **options("replay"))) as delivery,
    ):
        for number in range(5):
            delivery.publish(numbered(number))
        assert delivery.drain(PATIENCE_S) == 0
        wait_for(path, [numbered(number).alert_id for number in range(5)])


def test_lines_go_to_standard_output_in_any_format(broker):
    running = broker().start()
    options = ("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", "-", "--format", "cef")

    with bridge(*options, stdout=subprocess.PIPE) as carrying, publisher(running.port) as publish:
        publish(TOPIC, render_eve(numbered(0)).encode())
        assert carrying.process.stdout is not None
        line = carrying.process.stdout.readline()

    assert line.startswith("CEF:0|Penstock|penstock|1|")
    assert f"externalId={numbered(0).alert_id}" in line


def test_a_reader_of_the_pipe_that_goes_away_ends_it_with_141(broker):
    running = broker().start()
    options = ("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--eve", "-")

    with bridge(*options, stdout=subprocess.PIPE) as carrying, publisher(running.port) as publish:
        assert carrying.process.stdout is not None
        os.close(os.dup(carrying.process.stdout.fileno()))
        carrying.process.stdout.close()
        publish(TOPIC, render_eve(numbered(0)).encode())
        code = carrying.process.wait(PATIENCE_S)

    assert code == 141


def test_syslog_gets_messages_of_rfc_5424_from_the_gateway_itself(broker):
    running = broker().start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, publisher(running.port) as publish:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE_S)
        place = f"127.0.0.1:{server.getsockname()[1]}"
        with bridge("--mqtt", f"mqtt://127.0.0.1:{running.port}", "--syslog", place):
            publish(TOPIC, render_eve(numbered(0)).encode())
            message = server.recv(4096).decode()

    # local0 (16) and our severity 2 (warning, 4): 16 * 8 + 4
    assert re.match(r'<132>1 2017-07-14T02:40:00\.250000Z replay penstock - alert \[timeQuality [^]]*\] \{"', message)
    assert message.endswith(render_eve(numbered(0)))


def test_alerts_wait_at_the_broker_for_a_syslog_server_that_is_away(broker):
    running = broker().start()
    port = free_port()
    options = ("--syslog", f"127.0.0.1:{port}", "--syslog-transport", "tcp")
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    with bridge("--mqtt", f"mqtt://127.0.0.1:{running.port}", *options) as carrying, publisher(running.port) as publish:
        for number in range(3):
            publish(TOPIC, render_eve(numbered(number)).encode())
        deadline_s = time.monotonic() + PATIENCE_S
        while not any("nothing is acknowledged" in line for line in carrying.said):
            assert time.monotonic() < deadline_s, carrying.said
            time.sleep(0.05)
        with socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(PATIENCE_S)
            link, _ = server.accept()
            with link, link.makefile("rb") as reader:
                for _ in range(3):
                    size = int(b"".join(iter(lambda: reader.read(1), b" ")))
                    heard.put(reader.read(size))

    found = [json.loads(re.sub(rb"^.*?\] ", b"", heard.get(timeout=PATIENCE_S))) for _ in range(3)]
    assert [each["flow_id"] for each in found] == [numbered(number).flow_id for number in range(3)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--eve", "x"], "--mqtt must say"),
        (["--mqtt", "mqtt://127.0.0.1"], "--eve or --syslog"),
        (["--mqtt", "mqtt://127.0.0.1", "--eve", "x", "--syslog", "y"], "not both"),
        (["--mqtt", "mqtt://127.0.0.1", "--eve", "x", "--format", "cef"], "always eve"),
        (["--mqtt", "mqtt://127.0.0.1", "--eve", "x", "--client-id", "a b"], "--client-id"),
        (["--mqtt", "mqtt://broker.lan", "--eve", "x"], "not encrypted"),
        (["--mqtt", "mqtt://127.0.0.1", "--syslog", "x", "--syslog-ca", "y"], "ca_file"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=said):
        run(*options)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OutputError, match="not a regular file"):
        run("--mqtt", "mqtt://127.0.0.1", "--eve", str(tmp_path / "pipe"))


def test_a_certificate_is_never_taken_for_the_output(tmp_path):
    authority = Authority(tmp_path)

    with pytest.raises(UsageError, match="would overwrite"):
        run("--mqtt", "mqtts://127.0.0.1", "--mqtt-ca", str(authority.ca), "--eve", str(authority.ca))
