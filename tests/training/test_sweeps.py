"""Sweeps written into a recording: what they send, how they are labelled, and whom they leave alone."""

from __future__ import annotations

import ipaddress
import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from contracts.classes import NAMES
from contracts.ground_truth import load
from flowfeatures import FlowMeter, open_capture
from training.frames import SYN, Frame, bare_tcp, heads_of, write_frames
from training.stream import LabelledStream
from training.sweeps import LEAST_ADDRESSES, MOST_THERE, SWEEPS, with_sweeps
from training.variants import SWEPT, make_variant, variants_of

SCAN = NAMES.index("scan")
START_US = 1_700_000_000_000_000
HOME = [f"192.168.7.{number}" for number in (10, 11, 12, 13, 14, 15)]


def conversation(source, target, *, at_us):
    """Return a SYN from a home device to somebody outside."""
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    ip = b"\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00" + ends
    like = Frame(at_us, 60, bytes(12) + b"\x08\x00" + ip + bytes.fromhex("c0000050") + bytes(16))
    heads = heads_of(like.octets)
    return bare_tcp(like, heads, flags=SYN, at_us=at_us, reverse=False, seq=1, ack=0)


def recorded(seconds=60):
    return [
        conversation(HOME[second % len(HOME)], "198.51.100.7", at_us=START_US + second * 1_000_000)
        for second in range(seconds)
    ]


@pytest.fixture
def truth(tmp_path):
    write_frames(tmp_path / "capture.pcap", recorded())
    devices = {f"thing{number}": address for number, address in enumerate(HOME)} | {"six": "fd00::1"}
    entry = {"file": "capture.pcap", "attack": "benign", "home_nets": ["192.168.7.0/24"], "devices": devices}
    (tmp_path / "ground_truth.json").write_text(json.dumps([entry]))
    return load(tmp_path / "ground_truth.json")[0]


def asked_of(frames, interval):
    """Return whom an interval's attacker asked in it, in the network it swept."""
    swept = ipaddress.ip_network(interval["victim"][0])
    asked = set()
    for frame in frames:
        heads = heads_of(frame.octets)
        source, target = (ipaddress.ip_address(end[0]) for end in (heads.source, heads.target))
        if str(source) == interval["attacker"][0] and target in swept:
            asked.add(str(target))
    return asked


def test_the_recording_stays_and_all_stands_in_order_of_time():
    before = recorded()
    frames, intervals = with_sweeps(before, devices=HOME, seed=1)

    assert [frame for frame in frames if frame in set(before)] == before
    assert all(a.at_us <= b.at_us for a, b in pairwise(frames))
    assert len(intervals) == SWEEPS


@pytest.mark.parametrize("seed", range(8))
def test_a_sweep_asks_many_and_few_of_them_are_there(seed):
    frames, intervals = with_sweeps(recorded(), devices=HOME, seed=seed)

    for interval in intervals:
        asked = asked_of(frames, interval)
        assert interval["attacker"][0] in HOME
        assert len(asked) >= LEAST_ADDRESSES
        assert len(asked & set(HOME)) <= MOST_THERE


def test_the_same_seed_writes_the_same_and_another_one_does_not():
    one, again, other = (with_sweeps(recorded(), devices=HOME, seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one != other


def test_tools_differ_in_protocol_and_pace():
    protocols, paces = defaultdict(int), []
    for seed in range(12):
        frames, intervals = with_sweeps(recorded(), devices=HOME, seed=seed)
        for interval in intervals:
            protocols[interval["proto"]] += 1
            asked = len(asked_of(frames, interval))
            paces.append(asked / (interval["end"] - interval["start"]))

    assert set(protocols) == {"icmp", "tcp", "udp"}
    assert min(protocols.values()) >= 10
    assert min(paces) < 20
    assert max(paces) > 1000


@pytest.mark.parametrize(("frames", "devices"), [([], HOME), (recorded(), [])])
def test_without_frames_or_devices_nothing_is_written(frames, devices):
    assert with_sweeps(frames, devices=devices, seed=1) == (frames, [])


def test_a_meter_reads_every_frame_and_a_benign_recording_becomes_a_mixed_one(truth, tmp_path):
    swept = make_variant(truth, SWEPT, folder=tmp_path / "variants")
    meter = FlowMeter()
    with open_capture(swept.path) as capture:
        records = np.concatenate([*meter.read(capture), *meter.flush()])
        frames = capture.frames_read

    assert swept.entry.attack == "mixed"
    assert len(swept.entry.intervals) == SWEEPS
    assert set(swept.entry.home_nets or []) > {"192.168.7.0/24"}
    assert frames > SWEEPS * LEAST_ADDRESSES
    assert len(records) > SWEEPS * LEAST_ADDRESSES
    assert (meter.counters["undecoded"], meter.counters["metered"]) == ({}, frames)


def test_windows_of_who_sweeps_are_attacks_and_absent_addresses_have_none(truth, tmp_path):
    swept = make_variant(truth, SWEPT, folder=tmp_path / "variants")
    attackers = {address for interval in swept.entry.intervals for address in interval.attacker or []}
    labelled, others = defaultdict(int), set()
    for batch in LabelledStream(swept):
        for device, label in zip(batch.device, batch.label.tolist(), strict=True):
            address = str(ipaddress.ip_address(device.tobytes()).ipv4_mapped)
            labelled[address] += label == SCAN
            others.add(address)

    assert {address for address, count in labelled.items() if count >= 5} >= attackers
    assert others <= set(HOME)


def test_the_lab_is_swept_and_captures_of_others_are_not(truth):
    assert SWEPT in variants_of("lab", truth)
    assert all(SWEPT not in variants_of(source, truth) for source in ("iot_sentinel", "ddos", "brute"))
