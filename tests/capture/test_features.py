"""`penstock features --interface`: records of a live wire, an end in order, and a last word on what is missing."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import cli
from agent.capture.live_line import LiveLine
from agent.capture.source import Counts
from tests.capture.wire import GUARD_S, Wire, datagrams, ip
from tests.flowfeatures.packets import ethernet, ipv4, udp

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to read: name a CAPTURE, or an --interface"),
        (["x.pcap", "--interface", "lo"], "--interface and CAPTURE exclude each other"),
        (["x.pcap", "--filter", "udp"], "--filter and --duration belong to --interface"),
        (["x.pcap", "--duration", "1"], "--filter and --duration belong to --interface"),
    ],
)
def test_what_cannot_go_together_is_a_usage_error(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code = cli.main(["features", "-o", str(tmp_path / "flows.csv"), *options])

    assert (code, capsys.readouterr().err) == (64, f"penstock: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interface_that_is_not_there_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = cli.main(["features", "-o", str(tmp_path / "flows.csv"), "--interface", "nix0"])

    assert code == 66
    assert "nix0: no such network interface" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Features:
    """The command, running in the namespace the test stands in."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli", "features", "--interface", "eth0", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def listens(self) -> None:
        """Wait until the socket is bound, which the interface's promiscuity shows."""
        until_s = time.monotonic() + GUARD_S
        while "promiscuity 1 " not in ip("-d", "link", "show", "dev", "eth0") and time.monotonic() < until_s:
            time.sleep(0.02)

    def end(self, signal_number: int = signal.SIGINT) -> tuple[int, str, str]:
        self.process.send_signal(signal_number)
        out, err = self.process.communicate(timeout=GUARD_S)
        return self.process.returncode, out, err


@pytest.fixture
def features(wire: Wire) -> Iterator:
    running: list[Features] = []

    def start(*options: str) -> Features:
        running.append(Features(*options))
        running[-1].listens()
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.communicate()


@pytest.mark.needs_root
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_in_order_with_every_record_written(wire: Wire, features, tmp_path: Path, signal_number: int):
    running = features("-o", str(tmp_path / "flows.csv"))
    wire.send(datagrams(500, flows=20))

    code, out, err = running.end(signal_number)

    rows = list(csv.DictReader((tmp_path / "flows.csv").open()))
    assert code == 0
    assert (len(rows), sum(int(row["Total Fwd Packets"]) for row in rows)) == (20, 500)
    assert out == f"{tmp_path}/flows.csv: 20 records of 500 packets, 0 not decoded\n"
    assert err == "penstock: eth0: 500 packets seen, 500 read, 0 dropped\n"
    assert os.listdir(tmp_path) == ["flows.csv"]


@pytest.mark.needs_root
def test_the_filter_and_the_duration_are_kept(wire: Wire, features, tmp_path: Path):
    pytest.importorskip("scapy")
    running = features("-o", str(tmp_path / "flows.csv"), "--filter", "port 53", "--duration", "5")
    wire.send(datagrams(50, flows=5, port=53) + datagrams(50, flows=5, port=54))

    running.process.communicate(timeout=GUARD_S)

    rows = list(csv.DictReader((tmp_path / "flows.csv").open()))
    assert running.process.returncode == 0
    assert [row["Destination Port"] for row in rows] == ["53"] * 5


@pytest.mark.needs_root
def test_partial_records_come_through_a_pipe_while_their_flows_live(wire: Wire, features):
    running = features("-o", "-", "--partials")
    wire.send(datagrams(8, flows=1))

    header, row = running.process.stdout.readline(), running.process.stdout.readline()

    assert header.startswith("Flow ID,")
    assert row.startswith("192.168.1.10-203.0.113.5-20000-53-17,")
    assert running.end()[0] == 0


@pytest.mark.needs_root
def test_what_can_be_helped_is_said_at_once_and_what_was_missed_at_the_end(wire: Wire, features, tmp_path: Path):
    subprocess.run(["ethtool", "-K", "eth0", "gro", "on"], check=True, timeout=120)
    running = features("-o", str(tmp_path / "flows.csv"))
    at_once = running.process.stderr.readline()
    wire.send([ethernet(ipv4(udp(1, 2, 5000), 17))[:1500]])  # the header promises more than came: no super frame
    wire.send(datagrams(9))

    _, _, err = running.end()

    assert at_once == "penstock: eth0: gro is on and may glue packets together: sudo ethtool -K eth0 gro off\n"
    assert err == "penstock: eth0: 10 packets seen, 10 read, 0 dropped\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_sees_packets_their_rate_and_drops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    now_s, stream = iter([0.0, 0.5, 1.0]), Terminal()
    line = LiveLine("eth0", stream=stream, now_s=lambda: next(now_s))

    line.show(1000, Counts())
    line.show(4000, Counts(dropped=7))
    line.clear()

    shown = re.split(r"\r\x1b\[K", stream.getvalue())
    assert shown == [
        "",
        "eth0: 1,000 packets  2,000/s  0 dropped  Ctrl-C ends",
        "eth0: 4,000 packets  6,000/s  7 dropped  Ctrl-C ends",
        "",
    ]


def test_the_name_of_an_interface_does_not_steer_the_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    LiveLine("e\x1b[2J", stream=stream).show(1, Counts())

    assert r"e\x1b[2J: 1 packets" in stream.getvalue()


def test_a_file_gets_no_line(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    line = LiveLine("eth0", stream=stream)

    line.show(1000, Counts())
    line.clear()

    assert stream.getvalue() == ""
