"""What the kernel says of an interface, compared with what ethtool(8) and ip(8) say; and when to ask again."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from agent.capture.interface import LOOPBACK, hardware_type, index_of, is_up, link_type_of
from agent.capture.offload import driver_of, offloads_on
from agent.capture.watch import Watch
from contracts.errors import DataMissing
from tests.capture.wire import Wire, ip

FEATURES = {
    "gro": "generic-receive-offload",
    "lro": "large-receive-offload",
    "tso": "tcp-segmentation-offload",
    "gso": "generic-segmentation-offload",
}


def told_by_ethtool(interface: str) -> set[str]:
    said = subprocess.run(["ethtool", "-k", interface], capture_output=True, text=True, check=True, timeout=120).stdout
    return {name for name, feature in FEATURES.items() if re.search(rf"^{feature}: on", said, re.MULTILINE)}


@pytest.mark.needs_root
@pytest.mark.parametrize(("gro", "gso", "tso"), list(product(["on", "off"], repeat=3)))
def test_offloads_are_those_ethtool_tells(wire: Wire, gro: str, gso: str, tso: str):
    wanted = ["tx", "on", "gro", gro, "gso", gso, "tso", tso]
    subprocess.run(["ethtool", "-K", "eth0", *wanted], check=True, capture_output=True, timeout=120)

    found = offloads_on("eth0")

    assert set(found) == told_by_ethtool("eth0")
    assert ("gro" in found) == (gro == "on")


@pytest.mark.needs_root
def test_the_driver_is_the_one_ethtool_tells(wire: Wire):
    said = subprocess.run(["ethtool", "-i", "eth0"], capture_output=True, text=True, check=True, timeout=120).stdout

    assert f"driver: {driver_of('eth0')}\n" in said


@pytest.mark.needs_root
def test_an_interface_switched_off_is_not_up(wire: Wire):
    before = is_up("eth0")
    ip("-n", wire.near, "link", "set", "eth0", "down")

    assert (before, is_up("eth0")) == (True, False)


def test_the_loopback_interface_carries_ethernet_headers():
    assert Path("/sys/class/net/lo/type").read_text() == f"{LOOPBACK}\n"
    assert (hardware_type("lo"), link_type_of("lo")) == (LOOPBACK, 1)
    assert str(index_of("lo")) == Path("/sys/class/net/lo/ifindex").read_text().strip()


def test_an_interface_that_is_not_there_has_no_index_no_offloads_and_no_driver():
    assert (index_of("nix0"), offloads_on("nix0"), driver_of("nix0")) == (None, (), "")
    with pytest.raises(DataMissing, match="nix0: no such network interface"):
        is_up("nix0")


@pytest.mark.parametrize("name", ["", "x" * 300, "nul\0", "\udcff", "a/b"])
def test_no_name_makes_asking_fail_in_another_way(name: str):
    assert index_of(name) is None
    assert (offloads_on(name), driver_of(name)) == ((), "")
    with pytest.raises(DataMissing):
        hardware_type(name)


def test_a_look_is_due_four_times_a_second_however_often_one_asks():
    now_s = iter([0.0, *(tenth / 100 for tenth in range(1, 101))])
    watch = Watch(now_s=lambda: next(now_s))

    due = [watch.is_due() for _ in range(100)]

    assert sum(due) == 4
    assert due.index(True) == 24
