"""`penstock explain`: what a person and a program read of an incident."""

from __future__ import annotations

import argparse
import json
import sys

import pytest

from agent.commands import explain
from agent.state.incident_record import RECORD_FILE, IncidentRecord
from agent.state.verdicts import Source, give_verdict
from contracts.errors import DataMissing, MissingExtra, UsageError
from detection.detector import Detector
from detection.usual import LEAST_ROWS, Usual
from flowfeatures import WINDOW_COLUMNS, address_text
from tests.agent.state.test_explanations import older, update_of
from tests.detection.test_rules import EmbeddingEngine, opened
from tests.detection.windows import CAMERA, OUTSIDE, PHONE, T0_US, Row, Window, batch_of, make_bundle

SHA = "0" * 64
PORTS = WINDOW_COLUMNS.index("ports_10s")
DURATION = WINDOW_COLUMNS.index("duration_us")


@pytest.fixture
def update(tmp_path):
    """Give an incident on record: a scan of a camera that otherwise talks to few ports."""
    detector = Detector(make_bundle(), EmbeddingEngine(), usual=Usual())
    for second in range(LEAST_ROWS):
        batch = batch_of(Window(CAMERA, [Row(CAMERA, PHONE)], at_s=-100 + second))
        batch.values[0, 0, [PORTS, DURATION]] = [1 + second % 3, 2_000_000]
        detector.add(batch)
    rows = [
        Row(CAMERA, PHONE, is_new=False, dst_port=80, end_us=T0_US),
        Row(OUTSIDE, CAMERA, {"scan": 0.7}, flow_id=2, dst_port=24),
        Row(OUTSIDE, CAMERA, {"scan": 0.9}, flow_id=3, dst_port=25, repeats=7),
    ]
    batch = batch_of(Window(CAMERA, rows))
    batch.values[0, 1:, PORTS] = 500
    (made,) = opened(detector, batch)
    record = IncidentRecord(tmp_path / RECORD_FILE)
    record.add(made, bundle_sha256=SHA, mac="aa:bb:cc:dd:ee:ff")
    record.close()
    return made


def shown(folder, capsys, *words):
    parser = argparse.ArgumentParser()
    explain.add_arguments(parser)
    assert explain.run(parser.parse_args([*words, "--state-dir", str(folder)])) == 0
    return capsys.readouterr().out


def test_it_says_who_what_when_and_how_sure(update, tmp_path, capsys):
    text = shown(tmp_path, capsys, update.alert_id)

    lines = text.splitlines()
    assert lines[0] == f"scan: {OUTSIDE} -> {CAMERA}"
    assert f"  incident   {update.incident_id}, device {CAMERA} (aa:bb:cc:dd:ee:ff)" in lines
    assert "now: opened" in text
    assert "how sure   score 0.900, threshold 0.500, 1 windows above it" in text
    assert "verdict    no verdict was given, no rule is on it" in text


def test_flows_are_ordered_by_what_counted_most(update, tmp_path, capsys):
    lines = shown(tmp_path, capsys, update.incident_id).splitlines()

    flows = [line.split() for line in lines if " TCP port " in line]
    assert [line[0] for line in flows] == ["*", "*", "before"]
    assert [line[line.index("port") + 1] for line in flows] == ["25", "24", "80"]
    assert [line[-1] for line in flows] == ["7", "1", "1"]
    assert f"from {OUTSIDE}" in " ".join(flows[0])


def test_columns_stand_against_what_the_device_does_otherwise_in_words_with_units(update, tmp_path, capsys):
    text = shown(tmp_path, capsys, update.incident_id)

    outside = text[text.index("farthest outside what this device does otherwise (16 records seen") :]
    (ports,) = [line for line in outside.splitlines() if "ports of the last 10 s" in line]
    assert "500" in ports
    assert "1 to 3" in ports
    (duration,) = [line for line in outside.splitlines() if "duration of the flow" in line]
    assert "2 s" in duration


def test_of_a_device_little_was_seen_of_that_is_said(tmp_path, capsys):
    made = update_of()
    record = IncidentRecord(tmp_path / RECORD_FILE)
    record.add(made, bundle_sha256=SHA)
    record.close()

    assert "too little was seen of this device" in shown(tmp_path, capsys, made.incident_id)


def test_a_verdict_and_its_rule_are_shown(update, tmp_path, capsys):
    given = give_verdict(tmp_path, update.alert_id, "benign", source=Source("command"), now_us=T0_US)

    text = shown(tmp_path, capsys, update.alert_id)

    assert "verdict    benign, said an operator" in text
    assert f"rule {given.rule_id} keeps its like back until 2023-12-14" in text


def test_a_program_reads_the_same(update, tmp_path, capsys):
    found = json.loads(shown(tmp_path, capsys, update.alert_id, "--json"))

    assert (found["class"], found["device"]) == ("scan", address_text(update.device))
    assert found["told"]["severity"] == update.severity
    assert [each["dst_port"] for each in found["window"]["records"]] == [25, 24, 80]
    assert found["window"]["usual_records"] == LEAST_ROWS
    ports = next(each for each in found["window"]["outside"] if each["column"] == "ports_10s")
    assert (ports["here"], ports["high"]) == (500.0, 3.0)


def test_without_an_id_all_that_are_known_are_listed(update, tmp_path, capsys):
    assert shown(tmp_path, capsys).startswith(f"{update.incident_id}  2023-11-14 22:13:2")
    (line,) = shown(tmp_path, capsys, "--json").splitlines()
    assert json.loads(line)["incident_id"] == update.incident_id


def test_an_incident_of_the_format_before_says_that_nothing_was_kept(tmp_path, capsys):
    made = update_of()
    older(tmp_path, made)

    assert "nothing was kept of how it opened" in shown(tmp_path, capsys, made.incident_id)
    with pytest.raises(DataMissing, match="nothing to draw"):
        shown(tmp_path, capsys, made.incident_id, "--plot", str(tmp_path / "x.png"))


def test_an_id_nobody_knows_is_told(update, tmp_path, capsys):
    with pytest.raises(DataMissing, match="knows no alert or incident nobody"):
        shown(tmp_path, capsys, "nobody")
    with pytest.raises(UsageError, match="--plot wants an ALERT_ID"):
        shown(tmp_path, capsys, "--plot", "x.png")


def test_a_plot_without_matplotlib_says_how_to_get_it(update, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("agent.console.window_plot.find_spec", lambda _: None)

    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[plot\]'"):
        shown(tmp_path, capsys, update.alert_id, "--plot", str(tmp_path / "window.png"))


def test_a_plot_is_a_picture_of_the_window(update, tmp_path, capsys):
    pytest.importorskip("matplotlib")

    shown(tmp_path, capsys, update.alert_id, "--plot", str(tmp_path / "window.png"))

    octets = (tmp_path / "window.png").read_bytes()
    assert octets.startswith(b"\x89PNG")
    assert len(octets) > 5000
