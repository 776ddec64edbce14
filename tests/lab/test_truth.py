"""Ground truth says when, who, whom; the check finds where a capture says otherwise."""

from __future__ import annotations

import ipaddress
import json
import struct
from pathlib import Path

import pytest

from contracts.classes import NAMES, class_of_label
from contracts.errors import GroundTruthError
from contracts.ground_truth import load
from lab.agreement import check
from lab.attacks import TECHNIQUES
from lab.plan import ANY_HOST, AWAY_PREFIX
from lab.scenario import draw_plan
from lab.truth import TAIL_S, Outcome, everyone_but, interval_of, write_truth

START_S = 1_700_000_000.0


def tcp(source, target, *, source_port, target_port):
    """One TCP packet in an Ethernet frame; nobody here looks at its checksums."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends
    return bytes(12) + b"\x08\x00" + head + struct.pack(">HHIIBBHHH", source_port, target_port, 0, 0, 0x50, 2, 0, 0, 0)


def write_pcap(path, packets):
    """Write (seconds, frame) pairs as a pcap file."""
    blob = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time_s, frame in packets:
        whole_s = int(time_s)
        blob += struct.pack("<IIII", whole_s, round((time_s - whole_s) * 1e6), len(frame), len(frame)) + frame
    path.write_bytes(blob)
    return path


@pytest.fixture
def guessed(tmp_path):
    """A plan with one telnet guessing, its outcome, and packets of it every second for ten seconds."""
    plan = draw_plan(3, attacks=["telnet_bot"])
    attack = plan.attacks[0]
    ends = {"source": plan.address(attack.attacker), "target": plan.address(attack.victim)}
    frame = tcp(**ends, source_port=40000, target_port=attack.ports[0])
    packets = [(START_S + second, frame) for second in range(10)]
    return plan, Outcome(attack, START_S, START_S + 9.5, 0), packets, tmp_path


def test_an_interval_names_what_was_planned():
    plan = draw_plan(3, attacks=["telnet_bot"])
    interval = interval_of(plan, Outcome(plan.attacks[0], START_S, START_S + 9.5, 0))

    assert interval["attacker"] == [plan.address(plan.attacks[0].attacker)]
    assert interval["victim"] == [plan.address(plan.attacks[0].victim)]
    assert (interval["start"], interval["end"], interval["proto"]) == (START_S, START_S + 9.5, "tcp")


def test_spoofed_sources_are_everybody_but_the_labs_own_hosts():
    plan = next(
        plan for plan in (draw_plan(seed, attacks=["syn_flood"]) for seed in range(50)) if plan.attacks[0].spoofed
    )
    interval = interval_of(plan, Outcome(plan.attacks[0], START_S, START_S + 1, 0))

    sources = [ipaddress.ip_network(text) for text in interval["attacker"]]
    known = {plan.lan, plan.internet, AWAY_PREFIX}
    assert not any(ipaddress.ip_address(host.address) in source for host in plan.hosts for source in sources)
    assert sum(source.num_addresses for source in sources) == 2**32 - sum(
        ipaddress.ip_network(network).num_addresses for network in known
    )


def test_a_victims_own_announcements_are_no_answers_nobody_asked_for():
    plan = draw_plan(3, attacks=["reflection"])
    interval = interval_of(plan, Outcome(plan.attacks[0], START_S, START_S + 1, 0))

    sources = [ipaddress.ip_network(text) for text in interval["attacker"]]
    groups = [ipaddress.ip_address(text) for text in ("224.0.0.251", "239.255.255.250", "255.255.255.255", "0.0.0.0")]
    assert not any(group in source for group in groups for source in sources)


def test_everyone_but_nobody_is_everyone():
    assert everyone_but() == ["0.0.0.0/0"]


def test_an_interval_lasts_until_the_last_packet_its_attack_caused(guessed):
    plan, outcome, packets, folder = guessed
    late = START_S + 9.5 + TAIL_S - 1.0
    capture = write_pcap(folder / "capture.pcap", [*packets, (late, packets[0][1])])

    entry = write_truth(plan, [outcome], capture=capture)[0]

    assert late <= entry["intervals"][0]["end"] < late + 0.01
    assert check(capture, folder / "ground_truth.json") == []


def test_a_packet_after_the_tail_is_a_stray(guessed):
    plan, outcome, packets, folder = guessed
    capture = write_pcap(folder / "capture.pcap", [*packets, (START_S + 9.5 + TAIL_S + 1.0, packets[0][1])])

    write_truth(plan, [outcome], capture=capture)

    assert "1 packets from attacker to victim outside" in check(capture, folder / "ground_truth.json")[0]


def test_a_packet_before_the_attack_is_a_stray(guessed):
    plan, outcome, packets, folder = guessed
    capture = write_pcap(folder / "capture.pcap", [(START_S - 1.0, packets[0][1]), *packets])

    write_truth(plan, [outcome], capture=capture)

    assert len(check(capture, folder / "ground_truth.json")) == 1


def test_an_interval_without_a_packet_is_found(guessed):
    plan, outcome, packets, folder = guessed
    answers_only = tcp("10.0.0.1", "10.0.0.2", source_port=1, target_port=2)
    capture = write_pcap(folder / "capture.pcap", [(time_s, answers_only) for time_s, _ in packets])

    write_truth(plan, [outcome], capture=capture)

    assert "no packet from attacker to victim" in check(capture, folder / "ground_truth.json")[0]


def test_the_one_loader_reads_what_the_lab_writes(guessed, caplog):
    plan, outcome, packets, folder = guessed
    capture = write_pcap(folder / "capture.pcap", packets)

    write_truth(plan, [outcome], capture=capture)
    loaded = load(folder / "ground_truth.json")

    assert [truth.path.name for truth in loaded] == ["capture.pcap"]
    assert loaded[0].home_nets == (plan.lan,)
    assert caplog.records == []


def test_without_attacks_the_entry_is_benign(guessed):
    plan, _, packets, folder = guessed
    capture = write_pcap(folder / "capture.pcap", packets)

    assert write_truth(plan, [], capture=capture)[0]["attack"] == "benign"


def test_every_label_of_the_lab_stands_in_the_class_table():
    labels = {name: draw_plan(3, attacks=[name], devices=11).attacks[0].label for name in TECHNIQUES}

    unknown = {name for name, label in labels.items() if NAMES[class_of_label(label)] in ("unknown", "benign")}
    assert unknown == set()


def test_searching_the_internet_has_any_victim():
    plan = draw_plan(3, attacks=["mirai_search"])

    assert interval_of(plan, Outcome(plan.attacks[0], 0.0, 1.0, 0))["victim"] == [ANY_HOST]


def test_a_ground_truth_of_another_capture_is_refused(guessed):
    plan, outcome, packets, folder = guessed
    capture = write_pcap(folder / "capture.pcap", packets)
    write_truth(plan, [outcome], capture=capture)
    other = write_pcap(folder / "other.pcap", packets)

    with pytest.raises(GroundTruthError, match=r"0 entries for other\.pcap"):
        check(other, folder / "ground_truth.json")


def test_a_file_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "ground_truth.json").write_text("{")

    with pytest.raises(GroundTruthError):
        check(tmp_path / "capture.pcap", tmp_path / "ground_truth.json")


def test_the_committed_demo_agrees_with_its_ground_truth():
    demo = Path(__file__).parents[2] / "lab" / "demo"

    assert check(demo / "capture.pcap", demo / "ground_truth.json") == []
    assert (demo / "capture.pcap").stat().st_size < 2_000_000
    assert len(json.loads((demo / "ground_truth.json").read_text())[0]["intervals"]) == 3
