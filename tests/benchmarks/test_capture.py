"""The live benchmark: what the sender would hand to the kernel, and how a run's counts are added up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import capture, receivers, sender, tuples
from benchmarks.cable import Cable, CableError
from benchmarks.capture import Run


def test_a_cycle_holds_each_flow_once_in_each_direction():
    frames = np.frombuffer(sender.frame_cycle(500), tuples.FRAME)
    ends = [tuple(int(frame[name]) for name in ("src", "src_port", "dst", "dst_port")) for frame in frames]

    answered = {(dst, dst_port, src, src_port) for src, src_port, dst, dst_port in ends}

    assert len(frames) == len(set(ends)) == 1_000
    assert set(ends) == answered


def test_the_kernel_would_read_the_frames_in_their_order():
    octets = sender.frame_cycle(20)

    messages = sender.Messages(octets, frame_bytes=tuples.FRAME_BYTES)

    assert messages.count == 40
    assert b"".join(messages.frame(index) for index in range(40)) == octets
    for index in (0, 39):
        header = messages.headers[index].header
        assert (header.vector_length, header.vector[0].length) == (1, 60)
        assert not header.name


def sample(**changed: float) -> dict[str, float]:
    plain = {"sent": 100, "rate_per_s": 5e5, "rx_packets": 100, "seen": 100, "read": 100, "dropped": 0}
    return {**plain, "unaccounted": 0, "decoded": 100, "flows": 7, "cpu_s": 5e-5, **changed}


def run_of(*samples: dict[str, float]) -> Run:
    return Run.of(samples, receiver="ring", pace_per_s=0)


def unmet(samples: Sequence[dict[str, float]]) -> list[str]:
    return [mark.figure for mark in capture.marked({capture.FASTEST_RING: run_of(*samples)}) if not mark.met]


def test_the_cost_is_of_the_packets_that_were_read():
    run = run_of(sample(read=50, dropped=50, cpu_s=1e-4))

    assert run.cpu_us_per_packet.median == pytest.approx(2.0)
    assert (run.lost.median, run.lost_percent.median) == (50, 50)


def test_a_run_in_which_all_is_well_meets_every_mark():
    assert unmet([sample()] * 5) == []


def test_one_packet_lost_in_one_run_of_five_is_a_loss():
    assert unmet([*[sample()] * 4, sample(read=99, dropped=1)]) == ["ring: lost of 100, worst run"]


def test_a_packet_nobody_accounts_for_is_noticed_wherever_it_went():
    assert unmet([sample(rx_packets=99, seen=99, read=99), sample(unaccounted=-1)]) == [
        "ring: lost of 100, worst run",
        "all receivers: packets not accounted for",
        "all receivers: sent, interface and socket apart",
    ]


def test_a_slow_sender_and_a_costly_receiver_are_noticed():
    assert unmet([sample(rate_per_s=449_000, cpu_s=6.1e-5)]) == [
        "sender beside the ring: thousand packets per second",
        "ring: CPU per packet, flow table included",
    ]


class FakeSource:
    """Frames of a live source that was given all it will get: three blocks, one of them after `stop`."""

    clock_us = 0

    def __init__(self) -> None:
        self.blocks = [3, 2, 0, 1]
        self.is_stopped = False

    def __enter__(self) -> FakeSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def is_drained(self) -> bool:
        return self.is_stopped and not self.blocks

    def read_block(self, block: object, timeout_s: float) -> int:
        return self.blocks.pop(0) if self.blocks else 0

    def stop(self) -> None:
        self.is_stopped = True

    def counts(self) -> SimpleNamespace:
        return SimpleNamespace(seen=9, read=6, dropped=2, outgoing=0, malformed=0, standing=0, abandoned=0)


def test_a_receiver_stops_when_the_sender_is_done_and_reads_on_until_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(receivers, "sender_is_done", lambda: True)
    source = FakeSource()

    counts = receivers.metered(source)

    assert capsys.readouterr().out == "ready\n"
    assert source.is_drained
    assert (counts["read"], counts["dropped"], counts["unaccounted"]) == (6, 2, 1)


def test_without_ip_the_benchmark_says_so_in_one_line_and_ends_with_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: None)

    code = capture.main(["--receivers", "ring"])

    assert code == 69
    assert capsys.readouterr().err == "ip is missing: sudo apt-get install iproute2\n"


def test_a_cable_that_cannot_be_laid_leaves_no_namespace(monkeypatch: pytest.MonkeyPatch):
    ran: list[tuple[str, ...]] = []

    def run(command: Sequence[str], **_: object) -> SimpleNamespace:
        ran.append(tuple(command))
        return SimpleNamespace(returncode="veth" in command, stderr="no veth here", stdout="")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)

    with pytest.raises(CableError, match="no veth here"), Cable():
        pass

    added = [command[3] for command in ran if command[:3] == ("ip", "netns", "add")]
    assert len(added) == 2
    assert [command[3] for command in ran if command[:3] == ("ip", "netns", "del")] == added


@pytest.mark.needs_root
def test_every_packet_sent_is_one_the_interface_receives():
    with Cable() as cable:
        command = cable.python(cable.near, "benchmarks.sender", cable.near, "5000", "0", "100")

        sent = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)

        assert sent["sent"] == cable.received()["rx_packets"] == 5_000


@pytest.mark.needs_root
def test_scapy_accounts_for_every_packet_of_a_run():
    pytest.importorskip("scapy")
    with Cable() as cable:
        run = run_of(capture.one_run(cable, receiver="sniff", pace_per_s=500, packets=200, flows=10))

    assert run.packets == 200
    assert (run.off_the_wire, run.unaccounted) == (0, 0)
