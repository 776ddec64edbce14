"""penstock-train evaluate, end to end on small captures."""

from __future__ import annotations

import gzip
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


def reported(truth, capsys, *, entries=None, code=0):
    """What `evaluate --json` prints, read as strict JSON, and its lines on standard error."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    if entries is not None:
        truth.write_text(json.dumps(entries))
    assert cli.main(["evaluate", "--bundle", "models/default", "--captures", str(truth), "--json"]) == code
    told = capsys.readouterr()
    return json.loads(told.out, parse_constant=refuse), told.err.splitlines()


@pytest.mark.parametrize(
    ("octets", "seen"),
    [(b"", "empty"), (b"GIF89a" * 9, "begins with 47 49 46 38"), (bytes.fromhex("d4c3b2a1020004"), "header")],
)
def test_a_capture_that_cannot_be_read_costs_its_own_figures_alone_and_is_counted(truth, capsys, octets, seen):
    whole, _ = reported(truth, capsys)
    (truth.parent / "calm" / "broken.pcap").write_bytes(octets)
    told, lines = reported(truth, capsys, code=65)

    broken = told["captures"][1]
    assert broken["capture"].endswith("broken.pcap")
    assert seen in broken["error"]
    assert (broken["windows_benign"], broken["windows_attack"], broken["days"]) == (0, 0, 0)
    assert any("broken.pcap" in line and seen in line for line in lines)
    assert (told["total"].pop("captures"), told["total"].pop("captures_broken")) == (3, 1)
    assert (whole["total"].pop("captures"), whole["total"].pop("captures_broken")) == (2, 0)
    assert told["total"] == whole["total"]


def test_a_capture_broken_in_the_middle_keeps_what_was_read_of_it(truth, capsys):
    scan = truth.with_name("scan.pcap")
    octets = bytearray(scan.read_bytes())
    octets[len(octets) // 2 :] = b"\xff" * (len(octets) - len(octets) // 2)
    scan.write_bytes(bytes(octets))
    told, lines = reported(truth, capsys, code=65)

    assert told["captures"][0]["windows_attack"] > 0
    assert told["captures"][0]["truncated"] is False
    assert "captured length" in told["captures"][0]["error"]
    assert any("scan.pcap: frame" in line for line in lines)


def test_a_link_layer_that_is_not_decoded_is_no_note_to_be_passed_over(truth, capsys):
    octets = bytearray(truth.with_name("scan.pcap").read_bytes())
    octets[20:24] = (127).to_bytes(4, "little")  # 802.11 with radiotap
    (truth.parent / "calm" / "air").write_bytes(bytes(octets))
    told, lines = reported(truth, capsys, code=65)

    assert told["total"]["captures_broken"] == 1
    assert any("air: link type 127 is not decoded" in line for line in lines)


def test_the_order_and_the_container_of_captures_change_no_figure(truth, capsys):
    told, _ = reported(truth, capsys)
    packed = truth.with_name("packed")
    packed.mkdir()
    for name in ("scan.pcap", "calm/calm.pcap"):
        (packed / f"{name.rpartition('/')[2]}.gz").write_bytes(gzip.compress((truth.parent / name).read_bytes()))
    entries = list(reversed(json.loads(truth.read_text())))
    entries[0]["file"], entries[1]["file"] = "packed/calm*", str(packed / "scan.pcap.gz")
    again, _ = reported(truth, capsys, entries=entries)

    assert again["total"] == told["total"]
    assert again["classes"] == told["classes"]


@pytest.mark.parametrize("kept", [0, 1])
def test_without_attacks_or_without_benign_captures_the_report_is_strict_json(truth, capsys, kept):
    entries = json.loads(truth.read_text())
    told, _ = reported(truth, capsys, entries=[entries[kept]])

    total = told["total"]
    assert total["auc"] is None
    assert (total["windows_benign"], total["windows_attack"])[kept] == 0
    assert (total["fpr_upper_bound"], total["tpr_bounds"])[kept] is None
    assert (total["tpr_bounds"], total["fpr_upper_bound"])[kept] is not None


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        ({"attack": "malicious", "attacker": ["192.0.2.1"]}, "no flow of its attack was seen: it counts in no rate"),
        ({"attack": "benign", "home_nets": ["2001:db8::/32"]}, "no home device was seen: home_nets are 2001:db8::/32"),
        ({"attack": "mixed", "labels": "labels"}, "its packet labels go up to 401, it has 400 packets"),
    ],
)
def test_what_makes_a_captures_figures_empty_is_said(truth, capsys, entry, note):
    truth.with_name("labels").write_text("1;1\n401;1\n")
    told, lines = reported(truth, capsys, entries=[{"file": "scan.pcap", **entry}])

    assert told["captures"][0]["notes"] == [note]
    assert any(line.endswith(f"scan.pcap: {note}") for line in lines)


def test_a_ground_truth_without_entries_is_an_error(truth, capsys):
    truth.write_text("[]")

    assert cli.main(["evaluate", "--bundle", "models/default", "--captures", str(truth)]) == 65
    assert "seen a list without entries" in capsys.readouterr().err
