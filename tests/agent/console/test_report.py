"""The table of incidents."""

from __future__ import annotations

import io

import pytest

from agent.console.report import write_incidents
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from tests.agent.console.test_terminal import Terminal
from tests.detection.windows import CAMERA, ELSEWHERE, OUTSIDE, LegibleEngine, Row, Window, batch_of, make_bundle

SCAN = {"scan": 0.8125}


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def incidents_of(*rows: Row) -> list[IncidentUpdate]:
    detector = Detector(make_bundle(), LegibleEngine())
    detector.add(batch_of(Window(CAMERA, rows)))
    return detector.incidents


def written(incidents: list[IncidentUpdate], stream: io.StringIO) -> str:
    write_incidents(incidents, stream)
    return stream.getvalue()


def test_a_row_says_who_attacks_whom_when_how_much_how_sure_and_why():
    heading, row = written(incidents_of(Row(OUTSIDE, CAMERA, SCAN)), io.StringIO()).splitlines()

    assert heading.split("  ")[0] == "device"
    assert [cell.strip() for cell in row.split("  ") if cell] == [
        "192.168.1.10",
        "203.0.113.9 -> 192.168.1.10",
        "scan",
        "2023-11-14 22:13:19",
        "1",
        "0.812",
        "fwd_packets",
    ]


def test_others_beside_the_one_named_are_counted():
    rows = [Row(OUTSIDE, CAMERA, SCAN, flow_id=1), Row(ELSEWHERE, CAMERA, SCAN, flow_id=2)]

    assert "203.0.113.9 (+1) -> 192.168.1.10" in written(incidents_of(*rows), io.StringIO())


def test_many_sources_are_a_number_not_a_name():
    rows = [Row(f"203.0.113.{n}", CAMERA, SCAN, flow_id=n) for n in range(9)]

    assert "9 sources -> 192.168.1.10" in written(incidents_of(*rows), io.StringIO())


def test_many_targets_are_a_number_not_a_name():
    rows = [Row(CAMERA, f"203.0.113.{n}", SCAN, flow_id=n) for n in range(9)]

    assert "192.168.1.10 -> 9 addresses" in written(incidents_of(*rows), io.StringIO())


def test_nothing_found_is_said():
    assert written([], io.StringIO()) == "no incidents\n"


def test_a_file_gets_no_colours_and_one_line_per_incident(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")

    text = written(incidents_of(Row(OUTSIDE, CAMERA, SCAN)), io.StringIO())

    assert "\x1b" not in text
    assert text.count("\n") == 2


def test_a_narrow_terminal_gets_the_columns_on_their_own_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    lines = written(incidents_of(Row(OUTSIDE, CAMERA, SCAN)), Terminal()).splitlines()

    assert lines[2] == "  said so: fwd_packets"


def test_an_incident_that_asks_for_a_ban_is_red(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    text = written(incidents_of(Row(OUTSIDE, CAMERA, {"scan": 0.95}, handshake=True)), Terminal())

    assert "\x1b[31m192.168.1.10" in text
