"""A short lab, really played: needs root and the tools of lab/apt.txt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from contracts.errors import LabError
from lab import tools
from lab.network import NAMESPACE_PREFIX, NETNS_FOLDER, Network, entered
from lab.record import record
from lab.scenario import draw_plan
from lab.truth import check

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(tools.missing()), reason=f"not installed: {', '.join(tools.missing())} (see lab/apt.txt)"),
]


def namespaces_of(pid):
    return [path.name for path in NETNS_FOLDER.glob(f"{NAMESPACE_PREFIX}{pid}-*")]


def folders_of(pid):
    return [path.name for path in Path(tempfile.gettempdir()).glob(f"{NAMESPACE_PREFIX}{pid}-*")]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A recording of some twenty seconds with one attack."""
    from dataclasses import replace

    plan = draw_plan(11, attacks=["port_scan"], devices=6)
    attack = replace(plan.attacks[0], starts_s=6.0, limit_s=6.0)
    plan = replace(plan, attacks=(attack,), duration_s=14.0)
    return plan, record(plan, tmp_path_factory.mktemp("lab"), say=print)


def test_a_recording_agrees_with_its_ground_truth(short):
    _, recording = short

    assert check(recording.capture, recording.truth) == []
    assert recording.packets > 100


def test_its_flows_are_labelled_by_the_one_loader(short):
    from contracts.ground_truth import load
    from flowfeatures import FlowMeter, open_capture

    _, recording = short
    truth, meter, labels = load(recording.truth)[0], FlowMeter(), []
    with open_capture(truth.path) as capture:
        for batches in (meter.read(capture), meter.flush()):
            for records in batches:
                truth.label(records)
                labels += records["label"].tolist()

    assert labels.count(1) >= 5
    assert labels.count(0) >= 20
    assert set(labels) == {0, 1}


def test_every_device_is_heard(short):
    from lab.frames import number_of, read_frames

    plan, recording = short
    sources = {frame.source for frame in read_frames(recording.capture)}

    assert {host.name for host in plan.devices if number_of(host.address) not in sources} == set()


def test_no_frame_is_larger_than_a_cable_carries(short):
    from flowfeatures import FlowMeter, open_capture

    _, recording = short
    meter = FlowMeter()
    with open_capture(recording.capture) as capture:
        list(meter.read(capture))

    assert meter.counters["super_frames"] == 0


def test_nothing_of_the_network_is_left(short):
    assert namespaces_of(os.getpid()) == []


def test_an_error_inside_removes_the_network():
    started = []

    def fail():
        with Network(draw_plan(1)) as network:
            started.append(network.start("hub1", ["busybox", "sleep", "100"]))
            raise LabError("on purpose")

    with pytest.raises(LabError, match="on purpose"):
        fail()

    assert started[0].wait(timeout=5) != 0
    assert namespaces_of(os.getpid()) == []


def test_a_host_behind_a_cable_with_delay_answers_later_than_the_delay():
    plan = draw_plan(1)
    host = max(plan.devices, key=lambda device: device.delay_ms)
    with Network(plan) as network:
        ping = network.start("gateway", ["ping", "-n", "-c", "2", "-i", "0.2", host.address], stdout=subprocess.PIPE)
        said = ping.communicate(timeout=10)[0].decode()

    second_ms = float(said.split("icmp_seq=2")[1].split("time=")[1].split()[0])
    assert second_ms >= 2 * host.delay_ms


def test_a_thread_comes_back_from_the_namespace_it_entered():
    before = os.readlink("/proc/thread-self/ns/net")
    with Network(draw_plan(1)) as network, entered(network.namespace("gateway")):
        assert os.readlink("/proc/thread-self/ns/net") != before

    assert os.readlink("/proc/thread-self/ns/net") == before


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_lab_that_is_stopped_leaves_nothing(how, tmp_path):
    command = [sys.executable, "-m", "lab.cli", "record", "-o", str(tmp_path), "--seed", "1", "--attacks", "none"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    while b"network of" not in process.stderr.readline():
        assert process.poll() is None

    process.send_signal(how)
    code = process.wait(timeout=60)

    assert code in (130, 143)
    assert namespaces_of(process.pid) + folders_of(process.pid) == []


def test_what_a_killed_lab_left_is_swept_by_the_next(tmp_path):
    command = [sys.executable, "-m", "lab.cli", "record", "-o", str(tmp_path), "--seed", "1", "--attacks", "none"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    while b"network of" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.wait(timeout=10)
    time.sleep(0.2)
    left = namespaces_of(process.pid), folders_of(process.pid)

    with Network(draw_plan(2)):
        swept = namespaces_of(process.pid) + folders_of(process.pid)

    assert all(left), left
    assert swept == []
