"""Attacks that evade, on a capture made by hand: one benign and one attacking connection."""

from __future__ import annotations

import json
import random
import struct

import numpy as np
import pytest

from contracts.classes import NAMES
from contracts.ground_truth import load
from flowfeatures import FlowMeter, open_capture
from training.evasion import Evasion, apply, evade, read_marked
from training.frames import Frame, heads_of, padded, write_frames

START_US = 1_700_000_000_000_000
ATTACKER, DEVICE, FRIEND = bytes([203, 0, 113, 9]), bytes([192, 168, 0, 2]), bytes([198, 51, 100, 7])
SYN, SYN_ACK, ACK, PSH_ACK = 0x02, 0x12, 0x10, 0x18


def tcp_frame(source, target, *, ports, flags, at_s, payload=0):
    tcp = struct.pack(">HHIIBBHHH", *ports, 1, 2, 0x50, flags, 1024, 0, 0) + bytes(payload)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, source, target)
    octets = bytes(12) + b"\x08\x00" + ip + tcp
    return Frame(START_US + round(at_s * 1e6), len(octets), octets)


def connection(client, server, *, port, at_s, sizes, gap_s=1.0):
    """A handshake of 10 ms round trip, then one request of each size and a bare ACK 10 ms later."""
    ports = (port, 23)
    frames = [
        tcp_frame(client, server, ports=ports, flags=SYN, at_s=at_s),
        tcp_frame(server, client, ports=ports[::-1], flags=SYN_ACK, at_s=at_s + 0.01),
        tcp_frame(client, server, ports=ports, flags=ACK, at_s=at_s + 0.011),
    ]
    for number, size in enumerate(sizes, start=1):
        at = at_s + number * gap_s
        frames.append(tcp_frame(client, server, ports=ports, flags=PSH_ACK, at_s=at, payload=size))
        frames.append(tcp_frame(server, client, ports=ports[::-1], flags=ACK, at_s=at + 0.01))
    return frames


@pytest.fixture
def truth(tmp_path):
    frames = connection(DEVICE, FRIEND, port=4000, at_s=0, sizes=[300, 300])
    frames += connection(ATTACKER, DEVICE, port=5000, at_s=0.5, sizes=[20, 20, 20, 20])
    write_frames(tmp_path / "capture.pcap", sorted(frames, key=lambda frame: frame.at_us))
    interval = {
        "start": START_US / 1e6,
        "end": START_US / 1e6 + 60,
        "class": "brute_force",
        "attacker": ["203.0.113.9"],
    }
    entry = {"file": "capture.pcap", "attack": "mixed", "class": "lab", "intervals": [interval]}
    (tmp_path / "ground_truth.json").write_text(json.dumps([entry]))
    return load(tmp_path / "ground_truth.json")[0]


@pytest.fixture
def marked(truth):
    return read_marked(truth)


def flows_of(truth):
    meter = FlowMeter()
    with open_capture(truth.path) as capture:
        records = np.concatenate([*meter.read(capture, packet_labels=truth.packet_labels()), *meter.flush()])
    truth.label(records)
    return records


def evaded(truth, marked, evasion, tmp_path):
    found, effort = evade(truth, marked, evasion, folder=tmp_path / "evaded")
    return flows_of(found), effort


def test_frames_are_marked_as_the_ground_truth_says(marked):
    labels = {each.label for each in marked if ATTACKER in (each.heads.source[0], each.heads.target[0])}

    assert labels == {NAMES.index("brute_force")}
    assert sum(each.label > 0 for each in marked) == 11
    assert sum(each.is_attackers for each in marked) == 6


def test_without_an_evasion_flows_and_labels_stay_as_they_were(truth, marked, tmp_path):
    before, (after, effort) = flows_of(truth), evaded(truth, marked, Evasion("none", "-"), tmp_path)

    assert before["label"].tolist() == after["label"].tolist()
    assert before["fwd_wire_bytes"].tolist() == after["fwd_wire_bytes"].tolist()
    assert (effort.packets, effort.octets, effort.seconds) == (1.0, 1.0, 1.0)


def test_padding_lengthens_what_the_attacker_sends_with_payload_and_nothing_else(truth, marked, tmp_path):
    before, (after, effort) = flows_of(truth), evaded(truth, marked, Evasion("pad", "-", pad_bytes=100), tmp_path)

    grown = after["fwd_wire_bytes"].astype(int) - before["fwd_wire_bytes"].astype(int)
    assert dict(zip(after["label"].tolist(), grown.tolist(), strict=True)) == {0: 0, NAMES.index("brute_force"): 400}
    assert after["bwd_wire_bytes"].tolist() == before["bwd_wire_bytes"].tolist()
    assert effort.packets == 1.0
    assert effort.octets > 1.5


def test_a_padded_packet_says_its_new_length_and_never_outgrows_the_mtu():
    frame = tcp_frame(ATTACKER, DEVICE, ports=(5, 6), flags=PSH_ACK, at_s=0, payload=20)

    longer = padded(frame, heads_of(frame.octets), 5000)

    assert heads_of(longer.octets).payload_bytes == 1500 - 40
    assert len(longer.octets) == longer.wire_bytes == 1514


def test_a_slower_attack_takes_longer_and_its_answers_stay_as_prompt(marked):
    slow = apply(marked, Evasion("pace", "-", pace=10.0), random.Random(1))

    own = [each for each in slow if each.label]
    assert own[-1].frame.at_us - own[0].frame.at_us == pytest.approx(40_010_000, abs=2)
    assert own[1].frame.at_us - own[0].frame.at_us == 10_000
    assert own[-1].frame.at_us - own[-2].frame.at_us == pytest.approx(10_000, abs=2)


def test_benign_frames_keep_their_time_and_the_capture_its_order(marked):
    slow = apply(marked, Evasion("pace", "-", pace=10.0), random.Random(1))

    times = [each.frame.at_us for each in slow]
    assert times == sorted(times)
    assert [each.frame for each in slow if not each.label] == [each.frame for each in marked if not each.label]


def test_a_split_attack_is_several_connections_that_each_shake_hands(truth, marked, tmp_path):
    records, effort = evaded(truth, marked, Evasion("split", "-", split_packets=1), tmp_path)

    own = records[records["label"] == NAMES.index("brute_force")]
    assert len(own) == 4
    assert own["handshake"].all()
    assert len(set(own["src_port"].tolist())) == 4
    assert effort.packets > 1.5


def test_mimicry_pads_to_sizes_that_benign_traffic_has(marked):
    alike = apply(marked, Evasion("mimic", "-", mimic_share=1.0), random.Random(1))

    sizes = {each.payload_bytes for each in alike if each.is_attackers and each.payload_bytes}
    assert sizes == {300}


def test_half_the_mimicry_leaves_some_packets_as_they_were(marked):
    alike = apply(marked * 20, Evasion("mimic", "-", mimic_share=0.5), random.Random(1))

    sizes = [each.payload_bytes for each in alike if each.is_attackers and each.payload_bytes]
    assert 0.3 < np.mean(np.array(sizes) == 300) < 0.7


def test_what_is_no_pcap_or_holds_no_attack_evades_nothing(truth):
    truth.path.write_bytes(b"\x0a\x0d\x0d\x0a" + bytes(24))

    assert read_marked(truth) is None
