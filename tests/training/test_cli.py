"""penstock-train evaluate, end to end on small captures."""

from __future__ import annotations

import json
import os

import pytest

from tests.training.test_captures import write_capture
from training import cli

pytest.importorskip("onnxruntime")

KEYS = {
    "windows_benign", "windows_attack", "tpr", "fpr", "auc", "incidents", "false_incidents", "days",
    "false_incidents_per_day", "first_alert_s",
}  # fmt: skip


@pytest.fixture
def truth(tmp_path):
    """A scan of 400 ports from inside, a benign capture, and a note that a glob sweeps up."""
    write_capture(tmp_path / "scan.pcap", ports=range(1, 401), gap_s=0.01)
    write_capture(tmp_path / "calm" / "calm.pcap", ports=[443, 443, 443], gap_s=30.0)
    (tmp_path / "calm" / "NOTE.txt").write_text("nothing to see\n")
    entries = [
        {"file": "scan.pcap", "attack": "malicious", "class": "port_scan", "attacker": ["192.168.0.2"]},
        {"file": "calm/*", "attack": "benign"},
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def told(truth, capsys):
    assert cli.main(["evaluate", "--bundle", "models/default", "--captures", str(truth), "--json"]) == 0
    captured = capsys.readouterr()
    assert "NOTE.txt" in captured.err
    return json.loads(captured.out)


def test_the_report_has_captures_classes_and_a_total_of_the_same_figures(told):
    assert set(told) == {"bundle", "captures", "classes", "total"}
    assert len(told["captures"]) == 2
    assert all(set(each) >= KEYS for each in [*told["captures"], *told["classes"].values(), told["total"]])


def test_what_cannot_be_said_of_a_capture_is_null(told):
    scan, calm = told["captures"]

    assert scan["fpr"] is None
    assert scan["windows_attack"] > 0
    assert calm["tpr"] is None
    assert calm["auc"] is None
    assert calm["first_alert_s"] is None
    assert calm["days"] == pytest.approx(60 / 86_400, abs=1e-6)


def test_the_total_counts_all_captures(told):
    assert told["total"]["windows_attack"] == sum(each["windows_attack"] for each in told["captures"])
    assert told["classes"]["scan"]["windows_attack"] == told["total"]["windows_attack"]


def test_the_table_names_captures_and_total(truth, capsys):
    cli.main(["evaluate", "--bundle", "models/default", "--captures", str(truth)])
    lines = capsys.readouterr().out.splitlines()

    assert lines[0].startswith("bundle models/default (gru release")
    assert any("calm.pcap" in line for line in lines)
    assert lines[-1].startswith("total")


def test_a_truncated_capture_is_told_in_full_and_then_as_an_error(truth, capsys):
    scan = truth.with_name("scan.pcap")
    scan.write_bytes(scan.read_bytes()[:-7])
    code = cli.main(["evaluate", "--bundle", "models/default", "--captures", str(truth), "--json"])
    captured = capsys.readouterr()

    assert code == 65
    assert "scan.pcap" in captured.err
    assert json.loads(captured.out)["captures"][0]["windows_attack"] > 0


@pytest.mark.parametrize(("bundle", "code"), [("/nowhere", 78), ("models", 78)])
def test_a_folder_that_is_no_bundle_is_one_line(truth, capsys, bundle, code):
    assert cli.main(["evaluate", "--bundle", bundle, "--captures", str(truth)]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_what_a_capture_or_a_folder_is_called_steers_no_terminal(truth, capsys):
    hostile = truth.parent / "calm" / "\x1b]0;owned\x07\n.pcap"
    (truth.parent / "calm" / "calm.pcap").rename(hostile)
    (truth.parent / "calm" / "NOTE\x1b[31m\n.txt").write_text("nothing to see\n")
    hostile.with_name(os.fsdecode(b"caf\xe9.pcap")).write_bytes(hostile.read_bytes())

    assert cli.main(["evaluate", "--bundle", "models/default", "--captures", str(truth)]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "owned\\x07\\n.pcap" in told.out
    assert "caf\\udce9.pcap" in told.out
    assert told.err.count("\n") == 2

    assert cli.main(["evaluate", "--bundle", "/\x1b[31m\n", "--captures", str(truth)]) == 78
    assert capsys.readouterr().err.startswith("penstock-train: bundle: cannot read /\\x1b[31m\\n/manifest.json: ")


def test_evaluate_imports_no_torch(truth):
    import subprocess
    import sys

    program = (
        "import sys; from training.cli import main; "
        f"main(['evaluate', '--bundle', 'models/default', '--captures', {str(truth)!r}]); "
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
