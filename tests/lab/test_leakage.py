"""The search for leaks finds one that is there, and none where attackers are drawn like everybody else."""

from __future__ import annotations

import ipaddress
import json
import random
import struct
import sys

import pytest

from contracts.errors import GroundTruthError, MissingExtra
from lab import cli, leakage
from lab.leakage import MOST_AUC, look_for_leaks

START_S = 1_700_000_000.0
EVIL, GOOD = "02:42:ac", "b8:27:eb"


def syn(source, target, *, vendor, window=1000, options=b"", port=40000):
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    total = 40 + len(options)
    head = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, 6, 0) + ends
    tcp = struct.pack(">HHIIBBHHH", port, 80, 0, 0, (20 + len(options)) // 4 << 4, 2, window, 0, 0) + options
    macs = bytes.fromhex((GOOD + ":00:00:01").replace(":", "")) + bytes.fromhex((vendor + ":00:00:02").replace(":", ""))
    return macs + b"\x08\x00" + head + tcp


def write_recording(folder, *, evil_vendor):
    """Ten attacks among benign flows, each by a host of its own; attackers have a vendor of their own, or not."""
    rng = random.Random(5)
    packets, intervals = [], []
    for number in range(10):
        begin = START_S + 20 * number
        attacker = f"10.0.0.{100 + rng.randrange(100)}"
        victim = f"10.0.1.{number + 1}"
        for step in range(15):
            kind = {"vendor": evil_vendor or rng.choice([EVIL, GOOD]), "window": 512, "options": b"\x02\x04\x05\xb4"}
            packets.append((begin + 5 + step / 10, syn(attacker, victim, **kind, port=40000 + step)))
            peer = f"10.0.{rng.choice([0, 1])}.{rng.randrange(1, 99)}"
            own = f"10.0.0.{100 + rng.randrange(100)}"
            vendor = GOOD if evil_vendor else rng.choice([EVIL, GOOD])
            packets.append((begin + step, syn(own, peer, vendor=vendor, port=50000 + step)))
        interval = {"start": begin + 5, "end": begin + 7, "class": "port_scan", "proto": "tcp", "ports": []}
        intervals.append({**interval, "attacker": [attacker], "victim": [victim], "tool": "x"})
    blob = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time_s, frame in sorted(packets):
        blob += struct.pack("<IIII", int(time_s), round(time_s % 1 * 1e6), len(frame), len(frame)) + frame
    folder.mkdir()
    (folder / "capture.pcap").write_bytes(blob)
    entry = {"file": "capture.pcap", "attack": "mixed", "class": "lab", "intervals": intervals}
    (folder / "ground_truth.json").write_text(json.dumps([entry]))
    return folder / "capture.pcap", folder / "ground_truth.json"


@pytest.fixture
def few_trees(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(leakage, "TREES", 25)


def test_attackers_of_a_vendor_of_their_own_are_a_leak(tmp_path, few_trees):
    found = look_for_leaks([write_recording(tmp_path / "x", evil_vendor=EVIL)])

    assert found.auc > 0.95
    assert found.alone["source vendor"] > 0.95
    assert found.attacks == 10


def test_attackers_drawn_like_everybody_else_are_none(tmp_path, few_trees):
    found = look_for_leaks([write_recording(tmp_path / "x", evil_vendor=None)])

    assert found.alone["source vendor"] <= MOST_AUC
    assert found.alone["first TTL"] == pytest.approx(0.5, abs=0.1)


def test_traits_of_the_tools_are_told_apart_and_not_learned_from(tmp_path, few_trees):
    found = look_for_leaks([write_recording(tmp_path / "x", evil_vendor=None)])

    assert found.traits["SYN window 512"] == {"attack": 1.0, "benign": 0.0}
    assert found.traits["SYN options none"]["benign"] == 1.0
    assert found.traits["SYN options 2"]["attack"] == 1.0


def test_a_leak_is_a_disagreement(tmp_path, few_trees, capsys):
    write_recording(tmp_path / "x", evil_vendor=EVIL)

    assert cli.main(["check", "--leakage", str(tmp_path / "x")]) == 1

    said = capsys.readouterr().out
    assert "MORE than 0.65" in said
    assert "SYN window 512" in said


def test_as_json_the_auc_stands_beside_what_it_may_be(tmp_path, few_trees, capsys):
    write_recording(tmp_path / "x", evil_vendor=EVIL)

    cli.main(["check", "--leakage", "--json", str(tmp_path / "x")])

    found = json.loads(capsys.readouterr().out)
    assert found["auc"] > found["most"] == MOST_AUC


def test_too_few_attacks_are_refused(tmp_path, few_trees):
    capture, truth = write_recording(tmp_path / "x", evil_vendor=EVIL)
    entry = json.loads(truth.read_text())[0]
    truth.write_text(json.dumps([{**entry, "intervals": entry["intervals"][:2]}]))

    with pytest.raises(GroundTruthError, match="seen 2 attacks with flows, wanted 5 at least"):
        look_for_leaks([(capture, truth)])


def test_without_scikit_learn_it_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)

    with pytest.raises(MissingExtra, match=r"needs scikit-learn: pip install 'penstock\[train\]'"):
        look_for_leaks([])
