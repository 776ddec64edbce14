"""The check of the flood's records: it counts what is right, and it notices what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import million, traffic, tuples
from benchmarks.million import Flood, Million


def test_every_record_of_a_flood_is_as_generated(tmp_path: Path):
    capture = traffic.capture("flood", packets=4_000, folder=tmp_path)

    counts = million.check(capture, packets=4_000)

    assert counts == {"records": 2_000, "right": 2_000, "with_one_packet_each_way": 2_000, "five_tuples_twice": 0}


def test_a_packet_that_is_missing_and_one_that_comes_late_make_records_wrong(tmp_path: Path):
    octets = bytearray(traffic.capture("flood", packets=4_000, folder=tmp_path).read_bytes())
    record_bytes = 16 + 54
    octets[24 + 3 * record_bytes + 4] += 1  # the second answer, a microsecond later
    (tmp_path / "harmed.pcap").write_bytes(octets[:-record_bytes])  # without the last answer

    counts = million.check(tmp_path / "harmed.pcap", packets=4_000)

    assert counts == {"records": 2_000, "right": 1_998, "with_one_packet_each_way": 1_999, "five_tuples_twice": 0}


def test_a_flow_that_left_two_records_is_one_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    capture = traffic.capture("flood", packets=4_000, folder=tmp_path)
    monkeypatch.setattr(
        million, "seen", lambda batch, real=million.seen: np.concatenate([real(batch), real(batch[:1])])
    )

    counts = million.check(capture, packets=4_000)

    assert counts["records"] > 2_000
    assert counts["five_tuples_twice"] == counts["records"] - 2_000


def test_a_capture_of_other_flows_has_no_record_right(tmp_path: Path):
    other = tuples.write(tuples.distinct(100, seed=1), tmp_path / "other.pcap")

    assert million.check(other, packets=200)["right"] == 0


def sample(**changed: float) -> dict[str, float]:
    plain = {"flows": 10, "packets": 20, "decoded": 20, "evicted": 0, "emergencies": 0, "own_bytes": 2**20}
    return {**plain, "cpu_s": 1e-5, "wall_s": 1e-5, "peak_bytes": 50 * 2**20, **changed}


def unmet(check: dict[str, int], **capped: float) -> list[str]:
    sides = {"penstock": Million.of([sample()]), "penstock_default": Million.of([sample(**capped)])}
    return [mark.figure for mark in Flood(20, sides, check, {}).marked() if not mark.met]


def test_verdicts_of_a_sound_flood_are_all_met():
    assert unmet({"records": 10, "right": 10}) == []


def test_verdicts_notice_a_wrong_record_a_lost_packet_and_too_much_memory():
    assert [figure.split(": ")[1] for figure in unmet({"records": 11, "right": 9}, packets=19, peak_bytes=111e6)] == [
        "records as generated",
        "records beyond those",
        "peak memory",
        "|decoded packets - packets in records|",
    ]
