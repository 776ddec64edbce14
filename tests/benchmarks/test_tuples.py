"""Frames made from 5-tuples, beside Scapy's reading of them and our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import tuples
from flowfeatures import FlowMeter, open_capture


def test_a_frame_says_its_5_tuple_and_its_checksum_is_right():
    inet = pytest.importorskip("scapy.layers.inet")
    l2 = pytest.importorskip("scapy.layers.l2")
    keys = tuples.distinct(50, seed=1)

    for key, octets in zip(keys, tuples.frames(keys), strict=True):
        packet = l2.Ether(octets.tobytes())[inet.IP]
        carried = packet.chksum
        packet.chksum = None

        assert len(octets.tobytes()) == tuples.FRAME_BYTES == 60
        assert int.from_bytes(bytes(map(int, packet.src.split("."))), "big") == key["src"]
        assert int.from_bytes(bytes(map(int, packet.dst.split("."))), "big") == key["dst"]
        assert (packet.sport, packet.dport, packet.len) == (key["src_port"], key["dst_port"], 46)
        assert inet.IP(bytes(packet)).chksum == carried


def test_distinct_5_tuples_are_flows_of_their_own_and_an_answer_belongs_to_its_flow(tmp_path: Path):
    keys = tuples.distinct(5_000, seed=3)
    path = tuples.write(np.concatenate([keys, tuples.reversed_ends(keys)]), tmp_path / "both.pcap")
    meter = FlowMeter()

    with open_capture(path) as capture:
        records = np.concatenate([*meter.read(capture), *meter.flush()])

    assert len(records) == 5_000
    assert (records["fwd_packets"] == 1).all()
    assert (records["bwd_packets"] == 1).all()


def test_a_capture_is_the_same_bytes_wherever_it_is_made_and_spans_what_it_was_told(tmp_path: Path):
    keys = tuples.distinct(200_000, seed=5)

    first = tuples.write(keys, tmp_path / "a.pcap", start_us=7_000_000, span_us=2_000_000).read_bytes()
    second = tuples.write(keys, tmp_path / "b.pcap", start_us=7_000_000, span_us=2_000_000).read_bytes()

    packets = np.frombuffer(first[24:], tuples.PCAP_RECORD)
    times_us = packets["s"].astype(np.int64) * 1_000_000 + packets["us"]
    assert first == second
    assert len(packets) == 200_000
    assert times_us[0] == 7_000_000
    assert times_us[-1] == 8_999_990
    assert (np.diff(times_us) == 10).all()
