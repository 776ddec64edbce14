"""A short lab, really played: needs root and the tools of lab/apt.txt."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from contracts.errors import LabError
from lab import tools
from lab.agreement import check
from lab.namespaces import NAMESPACE_PREFIX, NETNS_FOLDER, entered
from lab.network import Network
from lab.record import Capture, record
from lab.scenario import draw_plan

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

    assert started[0].wait(timeout=120) != 0
    assert namespaces_of(os.getpid()) == []


def test_a_host_behind_a_cable_with_delay_answers_later_than_the_delay():
    plan = draw_plan(1)
    host = max(plan.devices, key=lambda device: device.delay_ms)
    with Network(plan) as network:
        words = ["ping", "-n", "-c", "2", "-i", "0.2", host.address]
        until_s, second = time.monotonic() + 120, None
        while second is None:  # a cable is a program: where that stands still, ping gives up before the answer comes
            assert time.monotonic() < until_s
            said = network.start("gateway", words, stdout=subprocess.PIPE).communicate(timeout=120)[0].decode()
            second = re.search(r"icmp_seq=2 .*time=([\d.]+)", said)

    assert float(second[1]) >= 2 * host.delay_ms


def test_a_thread_comes_back_from_the_namespace_it_entered():
    before = os.readlink("/proc/thread-self/ns/net")
    with Network(draw_plan(1)) as network, entered(network.namespace("gateway")):
        assert os.readlink("/proc/thread-self/ns/net") != before

    assert os.readlink("/proc/thread-self/ns/net") == before


@pytest.fixture(scope="module")
def hidden():
    """The network of a home behind NAT, with nothing running on it."""
    pytest.importorskip("tomllib")
    from lab.plan_file import read_plan
    from lab.timetable import draw

    with Network(draw(read_plan("train"), 1)) as network:
        yield network


def connection_to(address, port):
    """Open a connection; a cable is a program, and while that stands still nobody is found behind it."""
    until_s = time.monotonic() + 120
    while True:
        try:
            return socket.create_connection((address, port), timeout=120)
        except OSError as exc:
            if exc.errno != errno.EHOSTUNREACH or time.monotonic() > until_s:
                raise


def meet(network, *, server, port, client, address, client_port=None):
    """Let a client open a connection; return the address the server sees it come from."""
    with entered(network.namespace(server)):
        listener = socket.create_server(("0.0.0.0", port))
    at = entered(network.namespace(client))
    with listener, at, connection_to(address, client_port or port):
        listener.settimeout(120)
        connection, peer = listener.accept()
        connection.close()
    return peer[0]


def test_the_internet_sees_the_gateway_in_place_of_a_hidden_device(hidden):
    plan = hidden.plan
    device = next(each for each in plan.devices if each.address not in dict(plan.exposed))

    assert (
        meet(hidden, server="cloud", port=4000, client=device.name, address=plan.address("cloud")) == plan.wan_address
    )


def test_an_exposed_device_has_one_public_address_in_both_directions(hidden):
    plan = hidden.plan
    home, public = plan.exposed[0]
    device = next(each for each in plan.devices if each.address == home)

    assert meet(hidden, server="cloud", port=4001, client=device.name, address=plan.address("cloud")) == public
    assert meet(hidden, server=device.name, port=4002, client="stranger1", address=public) == plan.address("stranger1")


def test_a_forwarded_port_leads_to_its_device_and_another_does_not(hidden):
    plan = hidden.plan
    forward = plan.forwards[0]
    ways = {"server": forward.host, "port": forward.port, "client": "remote", "address": plan.wan_address}

    assert meet(hidden, **ways, client_port=forward.public_port) == plan.address("remote")
    with pytest.raises(OSError, match=r"refused|timed out"):
        meet(hidden, **ways, client_port=1)


def test_no_home_address_can_be_reached_from_outside(hidden):
    device = hidden.plan.devices[0]

    with pytest.raises(OSError, match=r"timed out|unreachable|Invalid argument"):
        meet(hidden, server=device.name, port=4003, client="stranger1", address=device.address)


def test_no_interface_joins_or_splits_packets(hidden):
    for host in ("gateway", hidden.plan.devices[0].name, "cloud"):
        interface = "br0" if host == "gateway" else "eth0"
        asked = hidden.start(host, ["ethtool", "-k", interface], stdout=subprocess.PIPE)
        said = dict(line.strip().split(": ")[:2] for line in asked.communicate()[0].decode().splitlines()[1:])
        switches = ("tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload")
        assert {said[name].split()[0] for name in switches} == {"off"}


def test_a_capture_that_was_cut_short_is_an_error(hidden, tmp_path):
    def cut_short():
        with Capture(hidden, tmp_path / "x.pcap", snap_bytes=64):
            (line,) = [each for each in processes_in(hidden, "gateway") if b"tcpdump" in each.read_bytes()]
            os.kill(int(line.parent.name), signal.SIGKILL)
            until_dead(int(line.parent.name))

    with pytest.raises(LabError, match="tcpdump ended before the recording did"):
        cut_short()


def until_dead(pid):
    """Return once a process is gone, or dead and waits to be asked how it ended."""
    until_s = time.monotonic() + 120
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        while "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < until_s
            time.sleep(0.01)


def processes_in(network, host):
    asked = subprocess.run(["ip", "netns", "pids", network.namespace(host)], capture_output=True, text=True, check=True)
    return [Path("/proc", pid, "cmdline") for pid in asked.stdout.split()]


def start_lab(folder, *options, mark="none"):
    command = [sys.executable, "-m", "lab.cli", "record", "-o", str(folder), *options]
    where = {"cwd": Path(__file__).parents[2], "env": {**os.environ, "LAB_TEST_MARK": mark}}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, **where)


def marked_processes(mark):
    """Return the processes that descend from one started with that mark, whatever became of their parents."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"LAB_TEST_MARK={mark}".encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


def test_two_labs_run_at_once_and_each_agrees_with_its_truth(tmp_path):
    pytest.importorskip("tomllib")
    labs = [
        start_lab(tmp_path / str(seed), "--plan", "soak", "--minutes", "0.2", "--seed", str(seed)) for seed in (1, 2)
    ]

    said = [lab.communicate(timeout=300) for lab in labs]

    assert [lab.returncode for lab in labs] == [0, 0], said
    for seed, lab in zip((1, 2), labs, strict=True):
        folder = tmp_path / str(seed)
        assert check(folder / "capture.pcap", folder / "ground_truth.json") == []
        assert namespaces_of(lab.pid) + folders_of(lab.pid) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_lab_that_is_stopped_in_the_middle_of_an_attack_leaves_nothing(how, tmp_path):
    mark = f"{os.getpid()}-{how.name}"
    lab = start_lab(tmp_path, "--seed", "1", "--attacks", "slow_scan", mark=mark)
    while b"slow_scan" not in lab.stderr.readline():
        assert lab.poll() is None
    time.sleep(2.0)
    assert len(marked_processes(mark)) > 10

    lab.send_signal(how)
    time.sleep(0.3)
    lab.send_signal(how)  # an impatient second one must not keep it from cleaning up
    code = lab.wait(timeout=120)

    assert code in (130, 143)
    assert namespaces_of(lab.pid) + folders_of(lab.pid) + marked_processes(mark) == []
    assert list(tmp_path.iterdir()) == []


def test_a_series_that_is_stopped_stops_the_labs_it_runs(tmp_path):
    pytest.importorskip("tomllib")
    mark = f"{os.getpid()}-series"
    (tmp_path / "list").write_text("1 --plan soak --minutes 1\n2 --plan soak --minutes 1\n")
    options = ["series", "-o", str(tmp_path / "out"), "--list", str(tmp_path / "list")]
    where = {"cwd": Path(__file__).parents[2], "env": {**os.environ, "LAB_TEST_MARK": mark}}
    series = subprocess.Popen([sys.executable, "-m", "lab.cli", *options], stderr=subprocess.PIPE, **where)
    built = 0
    while built < 2:
        assert series.poll() is None
        built += b"network of" in series.stderr.readline()

    series.terminate()
    code = series.wait(timeout=120)

    assert code == 143
    assert marked_processes(mark) == []
    assert not list((tmp_path / "out").glob("*/*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_lab_that_is_stopped_leaves_nothing(how, tmp_path):
    command = [sys.executable, "-m", "lab.cli", "record", "-o", str(tmp_path), "--seed", "1", "--attacks", "none"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    while b"network of" not in process.stderr.readline():
        assert process.poll() is None

    process.send_signal(how)
    code = process.wait(timeout=120)

    assert code in (130, 143)
    assert namespaces_of(process.pid) + folders_of(process.pid) == []


def test_what_a_killed_lab_left_is_swept_by_the_next(tmp_path):
    command = [sys.executable, "-m", "lab.cli", "record", "-o", str(tmp_path), "--seed", "1", "--attacks", "none"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    while b"network of" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.wait(timeout=120)
    time.sleep(0.2)
    left = namespaces_of(process.pid), folders_of(process.pid)

    with Network(draw_plan(2)):
        swept = namespaces_of(process.pid) + folders_of(process.pid)

    assert all(left), left
    assert swept == []
