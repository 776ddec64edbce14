"""`penstock outbox`: what waits for a broker that is away, shown beside the agent that keeps it and without one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.commands import outbox as command
from agent.delivery import Delivery, MqttSettings
from agent.delivery.outbox import Bounds, Letter, Outbox
from agent.monitoring.facts import AgentFacts, DeliveryFacts, FactsBoard
from agent.monitoring.status_server import StatusServer
from contracts.program import Parser, run_program
from tests.agent.commands.test_doctor_faults import UNPRIVILEGED
from tests.alerts import make_alert
from tests.ports import free_port

GUARD_S = 120.0


def show(*arguments: str | Path) -> int:
    parser = Parser(prog="penstock outbox")
    command.add_arguments(parser)
    return run_program("penstock", lambda: command.run(parser.parse_args([str(each) for each in arguments])))


def shown_by_itself(*arguments: str | Path) -> dict:
    """Return what a process of its own shows."""
    line = [sys.executable, "-m", "agent.cli", "outbox", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(line, capture_output=True, check=True, timeout=GUARD_S).stdout)


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "default_file", lambda: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def absent_broker() -> MqttSettings:
    return MqttSettings(host="127.0.0.1", port=free_port(), gateway="cellar", client_id="t", max_backoff_s=0.3)


def test_what_waits_for_an_absent_broker_is_shown_while_it_is_kept_and_afterwards(
    path: Path, capsys: pytest.CaptureFixture[str]
):
    with Delivery(mqtt=absent_broker(), outbox=path) as delivery:
        for number in range(5):
            delivery.take(make_alert(number, host="cellar", severity=2 + number % 2))
        deadline_s = time.monotonic() + GUARD_S
        while delivery.facts().outbox_rows < 5:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

        beside = shown_by_itself(path)
        kept = delivery.facts().outbox_bytes

    code = show(path)

    out, err = capsys.readouterr()
    topic = "penstock/v1/cellar/alert/brute_force"
    told = [(each["topic"], each["severity"], each["letters"]) for each in beside["waiting"]]
    assert told == [(topic, 2, 3), (topic, 3, 2)]
    assert (beside["letters"], beside["size_bytes"], beside["agent"], beside["most"]) == (5, kept, None, None)
    assert (code, err) == (0, "")
    assert f"letters  5, {kept:,} octets\n" in out
    rows = [line.split()[:3] for line in out.splitlines() if line.startswith(topic)]
    assert rows == [[topic, "2", "3"], [topic, "3", "2"]]


def test_whoever_looks_holds_up_no_letter_and_sees_whole_commits(path: Path):
    outbox, is_over, commits = Outbox(path, bounds=Bounds(rows=1_000_000)), threading.Event(), []

    def write() -> None:
        while not is_over.wait(0.005):
            outbox.apply(added=[Letter(2, "cellar", "scan", f"{len(commits)}-{each}", b"x") for each in range(7)])
            commits.append(len(outbox))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [shown_by_itself(path)["letters"] for _ in range(3)]
    finally:
        is_over.set()
        writer.join()

    assert [letters % 7 for letters in seen] == [0, 0, 0]
    assert 0 <= seen[0] <= seen[1] <= seen[2] <= commits[-1] == 7 * len(commits)
    assert seen[2] > 0
    outbox.close()


def test_the_agents_own_is_found_by_its_configuration_with_its_bounds_and_its_broker(
    tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
):
    Outbox(path).close()
    path.with_name("outbox.db.aside-1").write_bytes(bytes(12))
    socket, config = tmp_path / "status.sock", tmp_path / "agent.toml"
    config.write_text(
        f'[gateway]\nid = "cellar"\nstate_dir = "{tmp_path}"\n[capture]\ninterfaces = ["lo"]\n'
        f'[outbox]\nmax_rows = 77\nmax_age_s = 7200\n[status]\nsocket = "{socket}"\n'
    )
    board, delivery = FactsBoard(), DeliveryFacts(broker="broker.lan:8883", broker_state="connecting", delivered=9)
    server = StatusServer(board, socket)
    server.start()
    try:
        board.post(AgentFacts(delivery=replace(delivery, outbox_path=str(path), dropped=(("age", 3), ("rows", 0)))))
        show("--config", config)
        show("--config", config, "--json")
        board.post(AgentFacts(delivery=replace(delivery, outbox_path="/elsewhere/outbox.db")))
        show("--config", config, "--json")
    finally:
        server.stop()

    *text, ours, others = capsys.readouterr().out.splitlines()
    assert text == [
        f"outbox   {path}",
        "letters  0 of 77, 0 of 16,777,216 octets",
        "broker   broker.lan:8883: connecting, 0 in flight",
        "since its start the agent delivered 9, dropped age 3",
        f"aside    {path}.aside-1, 12 octets: damaged, or of a later format; nothing sends it",
    ]
    assert json.loads(ours)["most"] == {"rows": 77, "size_bytes": 16_777_216, "age_s": 7200.0}
    assert json.loads(ours)["agent"]["broker_state"] == "connecting"
    assert json.loads(ours)["aside"] == [{"path": f"{path}.aside-1", "size_bytes": 12}]
    assert json.loads(others)["agent"] is None


def test_a_folder_of_state_is_enough(tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]):
    outbox = Outbox(path)
    outbox.apply(added=[Letter(2, "cellar", "sc\x1b[2Jan", "a", b"x")])
    outbox.close()

    code = show("--state-dir", tmp_path)

    out = capsys.readouterr().out
    assert code == 0
    assert "letters  1 of 10,000, 1 of 16,777,216 octets" in out
    assert "kept for 7 d 0 h" in out
    assert "penstock/v1/cellar/alert/sc\\x1b[2Jan" in out


@pytest.mark.parametrize(
    ("octets", "code", "said"),
    [(None, 66, "is not there: nothing was kept in it yet"), (b"no database" * 99, 74, "file is not a database")],
)
def test_what_cannot_be_shown_is_one_line_and_a_code(
    path: Path, octets: bytes | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    if octets is not None:
        path.write_bytes(octets)

    assert show(path) == code
    assert said in capsys.readouterr().err


@pytest.mark.needs_root
def test_who_may_not_read_it_is_told_who_may():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        Outbox(folder / "outbox.db").close()

        line = [*UNPRIVILEGED, sys.executable, "-m", "agent.cli", "outbox", f"{folder}/outbox.db"]
        ran = subprocess.run(line, check=False, capture_output=True, text=True, timeout=GUARD_S)

    assert (ran.returncode, ran.stdout) == (74, "")
    assert ran.stderr == f"penstock: outbox: {folder}/outbox.db cannot be read: wanted its owner, or sudo\n"
