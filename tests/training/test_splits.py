"""splits.toml as committed, and what Splits refuses."""

from __future__ import annotations

import pytest

from training.errors import SplitError
from training.splits import SIDES, Side, Splits, load_splits, refuse_shared_captures

VENDORS = {"acme": ("AcmeCam", "AcmeLock"), "bolt": ("BoltPlug",)}


def splits(**sides: Side) -> Splits:
    return Splits(sides=sides, vendors=VENDORS, terms={"iot_sentinel": "MIT", "lab": "MIT"})


def test_the_committed_splits_name_every_side_and_hold():
    assert set(load_splits().sides) == set(SIDES)


def test_only_sources_with_terms_teach_in_the_committed_splits():
    committed = load_splits()

    for source in ("mqttset", "smarthome_fit", "modbus_cset2016", "scans", "iot_malware", "benign_protocols"):
        assert source not in committed.terms
        assert committed.side_of_data(f"{source}/any.pcap") == "evaluation"


def test_devices_of_one_maker_stand_on_one_side():
    committed = load_splits()

    for devices in committed.vendors.values():
        assert len({committed.side_of_data(f"iot_sentinel/{device}/Setup-A-1-STA.pcap") for device in devices}) == 1


def test_a_vendor_on_two_sides_is_refused():
    with pytest.raises(SplitError, match="vendors acme stands on two sides: train and test"):
        splits(train=Side(vendors=("acme",)), test=Side(vendors=("acme", "bolt")))


def test_a_lab_seed_on_two_sides_is_refused():
    with pytest.raises(SplitError, match="lab 7 stands on two sides: train and validation"):
        splits(train=Side(lab=(6, 7)), validation=Side(lab=(7,)))


def test_a_device_of_two_makers_is_refused():
    with pytest.raises(SplitError, match="device AcmeCam"):
        Splits(sides={}, vendors={"acme": ("AcmeCam",), "bolt": ("AcmeCam",)}, terms={})


def test_a_teaching_source_without_terms_is_refused():
    with pytest.raises(SplitError, match="train uses mqttset"):
        splits(train=Side(data=("mqttset/*",)))


def test_a_judging_source_needs_no_terms():
    assert splits(evaluation=Side(data=("mqttset/*",))).side_of_data("mqttset/flood.pcap") == "evaluation"


def test_a_capture_that_two_globs_claim_is_refused():
    both = splits(test=Side(data=("scans/*",)), evaluation=Side(data=("scans/a*",)))

    assert both.side_of_data("scans/b.pcap") == "test"
    with pytest.raises(SplitError, match=r"scans/a\.pcap"):
        both.side_of_data("scans/a.pcap")


def test_a_capture_nobody_claims_takes_no_part():
    assert splits(train=Side(vendors=("acme",))).side_of_data("iot_sentinel/BoltPlug/1.pcap") is None
    assert splits(train=Side(lab=(1,))).side_of_seed(2) is None


def test_the_same_bytes_under_two_names_on_two_sides_are_refused():
    with pytest.raises(SplitError, match=r"train \(a\.pcap\) and test \(b\.pcap\)"):
        refuse_shared_captures({"a.pcap": "d1", "b.pcap": "d1"}, {"a.pcap": "train", "b.pcap": "test"})


def test_the_same_bytes_twice_on_one_side_are_no_leak():
    refuse_shared_captures({"a.pcap": "d1", "b.pcap": "d1"}, {"a.pcap": "train", "b.pcap": "train"})
