"""A device that changes its address keeps its window, where what it says and what it sends agree."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.devices import Devices, DeviceWatch, Move
from flowfeatures import DeviceWindows, HomeNets
from tests.capture.wire import GUARD_S, Wire
from tests.devices.said import CAMERA, FORGER, LAMP, LAMP_IP, MINUTE, OTHER_IP, SECOND, arp, at
from tests.flowfeatures.packets import mac_bytes
from tests.flowfeatures.test_window import flow_ids, record

EPOCH_US = 1_700_000_000 * SECOND


class Home:
    """Devices, windows and their watch, under one clock; the clock of the packets runs beside it."""

    def __init__(self) -> None:
        self.now_us = 0
        self.windows = DeviceWindows()
        self.devices = Devices(home=HomeNets())
        self.watch = DeviceWatch(self.devices, self.windows, interfaces=(), now_us=lambda: self.now_us)
        self.moves: list[Move] = []
        self.flows = 0

    def say(self, frame: bytes, *, until_us: int, every_us: int = 10 * SECOND) -> Home:
        while self.now_us < until_us:
            self.now_us += every_us
            self.devices.observe(frame, self.now_us)
            self.moves += self.watch.turn(EPOCH_US + self.now_us)
        return self

    def send(self, address: str, mac: str) -> Home:
        """Let a flow from the address end now."""
        self.flows += 1
        now_us = EPOCH_US + self.now_us
        fields = {"src_mac": list(mac_bytes(mac)), "fwd_packets": 1, "end_us": now_us, "dst_port": self.flows}
        flow: NDArray[np.void] = record(flow_id=self.flows, src=address, left_us=now_us, **fields)
        assert list(self.windows.add(flow)) is not None
        return self

    def window(self) -> list[int]:
        return [each for batch in self.windows.flush() for i in range(len(batch)) for each in flow_ids((batch, i))]


@pytest.fixture
def home() -> Iterator[Home]:
    """Give a home in which the lamp has been for eleven minutes and has sent two flows."""
    home = Home().send(LAMP_IP, LAMP).say(arp(LAMP, LAMP_IP), until_us=11 * MINUTE - 70 * SECOND)
    yield home.send(LAMP_IP, LAMP).say(arp(LAMP, LAMP_IP), until_us=11 * MINUTE)
    home.watch.close()


def test_the_window_goes_with_the_device(home: Home):
    home.say(arp(LAMP, OTHER_IP), until_us=11 * MINUTE + 20 * SECOND).send(OTHER_IP, LAMP)

    home.say(arp(LAMP, OTHER_IP), until_us=13 * MINUTE)

    assert home.moves == [Move(old=at(LAMP_IP), new=at(OTHER_IP), mac=mac_bytes(LAMP))]
    assert home.window() == [1, 2, 3]


def test_claims_without_a_flow_of_that_address_move_nothing(home: Home):
    home.say(arp(LAMP, OTHER_IP), until_us=20 * MINUTE)

    assert home.moves == []


def test_a_flow_from_another_mac_moves_nothing(home: Home):
    """A forger that answers under its own MAC wants the lamp's window, and its mutes."""
    home.say(arp(LAMP, OTHER_IP), until_us=12 * MINUTE).send(OTHER_IP, FORGER)

    home.say(arp(LAMP, OTHER_IP), until_us=2 * 60 * MINUTE)

    assert home.moves == []
    assert home.devices.counts().refused_moves == {"another MAC sends": 1}


def test_a_device_that_still_sends_from_its_old_address_stays(home: Home):
    """Its ARP may be silent for hours where its router remembers long; its flows are not."""
    home.say(arp(LAMP, OTHER_IP), until_us=12 * MINUTE).send(OTHER_IP, LAMP)

    for _ in range(20):
        home.send(LAMP_IP, LAMP).say(arp(LAMP, OTHER_IP), until_us=home.now_us + 50 * SECOND)

    assert home.moves == []


def test_what_was_another_devices_window_moves_nothing(home: Home):
    home.say(arp(CAMERA, "192.168.1.30"), until_us=23 * MINUTE).send("192.168.1.30", FORGER)
    home.say(arp(CAMERA, OTHER_IP), until_us=24 * MINUTE).send(OTHER_IP, CAMERA)

    home.say(arp(CAMERA, OTHER_IP), until_us=60 * MINUTE)

    assert home.moves == []


def test_rules_know_a_device_by_its_mac_only_where_its_traffic_is_under_it(home: Home):
    own = home.watch.mac_of(at(LAMP_IP))
    home.say(arp(LAMP, OTHER_IP), until_us=12 * MINUTE)
    claimed, unknown = home.watch.mac_of(at(OTHER_IP)), home.watch.mac_of(at("192.168.1.99"))

    home.send(LAMP_IP, FORGER)

    assert (own, claimed, unknown) == (LAMP, "", None)
    assert home.watch.mac_of(at(LAMP_IP)) == ""


@pytest.mark.needs_root
def test_a_move_on_a_wire_is_heard_by_the_socket(wire: Wire):
    now_us = [0]
    devices, windows = Devices(home=HomeNets()), DeviceWindows()
    watch = DeviceWatch(devices, windows, interfaces=["eth0"], now_us=lambda: now_us[0])
    fields = {"src_mac": list(mac_bytes(LAMP)), "fwd_packets": 1}
    list(windows.add(record(flow_id=1, src=LAMP_IP, **fields)))
    moves: list[Move] = []

    def say(address: str, minutes: range) -> None:
        for minute in minutes:
            now_us[0], heard = minute * MINUTE, devices.counts().frames
            wire.send([arp(LAMP, address)])
            until_s = time.monotonic() + GUARD_S
            while devices.counts().frames == heard and time.monotonic() < until_s:
                moves.extend(watch.turn(now_us[0] + 2 * MINUTE))

    say(LAMP_IP, range(12))
    list(windows.add(record(flow_id=2, src=OTHER_IP, left_us=SECOND, dst_port=2, **fields)))
    say(OTHER_IP, range(12, 17))
    watch.close()

    assert [(move.old, move.new) for move in moves] == [(at(LAMP_IP), at(OTHER_IP))]
    assert windows.counters["moved_devices"] == 1
