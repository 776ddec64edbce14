import json
import logging
import lzma
import re

import pytest

from contracts import classes
from contracts.classes import BENIGN, CLASSES, HEAD_NAMES, NAMES, UNKNOWN, class_named, class_of_label


def test_the_classes_stand_in_the_order_of_the_heads_outputs():
    assert NAMES == (
        "benign", "scan", "brute_force", "flood", "reflection", "slow_dos",
        "botnet", "c2", "exfiltration", "protocol_abuse", "web_attack", "unknown",
    )  # fmt: skip
    assert [each.index for each in CLASSES] == list(range(12))
    assert len(HEAD_NAMES) == 11
    assert "unknown" not in HEAD_NAMES


def test_every_signature_id_is_used_once_and_says_inside_from_outside():
    ids = [each.signature_id(inside=inside) for each in CLASSES for inside in (False, True)]

    assert len(set(ids)) == 24
    assert all(9_000_000 <= number < 9_001_000 for number in ids)
    assert class_named("scan").signature_id_outside == 9_000_001
    assert class_named("scan").signature_id_inside == 9_000_101


def test_no_two_classes_say_the_same_in_an_alert():
    texts = [each.signature(inside=inside) for each in CLASSES for inside in (False, True)]

    assert len(set(texts)) == 24


def test_techniques_are_mitre_ids_and_only_benign_and_unknown_have_none():
    for each in CLASSES:
        if each.index in (BENIGN, UNKNOWN):
            assert each.technique is None
        else:
            assert re.fullmatch(r"T\d{4}(\.\d{3})?", each.technique), each.name


def test_unknown_behaviour_is_severity_3_and_attacks_are_2():
    assert {each.severity for each in CLASSES[1:UNKNOWN]} == {2}
    assert CLASSES[UNKNOWN].severity == 3


def test_labels_in_the_table_are_normalised_already():
    for each in CLASSES:
        assert [classes.normalise_label(label) for label in each.labels] == list(each.labels)


def test_every_class_is_found_by_its_own_name():
    assert [class_of_label(name) for name in NAMES] == list(range(12))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("BENIGN", "benign"),
        ("DoS Hulk", "flood"),
        ("DoS slowloris", "slow_dos"),
        ("DoS Slowhttptest", "slow_dos"),
        ("Web Attack \u2013 Brute Force", "web_attack"),
        ("Web Attack \x96 XSS", "web_attack"),
        ("Web Attack \ufffd Sql Injection", "web_attack"),
        ("FTP-Patator", "brute_force"),
        ("SSH-Patator - Attempted", "brute_force"),
        ("Infiltration", "c2"),
        ("Infiltration - Portscan", "scan"),
        ("Heartbleed", "protocol_abuse"),
        ("Bot", "botnet"),
        ("C&C-HeartBeat", "c2"),
        ("PartOfAHorizontalPortScan", "scan"),
        ("amplification_isakmp", "reflection"),
        ("dos_slowite", "slow_dos"),
        ("dos_something_new", "flood"),
        ("iot_setup:D-LinkDayCam", "benign"),
        ("iot_botnet_scan", "botnet"),
        ("syn_flood", "flood"),
    ],
)
def test_labels_of_the_data_sets_find_their_class(label, name):
    assert NAMES[class_of_label(label)] == name


def test_a_label_nobody_knows_is_class_unknown_and_warned_about_once(caplog):
    class_of_label.cache_clear()

    with caplog.at_level(logging.WARNING):
        seen = [class_of_label("quantum_teapot") for _ in range(3)]

    assert seen == [UNKNOWN] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "label 'quantum_teapot' is not in the class table: taken as class 'unknown'"
    ]


@pytest.mark.parametrize("label", ["", "   ", "_", "\u2013"])
def test_a_label_without_a_word_is_unknown(label):
    assert class_of_label(label) == UNKNOWN


def test_every_label_of_the_shared_captures_stands_in_the_table(caplog, shared):
    class_of_label.cache_clear()
    entries = json.loads(shared("data/ground_truth.json").read_text())

    with caplog.at_level(logging.WARNING):
        found = {entry["class"]: NAMES[class_of_label(entry["class"])] for entry in entries}

    assert not caplog.records
    assert {entry["class"] for entry in entries if entry["attack"] == "benign"} == {
        label for label, name in found.items() if name == "benign"
    }


def test_every_label_of_nsl_kdd_stands_in_the_table(caplog, shared):
    class_of_label.cache_clear()
    kinds = [line.split(",") for line in shared("data/nsl_kdd/attack_types.csv").read_text().split()]
    with lzma.open(shared("data/nsl_kdd/KDDTrain+.txt.xz"), "rt") as rows:
        labels = {row.split(",")[-2] for row in rows} | {label for pair in kinds for label in pair}

    with caplog.at_level(logging.WARNING):
        found = {label: class_of_label(label) for label in labels}

    assert not caplog.records
    assert [label for label, index in found.items() if index == BENIGN] == ["normal"]


def test_every_label_of_cicids2017_stands_in_the_table(caplog, shared):
    class_of_label.cache_clear()
    with lzma.open(shared("data/cicids2017_improved/cicids2017_improved_train.csv.xz"), "rt") as rows:
        place = next(rows).rstrip("\n").split(",").index("Label")
        labels = {row.split(",")[place] for row in rows}
    for name in ("cicids2017_sample_km", "friday_ddos_first9998_benign", "web_attacks_balanced"):
        path = shared(f"data/cicids2017_original/{name}.csv.xz")
        with lzma.open(path, "rt", encoding="utf-8", errors="replace") as rows:
            next(rows)
            labels |= {row.rstrip("\n").rsplit(",", 1)[-1] for row in rows}

    with caplog.at_level(logging.WARNING):
        for label in labels:
            class_of_label(label)

    assert not caplog.records
