"""`penstock status` and the socket it asks: what a person reads, who may ask, and that nobody can stall the agent."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.commands import status
from agent.monitoring.bounded_server import MAX_CLIENTS
from agent.monitoring.facts import AgentFacts, FactsBoard, InterfaceFacts
from agent.monitoring.status_page import problems_of, write_status
from agent.monitoring.status_server import StatusReport, StatusServer, adapter
from contracts.errors import ListenError
from contracts.program import Parser, run_program
from tests.agent.monitoring.facts import START_US, full_facts

NOW_US = full_facts().at_us
Serve = Callable[..., StatusServer]


def healthy() -> AgentFacts:
    """Return facts of which nobody could complain."""
    return AgentFacts(
        at_us=NOW_US,
        started_us=START_US,
        interfaces=(InterfaceFacts(name="eth0", seen=10_000, read=9_995, dropped=5, last_packet_us=NOW_US),),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "status.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    made: list[StatusServer] = []

    def serve_(*facts: AgentFacts, age_s: float = 0.0) -> StatusServer:
        clock = iter([0.0] * len(facts))
        board = FactsBoard(lambda: next(clock, age_s))
        for each in facts:
            board.post(each)
        made.append(StatusServer(board, path))
        made[-1].start()
        return made[-1]

    yield serve_
    for each in made:
        each.stop()


@pytest.fixture(autouse=True)
def in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "WAIT_S", 120.0)


def ask(*arguments: str) -> int:
    parser = Parser(prog="penstock status")
    status.add_arguments(parser)
    return run_program("penstock", lambda: status.run(parser.parse_args([*arguments])))


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def page_of(report: StatusReport) -> str:
    stream = io.StringIO()
    write_status(report, stream, now_us=NOW_US)
    return stream.getvalue()


def report_of(facts: AgentFacts) -> StatusReport:
    return StatusReport(age_s=0.5, facts=facts)


def test_a_status_shows_interfaces_judgement_delivery_machine_and_incidents(
    serve: Serve, path: Path, capsys: pytest.CaptureFixture[str]
):
    serve(full_facts())

    code = ask("--socket", str(path))

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    for said in (
        "0.2.0  cellar  up ",
        "eth0",
        "90 (0.009 %)",
        "1,234 of 65,536 live",
        "4,900 scored",
        "onnxruntime, CPUExecutionProvider; 310 batches, p50 within 1 ms, p95 within 5 ms",
        "gru release 3, trusted by vendor",
        "release 4 tried on 400 of 1,000 windows",
        "calibrated, 4,000 of 1,000 windows; threshold 0.93 (between 0.8 and 0.99)",
        "0.5 incidents in a day not called malicious, of 1 that may be false",
        "192.168.1.5:8883 connecting; 900 alerts delivered; outbox 120 of 10,000",
        "140 MiB of 256 MiB",
        "203.0.113.9 -> 192.168.1.23",
    ):
        assert said in out, said


def test_json_holds_every_number_and_can_be_read_back(serve: Serve, path: Path, capsys: pytest.CaptureFixture[str]):
    serve(full_facts())

    code = ask("--socket", str(path), "--json")

    text = capsys.readouterr().out
    assert code == 0
    assert json.loads(text)["facts"]["delivery"]["outbox_rows"] == 120
    assert adapter().validate_json(text).facts == full_facts()


def test_rates_are_those_of_the_board(path: Path):
    clock = iter([0.0, 2.0, 2.0, 2.0])
    board = FactsBoard(lambda: next(clock))
    board.post(replace(healthy(), interfaces=(InterfaceFacts(name="a", read=100), InterfaceFacts(name="b"))))
    board.post(replace(healthy(), interfaces=(InterfaceFacts(name="a", read=300, dropped=8), InterfaceFacts(name="b"))))

    report = StatusReport.of(board)

    assert (report.packets_per_s, report.drops_per_s) == ({"a": 100.0, "b": 0.0}, {"a": 4.0, "b": 0.0})


def test_what_a_gateway_of_a_fleet_keeps_carries_and_was_ordered_is_told_where_it_is_one():
    alone, one_of_many = page_of(report_of(healthy())), page_of(report_of(full_facts()))

    assert "\nfederation" not in alone
    assert "federation     441 windows kept, 1 MiB; 4 messages taken, 3 sent; order 3: staged\n" in one_of_many


def test_a_bundle_on_trial_is_told_to_be():
    facts = full_facts()
    trial = replace(facts, bundle=replace(facts.bundle, on_probation=True))

    told = [page_of(report_of(each)).count("; on trial\n") for each in (replace(trial, bundle=facts.bundle), trial)]

    assert told == [int(facts.bundle.on_probation), 1]


def test_no_problem_is_told_of_a_healthy_agent():
    assert list(problems_of(report_of(healthy()), now_us=NOW_US)) == []
    assert "  ! " not in page_of(report_of(healthy()))


def test_every_problem_stands_at_the_top():
    told = list(problems_of(report_of(full_facts()), now_us=NOW_US))

    for start in (
        "wlan0: no packet",
        "wlan0: the interface is absent",
        "broker 192",
        "3 alerts dropped",
        "syslog: ",
        "last r",
    ):
        assert any(line.startswith(start) for line in told), start
    assert page_of(report_of(full_facts())).index("! wlan0") < page_of(report_of(full_facts())).index("packets/s")


def test_drops_are_a_problem_above_one_in_a_thousand():
    def told(dropped: int) -> list[str]:
        facts = replace(healthy(), interfaces=(InterfaceFacts(name="eth0", seen=10_000, dropped=dropped),))
        return list(problems_of(report_of(facts), now_us=NOW_US))

    assert (len(told(10)), len(told(11))) == (0, 1)


def test_nothing_a_device_calls_itself_steers_a_terminal():
    page = page_of(report_of(full_facts()))

    assert all(line.isprintable() for line in page.splitlines())
    assert r"camera\x1b[2J" in page


def test_a_page_of_an_agent_that_just_began_is_written_too():
    page = page_of(StatusReport())

    assert "no numbers yet" in page
    assert "not started yet" in page


def test_a_pipeline_that_does_not_move_is_told_and_ends_with_69(
    serve: Serve, path: Path, capsys: pytest.CaptureFixture[str]
):
    serve(healthy(), age_s=60.0)

    code = ask("--socket", str(path))

    out, err = capsys.readouterr()
    assert code == 69
    assert "the pipeline does not move" in out
    assert err.count("\n") == 1


@pytest.mark.parametrize("what", ["absent", "dead", "file", "mute", "noise", "other version"])
def test_where_no_agent_answers_it_ends_with_69_and_one_line(
    path: Path, what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(status, "WAIT_S", 0.3)
    path.parent.mkdir()
    listening = socket.socket(socket.AF_UNIX)
    if what == "file":
        path.touch()
    elif what != "absent":
        listening.bind(str(path))
    if what in ("mute", "noise", "other version"):
        listening.listen(1)
    if what in ("noise", "other version"):
        import threading

        def answer() -> None:
            client, _ = listening.accept()
            with client:
                client.sendall(b"\xff{]" if what == "noise" else b'{"format": 99}')

        threading.Thread(target=answer, daemon=True).start()

    code = ask("--socket", str(path))

    listening.close()
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (69, "", 1)
    assert err.startswith("penstock: status: ")


def test_the_socket_appears_with_mode_0660_whatever_the_umask(serve: Serve, path: Path):
    before = os.umask(0)
    try:
        serve(healthy())
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert [each.name for each in path.parent.iterdir()] == ["status.sock"]


def test_a_socket_that_an_agent_left_behind_is_replaced(serve: Serve, path: Path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    serve(healthy())

    assert ask("--socket", str(path), "--json") == 0


def test_a_socket_where_an_agent_answers_is_left_to_it(serve: Serve, path: Path):
    serve(full_facts())

    with pytest.raises(ListenError, match="another agent answers there"):
        StatusServer(FactsBoard(), path).start()

    assert ask("--socket", str(path), "--json") == 0


def test_a_file_of_that_name_is_not_touched(path: Path):
    path.parent.mkdir()
    path.write_text("precious")

    with pytest.raises(ListenError, match="something that is no socket"):
        StatusServer(FactsBoard(), path).start()

    assert path.read_text() == "precious"
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_is_not_there_and_cannot_be_made_is_an_error(tmp_path: Path):
    with pytest.raises(ListenError, match="cannot answer at"):
        StatusServer(FactsBoard(), tmp_path / "a" / "b" / "s").start()


def test_the_name_is_gone_when_the_agent_ends_but_not_where_another_took_it(serve: Serve, path: Path):
    serve(healthy()).stop()
    assert not path.exists()
    first = serve(healthy())
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))

        first.stop()

    assert path.exists()


def test_clients_that_send_read_nothing_or_leave_do_not_stall_it(serve: Serve, path: Path):
    server = serve(full_facts())
    hostile = []
    for number in range(3 * MAX_CLIENTS):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(120)
        status._connect(sock, path, time.monotonic() + 120)
        if number % 3 == 0:
            sock.close()
        elif number % 3 == 1:
            try:
                sock.sendall(b"\x00" * 4096)
            except OSError:
                sock.close()
        hostile.append(sock)

    until(lambda: sum(server.results.values()) == 3 * MAX_CLIENTS and server.busy == 0)

    assert ask("--socket", str(path), "--json") == 0
    for sock in hostile:
        sock.close()


def test_the_same_facts_are_made_into_octets_once(serve: Serve, path: Path):
    server = serve(full_facts())

    first = server._report()

    assert server._report() is first
    server._board.post(healthy())
    assert server._report() is not first
