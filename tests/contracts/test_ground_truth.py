import ipaddress
import json
import logging
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.classes import NAMES
from contracts.errors import GroundTruthError
from contracts.ground_truth import EXCLUDED, load
from flowfeatures.addresses import address_bytes
from flowfeatures.records import FLOW_META, RECORD

DEVICE, PEER, OTHER = "192.168.1.10", "10.0.0.5", "10.0.0.6"


def records_of(*flows, dtype=RECORD):
    """Return records of (src, src_port, dst, dst_port, start_s, end_s), more by keyword in a dict at the end."""
    records = np.zeros(len(flows), dtype)
    records["label"] = 99
    records["proto"] = 6
    for record, (src, src_port, dst, dst_port, start_s, end_s, *more) in zip(records, flows, strict=True):
        record["src"] = np.frombuffer(address_bytes(src), np.uint8)
        record["dst"] = np.frombuffer(address_bytes(dst), np.uint8)
        record["src_port"], record["dst_port"] = src_port, dst_port
        record["start_us"], record["end_us"] = round(start_s * 1e6), round(end_s * 1e6)
        for name, value in (more[0] if more else {}).items():
            record[name] = value
    return records


@pytest.fixture
def truth(tmp_path):
    """Give what load makes of entries, each with an existing capture unless it names one."""

    def make(*entries):
        (tmp_path / "a.pcap").touch()
        (tmp_path / "ground_truth.json").write_text(json.dumps([{"file": "a.pcap", **entry} for entry in entries]))
        return load(tmp_path / "ground_truth.json")

    make.folder = tmp_path
    return make


def labels(truth, records):
    truth.label(records)
    return [NAMES[label] if label >= 0 else label for label in records["label"]]


THREE = ((PEER, 5000, DEVICE, 23, 10, 11), (DEVICE, 5000, PEER, 80, 12, 13), (OTHER, 5000, DEVICE, 23, 14, 15))


def test_in_a_benign_capture_every_flow_is_benign_whatever_the_class_says(truth):
    (gt,) = truth({"attack": "benign", "class": "syn_flood", "attacker": [PEER], "victim": []})

    assert labels(gt, records_of(*THREE)) == ["benign"] * 3
    assert gt.class_index == 0
    assert not gt.outside_observation


def test_in_a_malicious_capture_what_does_not_match_is_left_out(truth):
    (gt,) = truth({"attack": "malicious", "class": "port_scan", "attacker": [PEER], "victim": [DEVICE]})

    assert labels(gt, records_of(*THREE)) == ["scan", "scan", EXCLUDED]


def test_in_a_mixed_capture_what_does_not_match_is_benign(truth):
    (gt,) = truth({"attack": "mixed", "class": "port_scan", "attacker": [PEER], "victim": [DEVICE]})

    assert labels(gt, records_of(*THREE)) == ["scan", "scan", "benign"]


def test_rest_exclude_leaves_out_what_does_not_match(truth):
    (gt,) = truth({"attack": "mixed", "class": "port_scan", "attacker": [PEER], "victim": [DEVICE], "rest": "exclude"})

    assert labels(gt, records_of(*THREE)) == ["scan", "scan", EXCLUDED]


@pytest.mark.parametrize("attacker", [[], ["any"], ["spoofed"], "any", ["Spoofed", "1.2.3.4"], None])
def test_no_attacker_any_and_spoofed_match_everyone(truth, attacker):
    (gt,) = truth({"attack": "malicious", "class": "syn_flood", "attacker": attacker, "victim": [DEVICE]})

    assert labels(gt, records_of(*THREE)) == ["flood"] * 3


def test_networks_match_to_the_bit(truth):
    (gt,) = truth(
        {"attack": "malicious", "class": "port_scan", "attacker": ["10.0.0.4/31"], "victim": ["192.168.0.0/16"]}
    )

    assert labels(gt, records_of(*THREE)) == ["scan", "scan", EXCLUDED]


def test_ipv6_networks_match_beyond_the_first_half(truth):
    (gt,) = truth({"attack": "malicious", "class": "scan", "attacker": ["2001:db8::ff00:0/104"], "victim": "any"})
    flows = [(src, 1, "2001:db8::1", 2, 0, 1) for src in ("2001:db8::ff12:3456", "2001:db8::fe12:3456", PEER)]

    assert labels(gt, records_of(*flows)) == ["scan", EXCLUDED, EXCLUDED]


def test_an_ipv4_network_of_everything_holds_no_ipv6_address(truth):
    (gt,) = truth({"attack": "malicious", "class": "scan", "attacker": ["0.0.0.0/0"], "victim": ["0.0.0.0/0"]})

    assert labels(gt, records_of((PEER, 1, OTHER, 2, 0, 1), ("2001:db8::1", 1, "::1", 2, 0, 1))) == ["scan", EXCLUDED]


def test_a_mac_matches_the_frames_of_that_end(truth):
    (gt,) = truth({"attack": "mixed", "class": "arp_spoof", "attacker": ["00:E0:4D:3C:25:7B"], "victim": [DEVICE]})
    mac = np.frombuffer(bytes.fromhex("00e04d3c257b"), np.uint8)
    flows = [
        (OTHER, 1, DEVICE, 2, 0, 1, {"src_mac": mac}),
        (OTHER, 1, DEVICE, 2, 0, 1, {"dst_mac": mac}),
        (DEVICE, 1, OTHER, 2, 0, 1, {"dst_mac": mac}),
        (OTHER, 1, DEVICE, 2, 0, 1),
    ]

    assert labels(gt, records_of(*flows)) == ["protocol_abuse", "benign", "protocol_abuse", "benign"]


def test_ports_are_the_responders_and_may_be_ranges(truth):
    (gt,) = truth({"attack": "mixed", "class": "scan", "ports": [23, "8000-8080"], "proto": "tcp"})
    flows = [
        (PEER, src_port, DEVICE, port, 0, 1) for src_port, port in ((1, 23), (23, 1), (1, 8000), (1, 8080), (1, 8081))
    ]

    assert labels(gt, records_of(*flows)) == ["scan", "benign", "scan", "scan", "benign"]


@pytest.mark.parametrize("proto", ["tcp", "TCP", 6, "6", ["udp", "tcp"], [6]])
def test_protocols_are_names_or_numbers(truth, proto):
    (gt,) = truth({"attack": "mixed", "class": "scan", "proto": proto})

    assert labels(gt, records_of(THREE[0], (*THREE[0], {"proto": 1}))) == ["scan", "benign"]


def test_a_record_that_touches_the_interval_by_one_packet_is_in_it(truth):
    interval = {"start": 1592812177.370831, "end": 1592812178.5, "class": "syn_flood", "attacker": [PEER]}
    (gt,) = truth({"attack": "mixed", "class": "x", "intervals": [interval]})
    start, end, us = interval["start"], interval["end"], 1e-6
    spans = [(start - 9, start), (start - 9, start - us), (end, end + 9), (end + us, end + 9), (start - 9, end + 9)]

    found = labels(gt, records_of(*((PEER, 1, DEVICE, 2, *span) for span in spans)))

    assert found == ["flood", "benign", "flood", "benign", "flood"]


def test_intervals_take_what_they_do_not_say_from_their_entry_and_the_first_that_matches_names_the_class(truth):
    (gt,) = truth(
        {
            "attack": "mixed",
            "class": "port_scan",
            "attacker": [PEER],
            "victim": [DEVICE],
            "proto": "tcp",
            "intervals": [
                {"start": 0, "end": 11, "class": "brute_force_telnet", "ports": [23]},
                {"start": 5},
                {"end": 20, "attacker": [OTHER], "class": "syn_flood"},
            ],
        }
    )

    assert labels(gt, records_of(*THREE, (PEER, 1, DEVICE, 23, 4, 4, {"proto": 17}))) == [
        "brute_force",
        "scan",
        "flood",
        "benign",
    ]


def test_an_interval_may_call_its_flows_benign(truth):
    (gt,) = truth({"attack": "malicious", "class": "scan", "intervals": [{"class": "benign", "attacker": OTHER}, {}]})

    assert labels(gt, records_of(*THREE)) == ["scan", "scan", "benign"]


def test_packet_labels_decide_alone_where_they_are_given(truth):
    (truth.folder / "packets.csv").write_text("1;0\n2;1\n\n3;syn_flood\r\n5;0\n")
    (gt,) = truth({"attack": "mixed", "class": "characterization", "attacker": [PEER], "labels": "packets.csv"})

    assert gt.packet_labels().tolist() == [0, 0, NAMES.index("protocol_abuse"), NAMES.index("flood"), 0, 0]
    assert gt.packet_labels().dtype == np.uint8
    marked = [(PEER, 1, DEVICE, 2, 0, 1, {"packet_label": label}) for label in (0, 9, 3)]
    assert labels(gt, records_of(*marked)) == ["benign", "protocol_abuse", "flood"]


def test_marked_packets_make_attacks_and_the_rest_is_left_out_where_the_capture_is_malicious(truth):
    (truth.folder / "packets.csv").write_text("1;1\n")
    (gt,) = truth({"attack": "malicious", "class": "scan", "labels": "packets.csv"})

    marked = [(PEER, 1, DEVICE, 2, 0, 1, {"packet_label": label}) for label in (0, 1)]
    assert labels(gt, records_of(*marked)) == [EXCLUDED, "scan"]


FLOWS_CSV = "src_ip,src_port,dst_ip,dst_port,proto,start,end,class\n"


def test_listed_flows_match_by_five_tuple_in_either_direction_and_by_time(truth):
    (truth.folder / "flows.csv").write_text(
        FLOWS_CSV
        + f"{PEER},5000,{DEVICE},23,tcp,10.5,12,DoS Hulk\n"
        + f"{DEVICE},23,{PEER},5000,6,20,,PortScan\n"
        + f"{PEER},5000,{DEVICE},23,tcp,,,BENIGN\n"
    )
    (gt,) = truth({"attack": "malicious", "class": "x", "flows": "flows.csv"})
    spans = [(9, 10), (10, 10.5), (12, 13), (19, 20), (30, 31)]
    forth = [(PEER, 5000, DEVICE, 23, *span) for span in spans]
    back = [(DEVICE, 23, PEER, 5000, *span) for span in spans]
    others = [(PEER, 5001, DEVICE, 23, 10, 11), (PEER, 23, DEVICE, 5000, 10, 11), (*forth[1], {"proto": 17})]

    wanted = ["benign", "flood", "flood", "scan", "scan"]
    assert labels(gt, records_of(*forth, *back, *others)) == [*wanted, *wanted, EXCLUDED, EXCLUDED, EXCLUDED]


def test_a_class_nobody_knows_is_unknown_with_a_warning_and_no_error(truth, caplog):
    with caplog.at_level(logging.WARNING):
        (gt,) = truth({"attack": "malicious", "class": "martian_probe_7"})

    assert labels(gt, records_of(*THREE)) == ["unknown"] * 3
    assert "martian_probe_7" in caplog.text


def test_an_attack_whose_class_is_benign_in_the_table_is_unknown_with_a_warning(truth, caplog):
    with caplog.at_level(logging.WARNING):
        (gt,) = truth({"attack": "malicious", "class": "iot_week"})

    assert labels(gt, records_of(*THREE)) == ["unknown"] * 3
    assert "called attack" in caplog.text


def test_an_attack_without_a_flow_is_an_outside_observation(truth):
    (gt,) = truth({"attack": "mixed", "class": "arp_spoof", "attacker": ["00:e0:4d:3c:25:7b"]})

    gt.label(records_of(*THREE))
    assert gt.outside_observation

    gt.label(records_of((*THREE[0], {"src_mac": np.frombuffer(bytes.fromhex("00e04d3c257b"), np.uint8)})))
    assert not gt.outside_observation


def test_no_records_and_records_without_columns_are_labelled_too(truth):
    (gt,) = truth({"attack": "malicious", "class": "scan", "attacker": [PEER]})

    gt.label(np.zeros(0, RECORD))
    assert labels(gt, records_of(*THREE, dtype=FLOW_META)) == ["scan", "scan", EXCLUDED]


def test_globs_are_relative_to_the_file_and_sorted_and_home_nets_are_kept(truth):
    (truth.folder / "sub").mkdir()
    for name in ("b.pcap", "a.pcap", "notes.txt", "[1].pcap"):
        (truth.folder / "sub" / name).touch()

    truths = truth(
        {"file": "sub/[a-z].pcap", "attack": "benign", "home_nets": ["10.0.0.0/8"]},
        {"file": "sub/[1].pcap", "attack": "benign"},
    )

    assert [gt.path for gt in truths] == [truth.folder / "sub" / name for name in ("a.pcap", "b.pcap", "[1].pcap")]
    assert [gt.home_nets for gt in truths] == [("10.0.0.0/8",), ("10.0.0.0/8",), None]


def test_a_misspelt_key_is_warned_about_and_a_note_is_not(truth, caplog):
    with caplog.at_level(logging.WARNING):
        truth({"attack": "benign", "atacker": [], "certainty": "sure", "first": 1.5, "anything": {}})

    assert [record.getMessage().split(": ", 2)[2] for record in caplog.records] == [
        "key 'atacker' has no effect; is 'attacker' meant?"
    ]


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"attack": "evil"}, r"entry 0: attack: seen 'evil', wanted .*'benign', 'malicious' or 'mixed'"),
        ({}, r"entry 0: attack: seen nothing"),
        ({"attack": "mixed", "attacker": ["10.0.0.300"]}, r"'10\.0\.0\.300' is no address"),
        ({"attack": "mixed", "ports": ["80-22"]}, r"'80-22': ports go from 0 to 65535, the lower first"),
        ({"attack": "mixed", "ports": [70000]}, "ports go from 0 to 65535"),
        ({"attack": "mixed", "ports": [-1]}, "'?-1'? is no port"),
        ({"attack": "mixed", "ports": [True]}, r"ports\.0"),
        ({"attack": "mixed", "proto": "carrier-pigeon"}, "'carrier-pigeon' is no protocol"),
        ({"attack": "mixed", "proto": 256}, "256 is no protocol"),
        ({"attack": "mixed", "intervals": [{"start": "noon"}]}, r"intervals\.0\.start: seen 'noon', wanted .*number"),
        ({"attack": "mixed", "intervals": [{"start": 2, "end": 1}]}, r"intervals\.0.*start must not be after end"),
        ({"attack": "mixed", "intervals": [{"start": 1e308}]}, r"intervals\.0.*1e\+308 s is beyond the year 9999"),
        ({"attack": "mixed", "intervals": [{"end": -1e12}]}, r"intervals\.0.* s is beyond the year 9999"),
        ({"attack": "mixed", "intervals": {}}, "intervals: seen"),
        ({"attack": "mixed", "flows": "a\0b"}, "flows: seen .*: no name of a file, wanted a text file"),
        ({"attack": "mixed", "flows": "fifo"}, "flows: seen .*: not a regular file, wanted a text file"),
        ({"attack": "mixed", "labels": "fifo"}, "labels: seen .*: not a regular file, wanted a text file"),
        ({"attack": "mixed", "labels": "long.csv"}, r"labels: seen '9999.*\.\.\. at .*long\.csv:1"),
        ({"attack": "mixed", "file": "x" * 5_000}, "file: seen no file at"),
        ({"attack": "mixed", "file": "a\0b"}, "file: seen no file at"),
        ({"attack": "mixed", "file": "a\0/*"}, "file: seen no file at"),
        ({"attack": "mixed", "file": "fifo"}, "file: seen no file at"),
        ({"attack": "mixed", "attacker": ["x" * 5_000]}, "is no address"),
        ({"attack": "mixed", "ports": ["9" * 5_000]}, "ports"),
        ({"attack": "mixed", "home_nets": ["home"]}, "'home' is no address"),
        ({"attack": "mixed", "home_nets": ["any"]}, "'any' is no network"),
        ({"attack": "mixed", "rest": "drop"}, "rest: seen 'drop'"),
        ({"attack": "mixed", "file": "missing.pcap"}, r"entry 0 \(missing\.pcap\): file: seen no file at"),
        ({"attack": "mixed", "file": "*.pcapng"}, "a glob that finds one"),
        ({"attack": "mixed", "labels": "no.csv"}, r"labels: seen .*no\.csv: No such file"),
        ({"attack": "mixed", "labels": "bad.csv"}, r"labels: seen 'two;1' at .*bad\.csv:2, wanted packet number"),
        ({"attack": "mixed", "flows": "bad.csv"}, r"flows: seen .*bad\.csv without src_ip, .*, wanted columns src_ip"),
        ({"attack": "mixed", "flows": "flows.csv"}, r"flows: seen .*'10\.0\.0' .* at .*flows\.csv:2"),
        ({"attack": "mixed", "flows": "."}, "flows: seen .*: Is a directory, wanted a text file"),
    ],
)
def test_what_is_wrong_is_named_with_file_entry_key_seen_and_wanted(truth, entry, complaint):
    os.mkfifo(truth.folder / "fifo")
    (truth.folder / "bad.csv").write_text("1;0\ntwo;1\n")
    (truth.folder / "long.csv").write_text("9" * 5_000 + ";1\n")
    (truth.folder / "flows.csv").write_text(FLOWS_CSV + f"10.0.0,1,{PEER},2,tcp,0,1,scan\n")

    with pytest.raises(GroundTruthError, match=complaint) as caught:
        truth(entry)
    assert "ground_truth.json: entry 0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (f"{PEER},1,{DEVICE},2,tcp,inf,1,scan", "inf s is beyond the year 9999"),
        (f"{PEER},1,{DEVICE},2,tcp,0,1e308,scan", r"1e\+308 s is beyond the year 9999"),
        (f"{PEER},1,{DEVICE},2,tcp,nan,1,scan", "nan s is beyond the year 9999"),
        (f"{PEER},1,{DEVICE},2,tcp", "too few fields"),
        (f"{PEER},1,{DEVICE},2,tcp,0,1", "too few fields"),
        ("x" * 200_000, "field larger than field limit"),
        (f"{PEER},1,{DEVICE},2,{'9' * 5_000},0,1,scan", "digits"),
    ],
    ids=["inf", "1e308", "nan", "half", "no class", "one field", "proto"],
)
def test_a_flow_that_cannot_be_is_named_with_its_line(truth, row, complaint):
    (truth.folder / "flows.csv").write_text(f"{FLOWS_CSV}{row}\n")

    with pytest.raises(GroundTruthError, match=rf"flows: seen .*{complaint}.* at .*flows\.csv:\d+, wanted a flow"):
        truth({"attack": "mixed", "flows": "flows.csv"})


def test_a_warning_shows_the_beginning_of_what_it_is_about(truth, caplog):
    with caplog.at_level(logging.WARNING):
        truth({"attack": "malicious", "class": "martian " * 10_000, "rest_" * 9: 1, "attackerr": 1})

    assert len(caplog.records) == 2
    assert all(len(record.getMessage()) < 400 for record in caplog.records)


@pytest.mark.parametrize(
    ("text", "complaint"), [("", "not JSON"), ("{}", "JSON dict"), ("[3]", "JSON int"), ("[" * 99999, "not JSON")]
)
def test_a_file_that_is_no_list_of_objects_is_refused(tmp_path, text, complaint):
    (tmp_path / "gt.json").write_text(text)

    with pytest.raises(GroundTruthError, match=complaint):
        load(tmp_path / "gt.json")


def test_a_pipe_is_no_ground_truth_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "gt.json")

    with pytest.raises(GroundTruthError, match=r"gt\.json: cannot be read: not a regular file"):
        load(tmp_path / "gt.json")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(GroundTruthError, match=r"nowhere\.json: cannot be read: No such file"):
        load(tmp_path / "nowhere.json")


def test_a_capture_named_twice_is_refused(truth):
    with pytest.raises(
        GroundTruthError, match=r"entry 1 \(a\.pcap\): file: seen .* again, wanted a capture once, it is in entry 0"
    ):
        truth({"attack": "benign"}, {"attack": "mixed", "class": "scan"})


def test_one_capture_only_may_have_packet_labels(truth):
    (truth.folder / "b.pcap").touch()

    with pytest.raises(GroundTruthError, match="labels: seen 2 captures"):
        truth({"file": "*.pcap", "attack": "mixed", "labels": "x.csv"})


HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "2001:db8::1", "2001:db8::2"]
host_lists = st.lists(st.sampled_from([*HOSTS, "10.0.0.0/30", "10.0.0.0/16", "2001:db8::/127", "any"]), max_size=2)
interval_dicts = st.fixed_dictionaries(
    {"class": st.sampled_from(["scan", "syn_flood", "benign"])},
    optional={
        "attacker": host_lists,
        "victim": host_lists,
        "proto": st.lists(st.sampled_from(["tcp", 17]), max_size=2),
        "ports": st.lists(st.sampled_from([22, "20-25", 80]), max_size=2),
        "start": st.integers(0, 9),
        "end": st.integers(9, 20),
    },
)
flow_tuples = st.tuples(
    st.sampled_from(HOSTS),
    st.sampled_from([22, 5000]),
    st.sampled_from(HOSTS),
    st.sampled_from([22, 24, 80]),
    st.integers(0, 12),
    st.integers(12, 25),
    st.fixed_dictionaries({"proto": st.sampled_from([6, 17])}),
)


def plain_match(interval, flow):
    """Tell by the words of the format, one flow at a time, whether it belongs to an interval."""
    src, _, dst, port, start, end, more = flow

    def within(host, texts):
        return not texts or any(
            text == "any" or ipaddress.ip_address(host) in ipaddress.ip_network(text) for text in texts
        )

    attacker, victim = interval.get("attacker"), interval.get("victim")
    ends = (within(src, attacker) and within(dst, victim)) or (within(src, victim) and within(dst, attacker))
    protos = [{"tcp": 6}.get(each, each) for each in interval.get("proto", [])]
    ports = [each for text in interval.get("ports", []) for each in ({"20-25": range(20, 26)}.get(text, [text]))]
    in_time = end >= interval.get("start", 0) and start <= interval.get("end", 99)
    return ends and (not protos or more["proto"] in protos) and (not ports or port in ports) and in_time


@settings(max_examples=60, deadline=None)
@given(intervals=st.lists(interval_dicts, min_size=1, max_size=4), flows=st.lists(flow_tuples, max_size=12))
def test_labels_are_those_a_reader_of_the_format_would_give(tmp_path_factory, intervals, flows):
    folder = tmp_path_factory.mktemp("truth")
    (folder / "a.pcap").touch()
    entry = {"file": "a.pcap", "attack": "malicious", "class": "scan", "intervals": intervals}
    (folder / "gt.json").write_text(json.dumps([entry]))
    names = {"scan": "scan", "syn_flood": "flood", "benign": "benign"}

    found = labels(load(folder / "gt.json")[0], records_of(*flows))

    assert found == [
        next((names[interval["class"]] for interval in intervals if plain_match(interval, flow)), EXCLUDED)
        for flow in flows
    ]


@settings(max_examples=40, deadline=None)
@given(listed=st.lists(flow_tuples, max_size=6), flows=st.lists(flow_tuples, max_size=12))
def test_listed_flows_are_joined_as_a_double_loop_would(tmp_path_factory, listed, flows):
    folder = tmp_path_factory.mktemp("truth")
    (folder / "a.pcap").touch()
    rows = [f"{s},{sp},{d},{dp},{more['proto']},{start},{end},scan\n" for s, sp, d, dp, start, end, more in listed]
    (folder / "flows.csv").write_text(FLOWS_CSV + "".join(rows))
    (folder / "gt.json").write_text(json.dumps([{"file": "a.pcap", "attack": "mixed", "flows": "flows.csv"}]))

    def same(one, other):
        ends = [{(flow[0], flow[1], "s"), (flow[2], flow[3], "s")} for flow in (one, other)]
        return ends[0] == ends[1] and one[6] == other[6] and one[5] >= other[4] and one[4] <= other[5]

    found = labels(load(folder / "gt.json")[0], records_of(*flows))

    assert found == ["scan" if any(same(each, flow) for each in listed) else "benign" for flow in flows]


def test_a_hundred_thousand_records_and_a_hundred_intervals_are_labelled_within_seconds(truth):
    intervals = [{"start": at, "end": at + 1, "attacker": ["10.0.0.0/24"], "class": "scan"} for at in range(100)]
    (gt,) = truth({"attack": "mixed", "class": "scan", "intervals": intervals})
    records = np.repeat(records_of((PEER, 1, DEVICE, 23, 0, 0)), 100_000)
    records["start_us"] = records["end_us"] = np.arange(100_000) * 2_000

    gt.label(records)

    assert np.count_nonzero(records["label"] == 1) == 50_001


def test_the_shared_captures_all_load_with_the_classes_their_labels_mean(shared):
    truths = load(shared("data/ground_truth.json"))

    by_name = {gt.path.name: gt for gt in truths}
    assert len(truths) > 100
    assert NAMES[by_name["pkt.TCP.synflood.spoofed.pcap"].class_index] == "flood"
    assert by_name["characterization_modbus_6RTU_with_operate.pcap"].packet_labels().sum() == 6719 * NAMES.index(
        "protocol_abuse"
    )
    assert {gt.attack for gt in truths} == {"benign", "malicious", "mixed"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"attacker": ["10.0.0.300"]}, r"attacker: seen \['10.0.0.300'\], wanted '10.0.0.300' is no address"),
        ({"intervals": [{"ports": [70_000]}]}, r"intervals.0.ports: seen \[70000\]"),
        ({"home_nets": ["any"]}, r"home_nets: seen \['any'\], wanted 'any' is no network"),
        ({"attack": "Malicious"}, "attack: seen 'Malicious', wanted 'benign', 'malicious' or 'mixed'"),
        ({"class": ["scan"]}, "class: seen .*, wanted a valid string"),
    ],
)
def test_what_is_wrong_is_told_by_its_key_what_was_seen_and_what_is_wanted(truth, wrong, told):
    with pytest.raises(GroundTruthError, match=f"entry 0: {told}"):
        truth({"attack": "mixed", **wrong})


def test_a_key_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "truth.json").write_text('[{"file": "a.pcap", "file": "b.pcap", "attack": "benign"}]')

    with pytest.raises(GroundTruthError, match="seen key 'file' twice"):
        load(tmp_path / "truth.json")
