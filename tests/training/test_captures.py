"""Captures found on disk, and their windows."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from contracts.ground_truth import load
from flowfeatures import AFTER, EXCLUDED
from tests.training.test_variants import CLIENT, SERVER, START_S, tcp_frame
from training.captures import find_captures, is_capture
from training.datasets import windows_of
from training.errors import SplitError
from training.splits import Side, Splits
from training.stream import LabelledStream


def write_capture(path, *, ports, gap_s=1.0):
    """One SYN to each port, `gap_s` apart."""
    raw = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, port in enumerate(ports):
        frame = tcp_frame(CLIENT, SERVER, ports=(4000 + number, port), flags=0x02)
        at_us = round((START_S + number * gap_s) * 10**6)
        raw += struct.pack("<IIII", at_us // 10**6, at_us % 10**6, len(frame), len(frame)) + frame
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def write_lab(folder, seed, *, ports, gap_s=1.0):
    home = folder / f"seed-{seed}"
    write_capture(home / "capture.pcap", ports=ports, gap_s=gap_s)
    entry = {"file": "capture.pcap", "attack": "mixed", "class": "lab", "intervals": [{"class": "port_scan"}]}
    (home / "ground_truth.json").write_text(json.dumps([entry]))


def write_data(folder, name, *, ports):
    write_capture(folder / "data" / name, ports=ports)
    entry = {"file": name, "attack": "benign", "class": "x"}
    (folder / "data" / "ground_truth.json").write_text(json.dumps([entry]))


SPLITS = Splits(
    sides={"train": Side(lab=(1, 2)), "test": Side(lab=(3,)), "evaluation": Side(data=("scans/*",))},
    vendors={},
    terms={"lab": "MIT"},
)


def test_each_capture_stands_on_its_side(tmp_path):
    for seed in (1, 3, 9):
        write_lab(tmp_path / "lab", seed, ports=range(seed, seed + 5))
    write_data(tmp_path, "scans/a.pcap", ports=[80])
    found = find_captures(SPLITS, shared=tmp_path, lab=tmp_path / "lab")

    sides = {side: [capture.name for capture in captures] for side, captures in found.sides.items() if captures}
    assert sides == {
        "train": ["lab/seed-1/capture.pcap"],
        "test": ["lab/seed-3/capture.pcap"],
        "evaluation": ["scans/a.pcap"],
    }
    assert found.unclaimed == ["lab/seed-9/capture.pcap"]


def test_one_captures_bytes_on_a_teaching_and_a_judging_side_are_refused(tmp_path):
    write_lab(tmp_path / "lab", 1, ports=[1, 2, 3])
    write_lab(tmp_path / "lab", 3, ports=[1, 2, 3])
    write_data(tmp_path, "scans/a.pcap", ports=[80])

    with pytest.raises(SplitError, match="stands on two sides"):
        find_captures(SPLITS, shared=tmp_path, lab=tmp_path / "lab")


def test_a_note_that_a_glob_swept_up_is_no_capture_but_a_named_file_is_taken_at_its_word(tmp_path):
    (tmp_path / "PROVENANCE.txt").write_text("repository: github\n")
    for pattern, taken in (("*", False), ("PROVENANCE.txt", True)):
        (tmp_path / "truth").write_text(json.dumps([{"file": pattern, "attack": "benign"}]))
        truths = {truth.path.name: truth for truth in load(tmp_path / "truth")}

        assert is_capture(truths["PROVENANCE.txt"]) is taken


def test_windows_are_cached_under_what_made_them(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 30))
    (truth,) = load(tmp_path / "seed-1" / "ground_truth.json")
    fresh = windows_of(truth, cache_folder=tmp_path / "cache")
    cached = windows_of(truth, cache_folder=tmp_path / "cache")

    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert len(fresh) > 0
    assert np.array_equal(fresh.values, cached.values)
    assert np.array_equal(fresh.label, cached.label)


def test_a_change_of_the_truth_makes_other_windows(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 30))
    truth_file = tmp_path / "seed-1" / "ground_truth.json"
    scans = windows_of(load(truth_file)[0], cache_folder=tmp_path / "cache")
    truth_file.write_text(json.dumps([{"file": "capture.pcap", "attack": "benign"}]))
    benign = windows_of(load(truth_file)[0], cache_folder=tmp_path / "cache")

    assert scans.label.all()
    assert not benign.label.any()


def test_windows_without_a_telling_label_are_left_out(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 30))
    interval = {"class": "port_scan", "end": START_S + 3.0}
    entry = {"file": "capture.pcap", "attack": "mixed", "class": "lab", "intervals": [interval]}
    truth_file = tmp_path / "seed-1" / "ground_truth.json"
    truth_file.write_text(json.dumps([entry]))
    labels = np.concatenate([batch.label for batch in LabelledStream(load(truth_file)[0])])
    kept = windows_of(load(truth_file)[0], cache_folder=tmp_path / "cache")

    assert AFTER in labels
    assert not {AFTER, EXCLUDED} & set(kept.label.tolist())
    assert (kept.label > 0).sum() == (labels > 0).sum()


def test_benign_windows_teach_only_a_minute_after_their_device_was_in_an_attack(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 60), gap_s=2.0)
    entry = {"file": "capture.pcap", "attack": "mixed", "class": "lab"}
    entry["intervals"] = [{"class": "port_scan", "end": START_S + 0.5}]
    truth_file = tmp_path / "seed-1" / "ground_truth.json"
    truth_file.write_text(json.dumps([entry]))
    kept = windows_of(load(truth_file)[0], cache_folder=tmp_path / "cache")

    benign = sum(int((batch.label == 0).sum()) for batch in LabelledStream(load(truth_file)[0]))
    assert 0 < (kept.label == 0).sum() < benign


def test_a_week_of_silence_is_no_time_of_watching(tmp_path):
    write_capture(tmp_path / "a.pcap", ports=[1, 2, 3], gap_s=86_400 * 5)
    write_capture(tmp_path / "b.pcap", ports=[1, 2, 3], gap_s=86_400 * 50)
    (tmp_path / "truth").write_text(json.dumps([{"file": "*.pcap", "attack": "benign"}]))
    streams = [LabelledStream(truth) for truth in load(tmp_path / "truth")]
    for stream in streams:
        list(stream)

    assert streams[0].days == pytest.approx(10.0)
    assert streams[1].days == 0.0
