"""What was found held against what was done."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from agent.commands import demo
from contracts import ground_truth
from contracts.errors import DataMissing
from contracts.ground_truth import GroundTruth
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from tests.detection.windows import (
    BULB,
    CAMERA,
    ELSEWHERE,
    OUTSIDE,
    PHONE,
    T0_US,
    LegibleEngine,
    Row,
    S,
    Window,
    batch_of,
    make_bundle,
)
from tests.e2e.scan import write_scan

T0_S = T0_US / S


def truth_of(folder: Path, *intervals: dict) -> GroundTruth:
    write_scan(folder / "capture.pcap")
    entry = {"file": "capture.pcap", "attack": "mixed", "class": "lab", "intervals": list(intervals)}
    (folder / "ground_truth.json").write_text(json.dumps([entry]))
    (truth,) = ground_truth.load(folder / "ground_truth.json")
    return truth


def scan_of(victim: str, **changes) -> dict:
    interval = {"start": T0_S - 10, "end": T0_S + 10, "class": "port_scan", "attacker": [OUTSIDE], "victim": [victim]}
    return {**interval, **changes}


def incidents_of(*rows: Row, name: str = "scan") -> list[IncidentUpdate]:
    """Return one incident per row, each in a window of the row's victim."""
    detector = Detector(make_bundle(), LegibleEngine())
    for number, row in enumerate(rows):
        seen = Row(row.src, row.dst, {name: 0.75}, flow_id=number + 1)
        detector.add(batch_of(Window(row.dst, [seen])))
    return detector.incidents


def verdict(truth: GroundTruth, incidents: list[IncidentUpdate]) -> tuple[bool, list[str]]:
    stream = io.StringIO()
    is_right = demo.write_verdict(truth, incidents, stream)
    return is_right, [line.strip() for line in stream.getvalue().splitlines()[2:]]


def test_an_attack_found_and_nothing_else_is_as_it_should_be(tmp_path: Path):
    is_right, lines = verdict(truth_of(tmp_path, scan_of(CAMERA)), incidents_of(Row(OUTSIDE, CAMERA)))

    assert is_right
    assert lines == [
        f"found   scan: {OUTSIDE} attacked {CAMERA}; said 10.00 s after it began, score 0.750",
        "nothing else was raised",
    ]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (Row(OUTSIDE, CAMERA), "flood"),
        (Row(ELSEWHERE, CAMERA), "scan"),
        (Row(OUTSIDE, BULB), "scan"),
        (Row(CAMERA, OUTSIDE), "scan"),
    ],
    ids=["another class", "another attacker", "another victim", "the other way round"],
)
def test_an_attack_is_missed_where_the_incident_says(tmp_path: Path, row: Row, name: str):
    is_right, lines = verdict(truth_of(tmp_path, scan_of(CAMERA)), incidents_of(row, name=name))

    assert not is_right
    assert lines[0] == f"MISSED  scan: {OUTSIDE} attacked {CAMERA}"
    assert lines[1].startswith(f"false alarm: {name} at ")


def test_an_attack_that_was_found_may_have_another_name_as_well(tmp_path: Path):
    found, also = incidents_of(Row(OUTSIDE, CAMERA)), incidents_of(Row(OUTSIDE, CAMERA), name="botnet")

    is_right, lines = verdict(truth_of(tmp_path, scan_of(CAMERA)), found + also)

    assert is_right
    assert lines[1:] == [f"also    botnet: said of the same scan by {OUTSIDE}", "nothing else was raised"]


def test_an_incident_at_another_time_is_a_false_alarm(tmp_path: Path):
    later = scan_of(CAMERA, start=T0_S + 100, end=T0_S + 200)

    is_right, lines = verdict(truth_of(tmp_path, later), incidents_of(Row(OUTSIDE, CAMERA)))

    assert not is_right
    assert lines[-1] == f"false alarm: scan at {CAMERA}"


def test_every_attack_must_be_found(tmp_path: Path):
    is_right, lines = verdict(truth_of(tmp_path, scan_of(CAMERA), scan_of(PHONE)), incidents_of(Row(OUTSIDE, CAMERA)))

    assert not is_right
    assert [line[:6] for line in lines] == ["found ", "MISSED", "nothin"]


def test_a_flood_from_forged_addresses_is_found_by_its_victim(tmp_path: Path):
    forged = scan_of(CAMERA, attacker=["spoofed"])

    is_right, lines = verdict(truth_of(tmp_path, forged), incidents_of(Row(ELSEWHERE, CAMERA)))

    assert is_right
    assert lines[0].startswith(f"found   scan: spoofed attacked {CAMERA}")


def test_a_long_list_of_attackers_is_counted(tmp_path: Path):
    crowd = scan_of(CAMERA, attacker=[f"{n}.0.0.0/8" for n in range(190, 220)])

    _, lines = verdict(truth_of(tmp_path, crowd), incidents_of(Row(OUTSIDE, CAMERA)))

    assert lines[0].startswith(f"found   scan: any of 30 networks attacked {CAMERA}")


def test_without_its_capture_the_demo_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)

    with pytest.raises(DataMissing, match=r"demo/ground_truth\.json"):
        demo.demo_folder()
