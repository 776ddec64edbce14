"""The report by side and source."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.training.test_captures import SPLITS, write_data, write_lab
from training import cli
from training.captures import find_captures
from training.report import markdown, report_sides, source_of

pytest.importorskip("onnxruntime")

from contracts.bundle import default_bundle
from detection.onnx_engine import OnnxEngine


@pytest.fixture
def told(tmp_path):
    for seed in (1, 3):
        write_lab(tmp_path / "lab", seed, ports=range(seed, seed + 40))
    write_data(tmp_path, "scans/a.pcap", ports=[80, 81])
    bundle = default_bundle()
    return report_sides(bundle, OnnxEngine(bundle), find_captures(SPLITS, shared=tmp_path, lab=tmp_path / "lab"))


def test_every_judging_side_is_told_by_source_and_the_training_side_is_not(told):
    assert set(told["sides"]) == {"validation", "test", "evaluation"}
    assert set(told["sides"]["test"]["sources"]) == {"lab"}
    assert set(told["sides"]["evaluation"]["sources"]) == {"scans"}
    assert told["sides"]["validation"]["total"]["captures"] == 0


def test_a_sample_without_false_incidents_bounds_their_rate_all_the_same(told):
    total = told["sides"]["evaluation"]["total"]

    assert total["false_incidents"] == 0
    assert total["false_incidents_per_day_upper_bound"] * total["days"] == pytest.approx(
        3, rel=0.05
    )  # days are rounded
    assert total["fpr_upper_bound"] == pytest.approx(min(1.0, 3 / total["windows_benign"]))


def test_the_tables_hold_a_line_per_source(told):
    lines = markdown(told).splitlines()

    assert sum(line.startswith("| lab |") for line in lines) == 1
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("name", "attack", "told_as"),
    [
        ("iot_sentinel/Aria/1.pcap", "benign", "iot_sentinel/Aria"),
        ("scans/a.pcap", "malicious", "scans/a.pcap"),
        ("smarthome_fit/a.pcap", "benign", "smarthome_fit"),
        ("lab/seed-1/capture.pcap", "mixed", "lab"),
    ],
)
def test_captures_that_differ_in_kind_are_told_apart(name, attack, told_as):
    capture = SimpleNamespace(name=name, source=name.split("/")[0], truth=SimpleNamespace(attack=attack))

    assert source_of(capture) == told_as


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_a_command_without_torch_says_what_to_install(command, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["-o", "/nonexistent/x.json"]

    assert cli.main([command, *arguments]) == 69
    assert "pip install 'penstock[train]'" in capsys.readouterr().err


def test_the_module_runs_as_a_program():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "training.cli", "--help"], cwd=root, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert all(word in done.stdout for word in ("fit", "evaluate", "report", "compare"))


def test_the_report_is_json(told):
    assert json.loads(json.dumps(told)) == told
