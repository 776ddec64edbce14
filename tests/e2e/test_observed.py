"""A running agent as others see it: metrics, status, what is left when it has ended, and what forgetting takes away."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowfeatures import address_bytes
from tests.bundles import sign, write_refusal_bundle
from tests.capture.wire import Wire, put
from tests.e2e.conftest import TIMEOUT_S, environment
from tests.e2e.scan import CAMERA, SCANNER, chat_frames, scan_frames

pytestmark = pytest.mark.needs_root

PORT = 19744  # the wire has network namespaces of its own, so nobody else listens there
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|([0-9a-f]{2}:){5}", re.IGNORECASE)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    bundle = sign(write_refusal_bundle(tmp_path / "bundle"), tmp_path / "trust.d")
    for folder in ("state", "log"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[gateway]\nid = "cellar"\nstate_dir = "{tmp_path}/state"\n'
        '[capture]\ninterfaces = ["eth0"]\nhome_nets = ["192.168.1.0/24"]\n'
        "block_bytes = 65536\nblock_count = 512\n"  # whoever stands still, all that is sent is read
        f'[scoring]\nbundle = "{bundle}"\ntrust_dir = "{tmp_path}/trust.d"\n'
        f'[eve]\npath = "{tmp_path}/log/eve.json"\n'
        f'[metrics]\nlisten = "127.0.0.1:{PORT}"\n[status]\nsocket = "{tmp_path}/run/status.sock"\n'
    )
    return path


@pytest.fixture
def agent(wire: Wire, command: list[str], config: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*command, "run", "--config", str(config)], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        while "watching eth0" not in (line := process.stderr.readline()):
            assert line, "the agent ended"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def asked(command: list[str], config: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs a command beside the agent, told where its socket or configuration is."""

    def asked_(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )

    return asked_


def send(wire: Wire) -> int:
    """Send a talk and a scan at once; return how many frames that were."""
    frames = [*chat_frames(times=3, every_s=0.3), *scan_frames(ports=150, begin_s=0, every_s=0.03)]
    with wire.sender() as sock:
        for _, frame in frames:
            put(sock, frame)
            time.sleep(0.005)
    return len(frames)


def page() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=TIMEOUT_S) as answer:
        return answer.read().decode()


def value(text: str, series: str) -> float:
    """Return what a series stands at; 0 where the agent, which listens before it watches, has told nothing yet."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def test_what_the_wire_carried_is_on_the_page_in_the_status_and_nowhere_after_forgetting(
    wire: Wire, agent: subprocess.Popen[str], asked, config: Path
):
    socket = config.parent / "run" / "status.sock"
    sent = send(wire)
    until(lambda: value(page(), 'penstock_capture_read_total{interface="eth0"}') >= sent and "total{class=" in page())

    text, status = page(), json.loads(asked("status", "--json", "--socket", str(socket)).stdout)
    shown = asked("status", "--socket", str(socket))
    refused = asked("forget", CAMERA, "--config", str(config))
    mode = stat.S_IMODE(socket.stat().st_mode)
    agent.send_signal(signal.SIGTERM)
    agent.communicate(timeout=TIMEOUT_S)
    eve = (config.parent / "log" / "eve.json").read_text()
    forgotten = asked("forget", CAMERA, "--config", str(config))
    kept = [path for path in config.parent.rglob("*") if path.is_file() and "bundle" not in path.parts]

    seen, read = (value(text, f'penstock_{name}_total{{interface="eth0"}}') for name in ("kernel_seen", "capture_read"))
    assert seen >= read >= sent
    assert ADDRESS.findall(text) == []
    assert status["facts"]["incidents"]["recent"][0]["attacker"] == SCANNER
    assert (shown.returncode, SCANNER in shown.stdout, mode) == (0, True, 0o660)
    assert (refused.returncode, refused.stderr.count("\n")) == (64, 1)
    assert (agent.returncode, socket.exists()) == (0, False)
    assert CAMERA in eve
    assert forgotten.returncode == 0, forgotten.stderr
    forms = rf"(?<!\d){re.escape(CAMERA)}(?!\d)|{address_bytes(CAMERA).hex()}".encode()
    assert [path.name for path in kept if re.search(forms, path.read_bytes())] == []


def test_promtool_and_a_real_prometheus_take_the_page_of_a_live_agent(
    wire: Wire, agent: subprocess.Popen[str], tmp_path: Path
):
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        pytest.skip("no prometheus (Debian: apt-get install prometheus)")
    sent = send(wire)
    series = 'penstock_capture_read_total{interface="eth0"}'
    until(lambda: value(page(), series) >= sent)
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n- job_name: penstock\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]\n"
    )

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    process = subprocess.Popen(
        [
            prometheus,
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{PORT + 1}",
            "--log.level=error",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:

        def scraped(query: str) -> list[float]:
            url = f"http://127.0.0.1:{PORT + 1}/api/v1/query?query={urllib.request.quote(query)}"
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return [float(each["value"][1]) for each in json.load(answer)["data"]["result"]]
            except OSError:
                return []

        # On a busy machine one scrape may be too late and the next one not: then all is away for a while.
        until(lambda: scraped('up{job="penstock"}') == [1.0] and max(scraped(series), default=0.0) >= sent)

        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
