"""What a person is told of a capture."""

from __future__ import annotations

from dataclasses import replace

from agent.capture.report import CaptureReport

QUIET = CaptureReport(interface="eth0", source="ring", opener="scapy", link="ether", seen=1000, read=1000)


def test_a_capture_without_trouble_has_no_warning():
    assert QUIET.warnings() == []


def test_drops_are_told_with_their_share():
    assert replace(QUIET, seen=2000, dropped=30).warnings() == [
        "eth0: the kernel dropped 30 of 2,000 packets (1.5 %): a filter, a larger ring or several workers help"
    ]


def test_offloads_are_told_with_the_command_that_ends_them():
    (line,) = replace(QUIET, offloads=("gro", "tso"), super_frames=1234).warnings()

    assert line.startswith("eth0: 1,234 packets above 1,500 octets: gro, tso are on and may glue packets together")
    assert line.endswith(": sudo ethtool -K eth0 gro off tso off")


def test_one_offload_is_told_before_it_has_glued_anything():
    assert replace(QUIET, offloads=("gro",)).warnings() == [
        "eth0: gro is on and may glue packets together: sudo ethtool -K eth0 gro off"
    ]


def test_large_packets_without_an_offload_of_ours_come_from_elsewhere():
    assert replace(QUIET, super_frames=2).warnings() == [
        "eth0: 2 packets above 1,500 octets: large frames, or packets glued together before they came here"
    ]


def test_an_interface_that_is_gone_is_not_also_called_down():
    assert replace(QUIET, is_absent=True, is_down=True).warnings() == [
        "eth0: the interface is gone; it is taken up again when it comes back"
    ]
    assert replace(QUIET, is_down=True).warnings() == ["eth0: the interface is down: ip link set eth0 up"]


def test_the_slow_way_is_told():
    (line,) = replace(QUIET, source="portable").warnings()

    assert line == "eth0: the kernel gives no ring: reading the slow way, with Scapy's socket"


def test_every_fact_has_its_line():
    told = replace(QUIET, driver="veth", ring_bytes=32 << 20, fanout_group=3, ring_full=2, dropped=4, rebinds=1).lines()

    assert told[0] == "interface: eth0 (veth)"
    assert "ring: 32,768 KiB" in told
    assert "fanout group: 3" in told
    assert "dropped by the kernel: 4 (ring full 2 times)" in told
    assert "rebinds: 1" in told
