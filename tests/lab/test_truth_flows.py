"""Flows with their senders: what both touched is said, and where senders and intervals disagree it is found."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import struct

import pytest

from contracts.errors import GroundTruthError
from contracts.ground_truth import load
from lab import frames
from lab.agreement import check
from lab.flows import PAUSE_S, read_flows, trace, write_flows
from lab.frames import Frame, flow_key, number_of, read_claims
from lab.plan import Attack
from lab.scenario import draw_plan
from lab.tally import counts, rows_of, table, tally
from lab.truth import Outcome, interval_of, spoofed_sources, write_truth

START_S = 1_700_000_000.0
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def frame(at_s, source, target, *, source_port=40000, target_port=80, proto="tcp"):
    return Frame(START_S + at_s, proto, number_of(source), number_of(target), source_port, target_port)


def interval(start_s, end_s, *, attacker=A, victim=B, proto="tcp", ports=(80,), **more):
    times = {"start": START_S + start_s, "end": START_S + end_s}
    return {
        **times,
        "class": "port_scan",
        "attacker": [attacker],
        "victim": [victim],
        "proto": proto,
        "ports": ports,
        **more,
    }


def key_of(each):
    return flow_key(each.proto, (each.source, each.source_port), (each.target, each.target_port))


def test_both_directions_are_one_flow_and_a_long_pause_ends_it():
    seen = [frame(0, A, B), frame(1, B, A, source_port=80, target_port=40000), frame(2 + PAUSE_S, A, B)]

    flows = trace(seen, [], sent={})

    assert [(flow.packets, flow.touched_by) for flow in flows] == [(2, "benign"), (1, "benign")]
    assert flows[0].source == (A, 40000)


def test_a_flow_that_an_attack_and_a_benign_activity_touched_says_both_and_is_labelled_attack():
    seen = [frame(0, A, B), frame(10, A, B)]

    (flow,) = trace(seen, [interval(5, 15)], sent={key_of(seen[0]): {"http_poll", "attack 0 port_scan"}})

    assert (flow.label, flow.touched_by, flow.packets, flow.attack_packets) == ("port_scan", "both", 2, 1)


def test_flows_are_written_and_read_back(tmp_path):
    seen = [frame(0, A, B), frame(1, A, C)]
    flows = trace(seen, [interval(0, 1)], sent={key_of(seen[1]): {"names", "clock"}})

    write_flows(flows, tmp_path / "flows.csv")

    assert read_flows(tmp_path / "flows.csv") == flows


def test_a_list_that_is_none_is_refused(tmp_path):
    (tmp_path / "flows.csv").write_text("a,b\n1,2\n")

    with pytest.raises(GroundTruthError, match=r"flows\.csv: not a list of flows"):
        read_flows(tmp_path / "flows.csv")


def octets(each):
    ends = struct.pack(">II", each.source, each.target)
    number = {"tcp": 6, "udp": 17, "icmp": 1}[each.proto]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, number, 0) + ends
    return bytes(12) + b"\x08\x00" + head + struct.pack(">HH", each.source_port, each.target_port) + bytes(16)


def write_pcap(path, packets):
    blob = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for time_s, data in packets:
        blob += struct.pack("<IIII", int(time_s), round(time_s % 1 * 1e6), len(data), len(data)) + data
    path.write_bytes(blob)
    return path


@pytest.fixture
def recorded(tmp_path):
    """Write the recording of a plan with one attack: frames(attacker, victim) gives what was seen and who sent."""

    def write(frames_of, *, proto="tcp", ports=(80,), spoofed=False):
        plan = draw_plan(3, attacks=[], devices=8)
        attacker, victim = plan.devices[0], plan.devices[1]
        words = {"starts_s": 0.0, "limit_s": 9.0, "argv": ("x",)}
        attack = Attack(
            "x", "port_scan", "T1046", attacker.name, victim.name, **words, proto=proto, ports=ports, spoofed=spoofed
        )
        seen = frames_of(attacker.address, victim.address)
        capture = write_pcap(tmp_path / "capture.pcap", [(each.time_s, octets(each)) for each, _ in seen])
        plan = dataclasses.replace(plan, attacks=(attack,))
        sent = {key_of(each): set(senders) for each, senders in seen if senders}
        entry = write_truth(plan, [Outcome(attack, START_S + 5, START_S + 15, 0)], capture=capture, sent=sent)[0]
        return entry, check(capture, tmp_path / "ground_truth.json"), capture

    return write


def test_a_recording_whose_witnesses_agree_has_no_problem_and_the_one_loader_reads_it(recorded, caplog):
    entry, problems, capture = recorded(
        lambda a, v: [(frame(1, v, a, target_port=22), ["ssh_visit"]), (frame(6, a, v), ["attack 0 x"])]
    )

    assert problems == []
    assert entry["flow_file"] == "flows.csv"
    assert [truth.path.name for truth in load(capture.with_name("ground_truth.json"))] == ["capture.pcap"]
    assert caplog.records == []


def test_a_flow_of_an_attack_that_no_interval_covers_is_found(recorded):
    _, problems, _ = recorded(
        lambda a, v: [(frame(6, a, v), ["attack 0 x"]), (frame(7, a, v, target_port=81), ["attack 0 x"])]
    )

    assert len(problems) == 1
    assert ":81 (attack 0 x): sent by an attack, covered by no interval" in problems[0]


def test_what_passes_between_attacker_and_victim_outside_the_interval_is_a_stray_unless_it_was_benign(recorded):
    def seen(a, v, senders):
        return [(frame(6, a, v), ["attack 0 x"]), (frame(40, a, v, source_port=5), senders)]

    assert recorded(lambda a, v: seen(a, v, ["http_poll"]))[1] == []
    assert recorded(lambda a, v: seen(a, v, ["attack 0 x", "http_poll"]))[1] == []  # a port used again
    [problem] = recorded(lambda a, v: seen(a, v, []))[1]
    assert problem == "interval 0 (port_scan, x): 1 packets from attacker to victim outside it"


@pytest.mark.parametrize(("late_s", "is_stray"), [(0.5, False), (30.0, True)])
def test_an_icmp_error_about_a_benign_packet_is_no_stray(recorded, tmp_path, late_s, is_stray):
    def complaint(a, v, answer):
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 56, 0, 0, 64, 1, 0, number_of(a), number_of(v))
        return bytes(12) + b"\x08\x00" + ip + bytes([3, 3]) + bytes(6) + octets(answer)[14:]

    def seen(a, v):
        answer = frame(40, v, a, source_port=123, target_port=5000, proto="udp")
        return [(frame(6, a, v), ["attack 0 x"]), (answer, ["clock"])]

    entry, _, capture = recorded(seen, proto=None, ports=())
    attacker, victim = entry["intervals"][0]["attacker"][0], entry["intervals"][0]["victim"][0]
    packets = [(each.time_s, octets(each)) for each, _ in seen(attacker, victim)]
    error = (START_S + 40 + late_s, complaint(attacker, victim, seen(attacker, victim)[1][0]))
    write_pcap(capture, [*packets, error])

    problems = [each for each in check(capture, tmp_path / "ground_truth.json") if "outside it" in each]

    assert bool(problems) == is_stray


def test_a_benign_flow_that_an_interval_covers_is_found(recorded):
    _, problems, _ = recorded(
        lambda a, v: [(frame(6, a, v), ["attack 0 x"]), (frame(7, a, v, source_port=5), ["http_poll"])]
    )

    assert len(problems) == 1
    assert "(http_poll): sent by nobody but benign activities, labelled attack" in problems[0]


def test_a_list_of_flows_that_was_tampered_with_is_found(recorded):
    _, _, capture = recorded(lambda a, v: [(frame(6, a, v), ["attack 0 x"])])
    path = capture.with_name("flows.csv")
    path.write_text(path.read_text().replace("port_scan", "benign"))

    assert check(capture, capture.with_name("ground_truth.json")) == [
        "flows.csv: 2 flows differ from capture and intervals"
    ]


def test_icmp_that_a_udp_attack_called_forth_is_labelled_with_it(recorded):
    entry, problems, _ = recorded(
        lambda a, v: [
            (frame(6, a, v, proto="udp"), ["attack 0 x"]),
            (frame(7, v, a, proto="icmp", source_port=0, target_port=0), []),
        ],
        proto="udp",
    )

    assert problems == []
    assert [each["proto"] for each in entry["intervals"]] == ["udp", "icmp"]


def test_a_udp_attack_that_called_forth_nothing_has_one_interval(recorded):
    entry, problems, _ = recorded(lambda a, v: [(frame(6, a, v, proto="udp"), ["attack 0 x"])], proto="udp")

    assert problems == []
    assert len(entry["intervals"]) == 1


def test_a_spoofed_source_in_the_labs_own_prefixes_is_named_by_itself(recorded):
    plan = draw_plan(3, attacks=[], devices=8)
    used = {plan.gateway_address, *plan.silent, *(device.address for device in plan.devices)}
    near = next(str(a) for a in ipaddress.ip_network(plan.lan).hosts() if str(a) not in used)

    entry, problems, _ = recorded(
        lambda _, v: [(frame(6, near, v), ["attack 0 x"]), (frame(7, "9.9.9.9", v), ["attack 0 x"])], spoofed=True
    )

    assert problems == []
    assert f"{near}/32" in entry["intervals"][0]["attacker"]


def test_spoofed_datagrams_may_come_from_any_group_unless_their_port_is_a_groups():
    plan = draw_plan(3)

    def covers(address, **asked):
        sources = spoofed_sources(plan, **asked)
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(text) for text in sources)

    assert covers("241.1.2.3", proto="udp", ports=(443,))
    assert covers("241.1.2.3", proto=None)
    assert covers("224.0.0.251", proto="udp", ports=(443,))
    assert not covers("224.0.0.251", proto="udp", ports=(5353,))
    assert not covers("255.255.255.255", proto=None)


def arp_reply(mac, address, told):
    ends = bytes.fromhex(mac.replace(":", "")), ipaddress.ip_address(address).packed
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 2)
    return bytes(6) + ends[0] + b"\x08\x06" + head + ends[0] + ends[1] + bytes(6) + ipaddress.ip_address(told).packed


@pytest.fixture
def lied(tmp_path):
    """Write a recording with ARP replies of an attacker at these seconds; return its problems and the ground truth."""

    def write(*lies_at_s):
        plan = draw_plan(3, attacks=[], devices=8)
        attacker, victim, claimed = plan.devices[:3]
        words = {"starts_s": 0.0, "limit_s": 9.0, "argv": ("arpspoof",), "proto": "arp", "spoofed": True}
        attack = Attack("arp_spoof", "arp_spoof", "T1557.002", attacker.name, victim.name, **words)
        packets = [(START_S + at_s, arp_reply(attacker.mac, claimed.address, victim.address)) for at_s in lies_at_s]
        packets.append((START_S + 50, arp_reply(attacker.mac, attacker.address, victim.address)))
        packets.append((START_S + 51, octets(frame(51, claimed.address, victim.address))))
        capture = write_pcap(tmp_path / "capture.pcap", sorted(packets))
        truth = tmp_path / "ground_truth.json"
        write_truth(plan, [Outcome(attack, START_S + 5, START_S + 15, 0)], capture=capture, sent={})
        return check(capture, truth), capture, truth

    return write


def test_a_lie_by_arp_in_its_interval_agrees_and_an_own_address_is_no_lie(lied):
    problems, capture, truth = lied(6, 8)

    assert problems == []
    assert [claim.mac for claim in read_claims(capture)] == [draw_plan(3, attacks=[], devices=8).devices[0].mac] * 3
    assert ("arp_spoof", 2, 0) in [(row.name, row.packets, row.flows) for row in tally(capture, truth)]


def test_the_loader_calls_a_lie_by_arp_an_outside_observation(lied):
    _, _, truth = lied(6)

    (loaded,) = load(truth)

    assert loaded.outside_observation


@pytest.mark.parametrize(("lies_at_s", "said"), [((), "no lie from"), ((6, 30), "1 lies outside its intervals")])
def test_a_lie_outside_its_interval_and_an_interval_without_one_are_found(lies_at_s, said, lied):
    problems, _, _ = lied(*lies_at_s)

    assert [said in problem for problem in problems] == [True]


def test_rows_count_attacks_by_technique_and_benign_flows_by_kind():
    seen = [frame(0, A, B), frame(1, A, B), frame(2, A, C), frame(12, A, C), frame(3, C, B, proto="udp")]
    sent = {key_of(seen[0]): {"attack 0 y"}, key_of(seen[2]): {"http_poll"}}
    intervals = [interval(0, 1.5, attack_kind="slow_scan", tool="x")]

    rows = rows_of(trace(seen, intervals, sent=sent), intervals)

    assert [(r.label, r.name, r.packets, r.flows, r.seconds) for r in rows] == [
        ("port_scan", "slow_scan", 2, 1, 1.5),
        ("benign", "(nobody's)", 1, 1, 0.0),
        ("benign", "http_poll", 2, 1, 10.0),
    ]
    assert counts(rows) == (1, 1)
    assert "1 attack techniques and 1 benign kinds with packets" in table(rows)


def test_seconds_are_those_with_a_flow_open_and_none_counts_twice():
    seen = [frame(0, A, B), frame(4, A, B), frame(2, A, B, source_port=5), frame(6, A, B, source_port=5)]

    (row,) = rows_of(trace(sorted(seen), [], sent={}), [])

    assert row.seconds == 6.0


def test_an_interval_tells_tool_arguments_and_seed():
    plan = draw_plan(3, attacks=["telnet_bot"])

    told = interval_of(plan, Outcome(plan.attacks[0], START_S, START_S + 1, 0))

    assert (told["seed"], told["attack_kind"]) == (3, "telnet_bot")
    assert told["arguments"] == list(plan.attacks[0].argv)


def test_a_short_frame_is_no_claim(tmp_path):
    whole = arp_reply("02:00:00:00:00:01", A, B)
    path = write_pcap(tmp_path / "x.pcap", [(START_S, whole[:41]), (START_S, whole)])

    assert len(list(frames.read_claims(path))) == 1


def test_an_answer_to_another_attack_is_no_stray_of_one_that_may_meet_anybody(tmp_path):
    anybody = interval(0, 5, attacker=A, victim="any", ports=(23,), tool="search")
    flooded = interval(20, 25, attacker="9.0.0.0/8", victim=A, ports=(), tool="flood")
    seen = [
        frame(1, A, C, target_port=23),
        frame(21, "9.9.9.9", A, source_port=23),
        frame(22, A, "9.9.9.9", target_port=23),
    ]
    capture = write_pcap(tmp_path / "capture.pcap", [(each.time_s, octets(each)) for each in seen])
    truth = tmp_path / "ground_truth.json"

    def problems(*intervals):
        truth.write_text(json.dumps([{"file": "capture.pcap", "attack": "mixed", "intervals": intervals}]))
        return check(capture, truth)

    assert problems(anybody, flooded) == []
    assert problems(anybody) == ["interval 0 (port_scan, search): 1 packets from attacker to victim outside it"]
