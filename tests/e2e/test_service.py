"""`penstock run` as a service: what systemd, an operator and a second interface see of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt import publish

from tests.alerts import alerts_so_far
from tests.broker import Broker
from tests.bundles import sign, write_nervous_bundle, write_refusal_bundle
from tests.capture.wire import Wire, ip, put
from tests.conftest import ROOT
from tests.e2e.conftest import TIMEOUT_S, environment
from tests.e2e.scan import CAMERA, chat_frames, scan_frames

pytestmark = pytest.mark.needs_root

# Many small blocks: what comes while the machine lets the agent stand still for seconds finds room.
RING = "block_bytes = 65536\nblock_count = 256\n"


class Home:
    """A gateway's folders, its settings, and the agent that runs on them."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder = folder
        self.command = command
        self.config = folder / "agent.toml"
        self.trust = folder / "trust.d"
        self.heard: list[str] = []
        self.bundle = sign(write_refusal_bundle(folder / "first", release=1000), self.trust)
        self.process: subprocess.Popen[str] | None = None
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(TIMEOUT_S)

    def settle(self, *, interfaces: str = '"eth0"', more: str = "") -> None:
        """Write agent.toml."""
        self.config.write_text(
            f'[gateway]\nid = "cellar"\nstate_dir = "{self.folder}/state"\n'
            f'[capture]\ninterfaces = [{interfaces}]\nhome_nets = ["192.168.1.0/24"]\n{RING}'
            f'[scoring]\nbundle = "{self.bundle}"\ntrust_dir = "{self.trust}"\n{more}\n'
            f'[eve]\npath = "{self.folder}/eve.json"\n'
            f'[metrics]\nenabled = false\n[status]\nsocket = "{self.folder}/status.sock"\n'
        )

    def start(self) -> None:
        """Start the agent; return when it says that it is ready."""
        more = {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "600000"}
        self.process = subprocess.Popen(
            [*self.command, "run", "--config", str(self.config)],
            env=environment() | more,
            stderr=(self.folder / "stderr").open("a"),
            text=True,
        )
        self.until_told("READY=1")

    def until_told(self, word: str) -> str:
        """Return the first datagram to the service manager that begins so; those before are dropped."""
        until_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until_s:
            said = self.manager.recv(4096).decode()
            if said.startswith(word):
                return said
        raise AssertionError(f"never told {word}: {self.said()}")

    def forget_told(self) -> None:
        """Drop what the service manager was told so far: its queue is short, and what finds no room is lost."""
        self.manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.manager.recv(4096):
                pass
        self.manager.settimeout(TIMEOUT_S)

    def hang_up(self) -> None:
        """Ask for the settings to be read anew; return when the agent is done."""
        self.forget_told()
        self.process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in self.until_told("RELOADING=1")
        self.until_told("READY=1")

    def end(self) -> float:
        """Ask the agent to end; return how long it took."""
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(TIMEOUT_S)
        return time.monotonic() - began_s

    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def alerts(self) -> list[dict]:
        return alerts_so_far(self.folder / "eve.json")

    def facts(self) -> dict:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.folder / "status.sock"))
            octets = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        return json.loads(octets)["facts"]

    def penstock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )


@pytest.fixture
def home(wire: Wire, command: list[str], tmp_path: Path) -> Iterator[Home]:
    """A home whose agent stands at the near end of the wire; it does not outlive the test."""
    made = Home(tmp_path, command)
    made.settle()
    try:
        yield made
    finally:
        made.manager.close()
        if made.process is not None:
            made.process.kill()
            made.process.wait()


def until(is_so: Callable[[], object]) -> None:
    until_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.1)


def stopped(pid: int) -> bool:
    """Return whether all threads of a process stand still."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)


def chat(wire: Wire) -> None:
    with wire.sender() as sock:
        for _, frame in chat_frames(times=10):
            put(sock, frame)
            time.sleep(0.003)


def scan(wire: Wire, *, ports: int = 60) -> None:
    with wire.sender() as sock:
        for _, frame in [*chat_frames(times=1), *scan_frames(ports=ports, begin_s=5, every_s=0.03)]:
            put(sock, frame)
            time.sleep(0.003)


def scan_until(wire: Wire, is_so: Callable[[], object]) -> None:
    """Scan until something is so: an agent that stood still may have lost a scan, and counts what it lost."""
    until_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < until_s
        scan(wire)
        again_s = time.monotonic() + 5.0
        while not is_so() and time.monotonic() < again_s:
            time.sleep(0.1)


def test_it_is_ready_when_packets_are_read_and_ends_in_time_with_its_incidents_closed(wire: Wire, home: Home):
    home.start()
    scan_until(wire, home.alerts)

    took_s = home.end()

    print(f"\nfrom SIGTERM to the end: {took_s:.2f} s")
    assert home.process.returncode == 0, home.said()
    assert home.alerts()[-1]["alert"]["context"]["penstock"]["state"] == "closed"
    assert "eth0" in {alert["in_iface"] for alert in home.alerts()}
    assert "accounts do not come out even" not in home.said()


def test_the_watchdog_is_fed_while_turns_are_made_and_not_while_the_agent_stands_still(home: Home):
    home.start()
    home.until_told("WATCHDOG=1")
    home.process.send_signal(signal.SIGSTOP)
    until(lambda: stopped(home.process.pid))
    home.forget_told()
    home.manager.setblocking(False)
    time.sleep(1.0)
    with pytest.raises(BlockingIOError):
        home.manager.recv(4096)
    home.manager.settimeout(TIMEOUT_S)

    home.process.send_signal(signal.SIGCONT)

    home.until_told("WATCHDOG=1")


def test_settings_are_read_anew_and_hold_at_once(wire: Wire, home: Home):
    home.start()
    home.settle(more='deadline_ms = 20\nincident_quiet_s = 7\n[stdout]\nformat = "ecs"')

    home.hang_up()
    until(lambda: home.facts()["reloads"] == 1)

    assert "reload applied: scoring.deadline_ms, scoring.incident_quiet_s, stdout.format" in home.said()
    assert home.facts()["last_reload"] == "applied"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("deadline_ms = 20\nbatch_windows = 0", "scoring.batch_windows"),
        ('deadline_ms = 20\n[outbox]\npath = "/tmp/other.db"', "outbox.path: changed, wanted a restart"),
        ("deadline_ms = 20\nno_such_key = 1", "no_such_key"),
        ('deadline_ms = 20\n[syslog]\naddress = "a b"', "syslog"),
    ],
    ids=["out-of-range", "wants-a-restart", "unknown", "no-address"],
)
def test_settings_that_cannot_all_hold_change_nothing(home: Home, more: str, why: str):
    home.start()
    home.settle(more=more)

    home.hang_up()
    until(lambda: home.facts()["refused_reloads"] == 1)

    assert why in home.facts()["last_reload"]
    assert "reload refused, the settings of before hold" in home.said()
    assert home.process.poll() is None


def test_an_attack_on_a_bridge_and_its_port_is_one_incident(wire: Wire, home: Home):
    ip("-n", wire.near, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    ip("-n", wire.near, "link", "set", "br0", "up")
    ip("-n", wire.near, "link", "set", "eth0", "master", "br0")
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if setting.exists():
        setting.write_text("0")  # packets of tests carry no checksum
    home.settle(interfaces='"br0", "eth0"')
    home.start()
    scan_until(wire, home.alerts)
    scan_until(wire, lambda: home.facts()["flows"]["twins"] > 50)
    home.end()

    assert len({alert["alert"]["context"]["penstock"]["incident_id"] for alert in home.alerts()}) == 1
    assert {alert["dest_ip"] for alert in home.alerts()} == {CAMERA}


def test_a_bundle_is_swapped_in_while_packets_come_and_serves_after_a_restart(wire: Wire, home: Home):
    home.settle(more="shadow_windows = 5")
    home.start()
    newer = sign(write_refusal_bundle(home.folder / "newer", release=1001), home.trust)
    staged = home.penstock(
        "model", "stage", str(newer), "--state-dir", f"{home.folder}/state", "--trust", str(home.trust)
    )
    until(lambda: scan(wire, ports=20) or home.facts()["bundle"]["release"] == 1001)
    until(lambda: scan(wire, ports=20) or "has passed its trial" in home.said())
    home.end()
    home.start()

    assert staged.returncode == 0, staged.stderr
    assert home.facts()["bundle"]["release"] == 1001
    assert home.said().count("release 1001 serves in the place of gru release 1000") == 1
    assert home.process.poll() is None


def test_a_bundle_that_cries_wolf_never_serves_and_an_older_one_is_refused(wire: Wire, home: Home):
    home.settle(more="shadow_windows = 5")
    home.start()
    where = ("--state-dir", f"{home.folder}/state", "--trust", str(home.trust))
    older = sign(write_refusal_bundle(home.folder / "older", release=999), home.trust)
    wolf = sign(write_nervous_bundle(home.folder / "wolf", release=1001), home.trust)

    refused = home.penstock("model", "stage", str(older), *where)
    home.penstock("model", "stage", str(wolf), *where)
    until(lambda: chat(wire) or home.facts()["bundle"]["refused"] == 1)

    assert refused.returncode == 78
    assert "is release 999, wanted 1000 or later unless rolled back" in refused.stderr
    assert home.facts()["bundle"]["release"] == 1000
    assert home.process.poll() is None


def test_a_bundle_that_rotted_costs_nothing_where_one_has_served(wire: Wire, home: Home):
    home.start()
    home.end()
    (home.bundle / "model.onnx").write_bytes(b"rotten")

    home.start()

    assert home.facts()["bundle"]["release"] == 1000
    assert "the last good one, serves" in home.said()


@pytest.fixture
def full_disk(home: Home) -> Iterator[Path]:
    """A state folder on a file system without a free octet."""
    folder = home.folder / "state"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True, timeout=TIMEOUT_S)
    try:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=TIMEOUT_S)


def test_a_start_with_a_full_disk_watches_and_takes_up_its_outbox_when_there_is_room(
    wire: Wire, home: Home, full_disk: Path
):
    home.settle(more='[mqtt]\nurl = "mqtt://127.0.0.1:9"')
    home.start()
    scan_until(wire, lambda: home.facts()["delivery"]["outbox_rows"] > 0)
    trouble = home.facts()["delivery"]["outbox_trouble"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(full_disk)], check=True, timeout=TIMEOUT_S)

    until(lambda: not home.facts()["delivery"]["outbox_trouble"])

    assert trouble
    assert (full_disk / "outbox.db").stat().st_size > 0
    assert home.process.poll() is None


def test_a_bundle_nobody_vouches_for_ends_the_first_start(home: Home):
    (home.bundle / "manifest.sig").unlink()

    done = home.penstock("run", "--config", str(home.config))

    assert done.returncode == 78
    assert "wanted a signature by a key in" in done.stderr


def test_what_was_learnt_of_the_site_survives_a_restart(wire: Wire, home: Home):
    home.start()
    scan_until(wire, lambda: home.facts()["windows"]["scored"] > 3)
    home.end()
    saved = json.loads((home.folder / "state" / "calibration.json").read_text())
    home.start()
    home.end()

    again = json.loads((home.folder / "state" / "calibration.json").read_text())
    now = {each["hour"]: each for each in again["hours"]}
    assert saved["hours"]
    for before in saved["hours"]:  # the second life watched for a while too
        after = now[before["hour"]]
        assert after["watched_us"] >= before["watched_us"] > 0
        assert after | {"watched_us": 0} == before | {"watched_us": 0}
    assert again["manifest_sha256"] == saved["manifest_sha256"]


def test_no_interface_at_all_is_an_error_and_one_of_two_is_not(home: Home):
    home.settle(interfaces='"wlan7"')
    none = home.penstock("run", "--config", str(home.config))
    home.settle(interfaces='"wlan7", "eth0"')
    home.start()
    until(lambda: home.facts()["interfaces"])

    assert none.returncode == 66
    assert {each["name"]: each["is_absent"] for each in home.facts()["interfaces"]} == {"wlan7": True, "eth0": False}


def test_it_is_up_in_time_and_loads_nothing_of_training(wire: Wire, home: Home):
    began_s = time.monotonic()
    home.start()
    took_s = time.monotonic() - began_s
    maps = Path(f"/proc/{home.process.pid}/maps").read_text()
    rss = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{home.process.pid}/status").read_text())

    print(f"\nfrom the start to READY: {took_s:.2f} s, {int(rss[1]) / 1024:.0f} MiB")
    assert [name for name in ("torch", "sklearn", "scipy", "pandas") if f"/{name}/" in maps] == []


def test_importing_the_agent_loads_neither_torch_nor_scikit_learn():
    script = (
        "import sys, agent.live.service, agent.commands.run;"
        "print([name for name in ('torch', 'sklearn', 'scapy', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )

    assert done.stdout.strip() == "[]"


def test_an_incident_can_be_explained_with_its_packets_and_without_the_agent(wire: Wire, home: Home):
    home.settle(more="[evidence]\nenabled = true\nmemory_bytes = 1048576")
    home.start()
    scan_until(wire, lambda: home.alerts() and list((home.folder / "state" / "evidence").glob("*.pcap")))
    incident_id = home.alerts()[0]["alert"]["context"]["penstock"]["incident_id"]
    home.end()

    told = home.penstock("explain", incident_id, "--state-dir", f"{home.folder}/state")

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("scan: ")
    assert "what the network looked at" in told.stdout
    assert re.search(rf"its packets: \d+ were kept.*Ether / IP / TCP .*{re.escape(CAMERA)}", told.stdout, re.DOTALL)


def test_without_evidence_no_packet_is_kept(wire: Wire, home: Home):
    home.start()
    scan_until(wire, home.alerts)
    home.end()

    assert not (home.folder / "state" / "evidence").exists()


@pytest.mark.needs_broker
def test_a_verdict_over_mqtt_is_applied_where_it_was_switched_on_and_logged(
    wire: Wire, home: Home, broker: Callable[..., Broker]
):
    port = broker().start().port
    topic = "penstock/v1/cellar/feedback"

    def settle(is_on: str) -> None:
        home.settle(more=f'[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\nfeedback = {is_on}')

    settle("false")
    home.start()
    scan_until(wire, home.alerts)
    alert_id = home.alerts()[0]["alert"]["context"]["penstock"]["alert_id"]
    said = json.dumps({"alert_id": alert_id, "verdict": "benign", "operator": "ada"})
    until(lambda: home.facts()["delivery"]["connects"])
    publish.single(topic, said, qos=1, port=port)
    settle("true")
    home.hang_up()

    def applied() -> int:
        publish.single(topic, said, qos=1, port=port)
        return dict(home.facts()["verdicts"])["applied"]

    until(applied)

    log = home.penstock("feedback", "--log", "--state-dir", f"{home.folder}/state").stdout.splitlines()
    assert len(log) == 1
    assert re.search(
        rf"ada \(mqtt\)  benign: scan at \S+ \({alert_id}\): benign; rule b-\w+ keeps its like back", log[0]
    )
    home.end()
