"""From a capture file to the table, the summary and eve.json, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from contracts.eve import MAX_LINE_BYTES, EveLine
from tests.e2e.conftest import TIMEOUT_S, Run, environment, until_at_work
from tests.e2e.scan import CAMERA, SCANNER, chat_frames, scan_frames, write_scan
from tests.flowfeatures.packets import write_pcap


def eve_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_table_names_attacker_victim_and_class(penstock: Run, capture: Path, bundle: Path):
    done = penstock("replay", capture, "--bundle", bundle)

    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if CAMERA in line]
    assert f"{SCANNER} -> {CAMERA}" in row
    assert "scan" in row
    assert "failed_10s" in row
    assert f"bundle {bundle}: unsigned" in done.stdout


def test_every_eve_line_is_valid_and_says_what_the_table_says(
    penstock: Run, capture: Path, bundle: Path, tmp_path: Path
):
    penstock("replay", capture, "--bundle", bundle, "--eve", "eve.json", "--gateway", "cellar")

    alerts = eve_of(tmp_path / "eve.json")
    assert [alert["alert"]["context"]["penstock"]["update"] for alert in alerts] == [0, 1]
    for line in (tmp_path / "eve.json").read_bytes().splitlines():
        EveLine.model_validate_json(line)
        assert len(line) <= MAX_LINE_BYTES
    assert {(alert["host"], alert["src_ip"], alert["dest_ip"]) for alert in alerts} == {("cellar", SCANNER, CAMERA)}


def test_two_runs_give_the_same_bytes(penstock: Run, capture: Path, bundle: Path, tmp_path: Path):
    for name in ("one.json", "two.json"):
        penstock("replay", capture, "--bundle", bundle, "--eve", name)

    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes() != b""


def test_a_capture_in_two_files_gives_the_same_bytes(penstock: Run, bundle: Path, tmp_path: Path):
    frames = sorted(scan_frames() + chat_frames())
    whole = write_pcap(tmp_path / "whole.pcap", frames)
    halves = [
        write_pcap(tmp_path / "a.pcap", frames[: len(frames) // 2]),
        write_pcap(tmp_path / "b.pcap", frames[len(frames) // 2 :]),
    ]

    penstock("replay", whole, "--bundle", bundle, "--eve", "whole.json")
    penstock("replay", *halves, "--bundle", bundle, "--eve", "halves.json")

    assert (tmp_path / "whole.json").read_bytes() == (tmp_path / "halves.json").read_bytes() != b""


def test_the_summary_adds_up(penstock: Run, capture: Path, bundle: Path):
    done = penstock("replay", capture, "--bundle", bundle, "--json")

    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert summary["packets"] == summary["decoded"] + sum(summary["undecoded"].values()) == 40 * 2 + 20 * 8
    assert (summary["flows"], summary["incidents"], summary["alerts"]) == (60, 1, 2)
    assert summary["records"] >= summary["flows"]
    assert summary["windows"] > 0
    assert {"flows", "windows", "inference", "decisions", "delivery", "total"} <= summary["seconds"].keys()
    assert (summary["errors"], summary["exit_code"]) == ([], 0)
    (found,) = summary["incident_list"]
    assert (found["class"], found["attacker"], found["victim"], found["device"]) == ("scan", SCANNER, CAMERA, CAMERA)


def test_eve_on_stdout_leaves_the_table_to_stderr(penstock: Run, capture: Path, bundle: Path):
    done = penstock("replay", capture, "--bundle", bundle, "--eve", "-")

    assert [json.loads(line)["event_type"] for line in done.stdout.splitlines()] == ["alert", "alert"]
    assert f"{SCANNER} -> {CAMERA}" in done.stderr


def test_a_device_outside_the_home_networks_is_none(penstock: Run, capture: Path, bundle: Path):
    done = penstock("replay", capture, "--bundle", bundle, "--home-net", "10.9.0.0/16", "--json")

    assert json.loads(done.stdout)["windows"] == 0


def test_its_own_pace_takes_as_long_as_the_packets_did(penstock: Run, bundle: Path, tmp_path: Path):
    capture = write_scan(tmp_path / "short.pcap", ports=20)

    done = penstock("replay", capture, "--bundle", bundle, "--speed", "10", "--json")

    seconds = json.loads(done.stdout)["seconds"]
    total_s = seconds.pop("total")
    assert 0 < seconds["waiting"] <= total_s
    assert sum(seconds.values()) > 1.5, "some 20 s of packets, ten times as fast; on a busy machine it waits for less"


def test_ctrl_c_reports_what_was_read_and_ends_with_130(command: list[str], capture: Path, bundle: Path):
    arguments = ["replay", str(capture), "--bundle", str(bundle), "--speed", "1", "--json"]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
    )
    until_at_work(process)
    time.sleep(2.0)  # into the middle of the replay; where it is still starting, the signal ends it all the same
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 130, errors
    if output:
        assert json.loads(output)["exit_code"] == 130


@pytest.mark.parametrize("arguments", [["--eve", "-"], ["--json"]])
def test_a_reader_that_goes_away_is_no_traceback(command: list[str], capture: Path, bundle: Path, arguments: list[str]):
    process = subprocess.Popen(
        [*command, "replay", str(capture), "--bundle", str(bundle), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()

    assert process.wait(TIMEOUT_S) == 141
    assert "Traceback" not in errors
