"""The four sums: even where nothing is lost, named with their numbers where something is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.capture.accounting import Accounting
from agent.capture.source import Counts
from flowfeatures import FlowMeter, open_capture
from tests.e2e.scan import write_scan

KERNEL = Counts(seen=100, dropped=10, read=80, outgoing=3, malformed=2, standing=4, abandoned=1)
EVEN = Accounting(
    kernel=KERNEL,
    decoded=70,
    undecoded={"not_ip": 7, "truncated_ip": 3},
    metered=68,
    shed_packets=2,
    windows_due=9,
    windows_scored=7,
    windows_shed=2,
)


def test_sums_that_come_out_even_are_not_complained_of():
    assert EVEN.check() == []


@pytest.mark.parametrize("name", ["seen", "dropped", "read", "outgoing", "malformed", "standing", "abandoned"])
@pytest.mark.parametrize("by", [-1, 1])
def test_one_frame_more_or_less_anywhere_is_noticed(name: str, by: int):
    uneven = replace(EVEN, kernel=replace(KERNEL, **{name: getattr(KERNEL, name) + by}))

    assert any(line.startswith("seen ") for line in uneven.check())


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("decoded", "read 80 is not decoded"),
        ("metered", "decoded 70 is not metered"),
        ("shed_packets", "decoded 70 is not metered"),
        ("windows_due", "windows due"),
        ("windows_scored", "windows due 9 is not scored"),
        ("windows_shed", "windows due 9 is not scored"),
        ("windows_waiting", "windows due 9 is not scored"),
    ],
)
@pytest.mark.parametrize("by", [-1, 1])
def test_one_packet_or_window_more_or_less_anywhere_is_noticed(name: str, first: str, by: int):
    found = replace(EVEN, **{name: getattr(EVEN, name) + by}).check()

    assert any(line.startswith(first.replace("70", str(70 + by * (name == "decoded")))) for line in found), found


def test_a_reason_more_is_noticed():
    assert len(replace(EVEN, undecoded={"not_ip": 11}).check()) == 1


def test_frames_that_came_while_counting_are_no_loss_and_one_more_is():
    busy = replace(KERNEL, seen=105, meanwhile=5)

    assert replace(EVEN, kernel=busy).check() == []
    assert len(replace(EVEN, kernel=replace(busy, seen=106)).check()) == 1
    assert len(replace(EVEN, kernel=replace(busy, seen=99)).check()) == 1


def test_frames_in_hand_are_no_loss_and_one_more_is():
    assert replace(EVEN, decoded=60, metered=58, in_hand=10).check() == []
    assert len(replace(EVEN, decoded=59, metered=57, in_hand=10).check()) == 1


def test_counts_of_two_sockets_add_up_name_by_name():
    both = KERNEL + Counts(seen=1, dropped=2, read=3, outgoing=4, malformed=5, standing=6, abandoned=7, meanwhile=8)

    assert both == Counts(seen=101, dropped=12, read=83, outgoing=7, malformed=7, standing=10, abandoned=8, meanwhile=8)


def test_a_replay_has_accounts_too(tmp_path):
    meter = FlowMeter()
    with open_capture(write_scan(tmp_path / "scan.pcap")) as capture:
        list(meter.read(capture))
        accounts = Accounting.of(Counts(seen=capture.frames_read, read=capture.frames_read), meter.counters)

    assert (accounts.check(), accounts.decoded) == ([], 240)
