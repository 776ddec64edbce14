"""Captures changed in pace and direction."""

from __future__ import annotations

import json
import struct

import pytest

from contracts.ground_truth import load
from flowfeatures import COLUMNS, FlowMeter, open_capture
from training.variants import FAST, FLAT, ONE_WAY, OTHER_STACKS, SLOW, SYN_WINDOWS, make_variant

START_S = 1_700_000_000
CLIENT, SERVER = bytes([192, 168, 0, 2]), bytes([198, 51, 100, 7])


def tcp_frame(source, target, *, ports, flags):
    tcp = struct.pack(">HHIIBBHHH", *ports, 1, 1, 0x50, flags, 1024, 0, 0)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, source, target)
    return bytes(12) + b"\x08\x00" + ip + tcp


@pytest.fixture
def truth(tmp_path):
    """One connection: SYN, SYN+ACK after 1 s, ACK after 2 s, all within an attack's interval."""
    frames = [
        tcp_frame(CLIENT, SERVER, ports=(4000, 80), flags=0x02),
        tcp_frame(SERVER, CLIENT, ports=(80, 4000), flags=0x12),
        tcp_frame(CLIENT, SERVER, ports=(4000, 80), flags=0x10),
    ]
    raw = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for second, frame in enumerate(frames):
        raw += struct.pack("<IIII", START_S + second, 0, len(frame), len(frame)) + frame
    (tmp_path / "capture.pcap").write_bytes(raw)
    entry = {
        "file": "capture.pcap",
        "attack": "mixed",
        "class": "scan",
        "intervals": [{"start": START_S + 0.5, "end": START_S + 2.0, "class": "scan", "attacker": ["192.168.0.2"]}],
    }
    (tmp_path / "ground_truth.json").write_text(json.dumps([entry]))
    return load(tmp_path / "ground_truth.json")[0]


def flows_of(truth):
    meter = FlowMeter()
    with open_capture(truth.path) as capture:
        return [record for records in [*meter.read(capture), *meter.flush()] for record in records]


def test_a_slow_variant_stretches_flow_and_interval_alike(truth, tmp_path):
    slow = make_variant(truth, SLOW, folder=tmp_path / "variants")

    (flow,) = flows_of(slow)
    assert (flow["start_us"], flow["end_us"]) == (START_S * 10**6, (START_S + 8) * 10**6)
    (interval,) = slow.entry.intervals
    assert (interval.start, interval.end) == (START_S + 2.0, START_S + 8.0)


def test_a_fast_variant_squeezes_them(truth, tmp_path):
    (flow,) = flows_of(make_variant(truth, FAST, folder=tmp_path / "variants"))

    assert flow["end_us"] - flow["start_us"] == 500_000


def test_a_one_way_variant_keeps_only_what_the_initiator_sent(truth, tmp_path):
    (flow,) = flows_of(make_variant(truth, ONE_WAY, folder=tmp_path / "variants"))

    assert (flow["fwd_packets"], flow["bwd_packets"]) == (2, 0)


def test_a_flat_variant_takes_the_outside_hosts_home(truth, tmp_path):
    entry = json.loads((tmp_path / "ground_truth.json").read_text())[0]
    entry |= {"home_nets": ["192.168.0.0/24"], "outside": {"server": "198.51.100.7"}}
    (tmp_path / "ground_truth.json").write_text(json.dumps([entry]))
    flat = make_variant(load(tmp_path / "ground_truth.json")[0], FLAT, folder=tmp_path / "variants")

    assert flat.home_nets == ("192.168.0.0/24", "198.51.100.7")


def test_a_variant_is_made_once(truth, tmp_path):
    first = make_variant(truth, SLOW, folder=tmp_path / "variants")
    made_ns = first.path.stat().st_mtime_ns

    assert make_variant(truth, SLOW, folder=tmp_path / "variants").path.stat().st_mtime_ns == made_ns


def test_what_is_no_pcap_of_ethernet_has_no_variant(truth, tmp_path):
    truth.path.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(24))

    assert make_variant(truth, SLOW, folder=tmp_path / "variants") is None


def test_other_stacks_give_each_end_of_a_connection_windows_of_its_own_and_change_nothing_else(truth, tmp_path):
    (before,) = flows_of(truth)

    (after,) = flows_of(make_variant(truth, OTHER_STACKS, folder=tmp_path / "variants"))

    names = [column.name for column in COLUMNS]
    ends = [names.index(f"{way}_init_window_bytes") for way in ("fwd", "bwd")]
    same = [place for place in range(len(names)) if place not in ends]
    assert {int(window) for window in after["columns"][ends]} <= set(SYN_WINDOWS)
    assert before["columns"][ends].tolist() == [1024, 1024]
    assert (before["columns"][same] == after["columns"][same]).all()
