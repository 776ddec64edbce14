"""Packets of incidents: kept where they are wanted, bounded, told by `penstock explain`, forgotten with the device."""

from __future__ import annotations

import argparse
import json
import os
import time

import pytest

from agent.capture.opener import dissected
from agent.commands import explain
from agent.config.model import AgentConfig
from agent.live.evidence import PAUSE_S, Evidence, peers_of
from agent.state.evidence_files import (
    EVIDENCE_FOLDER,
    files_of,
    place_of,
    read_evidence,
    trim,
    write_evidence,
)
from agent.state.forgetting import forget, identity_of
from agent.state.incident_record import RECORD_FILE, IncidentRecord
from detection.detector import Detector
from detection.state import StateRefused
from flowfeatures import FrameBlock, address_bytes
from tests.detection.test_rules import EmbeddingEngine, opened, window
from tests.detection.windows import CAMERA, OUTSIDE, PHONE, make_bundle
from tests.flowfeatures.packets import Conversation, ethernet, ipv4, pcap_bytes, time_us, udp

SHA = "0" * 64
NAME = "019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4{}"
ATTACK = Conversation(device=OUTSIDE, server=CAMERA, server_port=23).out(0, "S").back(0.1, "SA").out(0.2, "R").frames
CHAT = [(time_us(0.05), ethernet(ipv4(udp(1, 2), 17, src=PHONE, dst=CAMERA)))]


def config_of(**changes):
    return AgentConfig.model_validate(
        {"capture": {"interfaces": ["eth0", "eth1"]}, "evidence": {"enabled": True, **changes}}
    )


def incident(number=0):
    (update,) = opened(Detector(make_bundle(), EmbeddingEngine(), id_salt=str(number)), window())
    return update


def seen(evidence, frames):
    ring = evidence.ring()
    ring.keep(FrameBlock.of([octets for _, octets in frames], [at_us for at_us, _ in frames]))
    return ring


def recorded(folder, update):
    record = IncidentRecord(folder / RECORD_FILE)
    record.add(update, bundle_sha256=SHA)
    record.close()


def test_an_incident_keeps_its_packets_and_nobody_elses(tmp_path):
    update = incident()
    with Evidence(config_of(), state_dir=tmp_path) as evidence:
        evidence.ring()
        seen(evidence, [*ATTACK[:1], *CHAT, *ATTACK[1:]])
        evidence.told(update)

    place = place_of(tmp_path / RECORD_FILE, update.incident_id)
    assert place.read_bytes() == pcap_bytes(ATTACK)
    assert place.stat().st_mode & 0o777 == 0o600
    assert (evidence.written, evidence.left_out, evidence.failed) == (1, 0, 0)


def test_the_peers_are_the_other_ends_of_the_evidence():
    assert peers_of(incident().snapshot) == [address_bytes(OUTSIDE)]


@pytest.mark.parametrize("is_enabled", [False, True])
def test_switched_off_or_without_a_state_nothing_is_kept(tmp_path, is_enabled):
    with Evidence(config_of(enabled=is_enabled), state_dir=None if is_enabled else tmp_path) as evidence:
        assert evidence.ring() is None
        evidence.told(incident())

    assert list(tmp_path.iterdir()) == []


def test_memory_is_shared_out_among_the_interfaces(tmp_path):
    evidence = Evidence(config_of(memory_bytes=4 << 20), state_dir=tmp_path)

    assert [evidence.ring().size_bytes for _ in range(2)] == [2 << 20, 2 << 20]


def test_in_a_storm_of_incidents_most_are_left_out_and_counted(tmp_path):
    now_s = [0.0]
    with Evidence(config_of(), state_dir=tmp_path, now_s=lambda: now_s[0]) as evidence:
        seen(evidence, ATTACK)
        for number in range(5):
            evidence.told(incident(number))
        now_s[0] = PAUSE_S
        evidence.told(incident(9))

    assert (evidence.written, evidence.left_out) == (2, 4)
    assert len(files_of(tmp_path)) == 2


def test_a_disk_that_takes_nothing_is_counted_and_stops_nobody(tmp_path, capsys):
    (tmp_path / EVIDENCE_FOLDER).write_text("in the way")
    with Evidence(config_of(), state_dir=tmp_path) as evidence:
        seen(evidence, ATTACK)
        evidence.told(incident())

    assert (evidence.written, evidence.failed) == (0, 1)
    assert "evidence: " in capsys.readouterr().err


def test_files_are_bounded_in_octets_and_age_and_the_oldest_go(tmp_path):
    for number in range(5):
        write_evidence(tmp_path, NAME.format(number), bytes(1000), max_bytes=1 << 20, max_age_s=1e10)
        os.utime(place_of(tmp_path / RECORD_FILE, NAME.format(number)), (10_000 * number, 10_000 * number))
    write_evidence(tmp_path, NAME.format(5), bytes(1000), max_bytes=3500, max_age_s=1e10)
    assert [path.name[-6] for path in files_of(tmp_path)] == ["3", "4", "5"]

    assert trim(tmp_path, max_bytes=1 << 20, max_age_s=time.time() - 35_000) == 1
    assert [path.name[-6] for path in files_of(tmp_path)] == ["4", "5"]


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "no capture"),
        (b"x" * 30, "no capture"),
        (pcap_bytes(ATTACK)[:-1], "a frame of"),
        (pcap_bytes([]) + b"\0" * 15, "ends inside the header"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(tmp_path, octets, said):
    (tmp_path / "x").write_bytes(octets)

    with pytest.raises(StateRefused, match=said):
        read_evidence(tmp_path / "x")


def shown(folder, capsys, *words):
    parser = argparse.ArgumentParser()
    explain.add_arguments(parser)
    assert explain.run(parser.parse_args([*words, "--state-dir", str(folder)])) == 0
    return capsys.readouterr().out


def test_explain_shows_the_packets_in_scapys_words(tmp_path, capsys):
    pytest.importorskip("scapy")
    update = incident()
    recorded(tmp_path, update)
    write_evidence(tmp_path, update.incident_id, pcap_bytes(ATTACK), max_bytes=1 << 20, max_age_s=1e9)

    text = shown(tmp_path, capsys, update.incident_id)
    found = json.loads(shown(tmp_path, capsys, update.incident_id, "--json"))

    assert "its packets: 3 were kept" in text
    assert f"22:13:20.100000     54 B  Ether / IP / TCP {CAMERA}:telnet > {OUTSIDE}:40000 SA" in text
    assert [packet["wire_bytes"] for packet in found["packets"]] == [len(octets) for _, octets in ATTACK]


def test_explain_says_why_packets_cannot_be_shown(tmp_path, capsys):
    update = incident()
    recorded(tmp_path, update)
    write_evidence(tmp_path, update.incident_id, b"damaged", max_bytes=1 << 20, max_age_s=1e9)

    assert "is no capture of this agent" in shown(tmp_path, capsys, update.incident_id)


def test_hostile_frames_are_told_and_never_raise():
    pytest.importorskip("scapy")
    whole = ATTACK[0][1]
    dns = ethernet(ipv4(udp(53, 53) + b"\xc0\x0c" * 40, 17))
    frames = [b"", b"\xff", whole[:20], whole[:40], dns, *(bytes([n]) * 60 for n in range(0, 256, 5))]

    words = dissected(frames, link_type=1)

    assert len(words) == len(frames)
    assert len(dissected(frames, link_type=65_000)) == len(frames)


def test_forget_removes_the_packets_of_a_device_by_address_and_by_mac(tmp_path):
    bystander = [(time_us(0), ethernet(ipv4(udp(1, 2), 17, src=PHONE, dst="192.168.1.99"), src="02:00:00:00:00:77"))]
    for number, frames in enumerate([ATTACK, bystander, CHAT]):
        write_evidence(tmp_path, NAME.format(number), pcap_bytes(frames), max_bytes=1 << 20, max_age_s=1e9)

    def forgotten(device, *, is_rehearsal=False):
        places = {"state_dir": tmp_path, "outbox": tmp_path / "outbox.db", "eve": None}
        return {
            each.place.name[-6] for each in forget(identity_of(device, tmp_path), **places, is_rehearsal=is_rehearsal)
        }

    assert forgotten(CAMERA, is_rehearsal=True) == {"0", "2"}
    assert len(files_of(tmp_path)) == 3
    assert forgotten(CAMERA) == {"0", "2"}
    assert forgotten("02:00:00:00:00:77") == {"1"}
    assert files_of(tmp_path) == []
