"""The second socket on a real wire: what it hears, what a flood costs, an interface that goes and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from agent.devices import Devices
from agent.devices.devices import MAX_STRANGERS
from agent.devices.listener import AT_ONCE, BURST_FRAMES, FRAMES_PER_S, DeviceListener
from contracts.errors import DataMissing
from flowfeatures import HomeNets
from tests.capture.wire import GUARD_S, Wire, datagrams
from tests.devices.said import LAMP, LAMP_IP, MINUTE, SECOND, announced, arp, at

pytestmark = pytest.mark.needs_root


@dataclass
class Heard:
    """A listener with a clock of its own, and what it heard and missed."""

    listener: DeviceListener
    now_us: list[int]
    frames: list[bytes] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)

    def poll(self) -> int:
        return self.listener.poll(
            lambda frame, _: self.frames.append(frame), lambda count, _: self.missed.append(count)
        )

    def until(self, is_enough: Callable[[], bool]) -> None:
        until_s = time.monotonic() + GUARD_S
        while not is_enough() and time.monotonic() < until_s:
            self.poll()
            time.sleep(0.005)


def listening() -> Heard:
    now_us = [MINUTE]
    return Heard(DeviceListener("eth0", now_us=lambda: now_us[0]), now_us)


def test_it_hears_who_is_who_and_nothing_else(wire: Wire):
    heard = listening()
    said = [arp(LAMP, LAMP_IP), announced(LAMP, LAMP_IP, "lamp")]

    wire.send([*datagrams(500), said[0], *datagrams(500), said[1]])
    heard.until(lambda: len(heard.frames) >= 2)

    assert heard.frames == said
    assert heard.missed == []


def test_a_flood_is_read_no_faster_than_allowed_and_the_rest_is_told_as_missed(wire: Wire):
    heard = listening()
    flood = [arp(f"02:aa:00:{n >> 8:02x}:{n & 255:02x}:01", f"10.0.{n >> 8}.{n & 255}") for n in range(10_000)]

    wire.send(flood)
    counts = [heard.poll() for _ in range(BURST_FRAMES // AT_ONCE + 2)]
    at_first = len(heard.frames)
    heard.now_us[0] += SECOND
    later = [heard.poll() for _ in range(FRAMES_PER_S // AT_ONCE + 2)]

    assert max(counts) == AT_ONCE
    assert at_first <= BURST_FRAMES
    assert sum(later) <= FRAMES_PER_S
    assert sum(heard.missed) > 9_000
    assert sum(heard.missed) + len(heard.frames) <= 10_000


def test_a_flood_on_the_wire_neither_grows_memory_nor_renames_who_was_there(wire: Wire):
    heard = listening()
    devices = Devices(home=HomeNets())
    for now_us in range(0, 11 * MINUTE + 1, MINUTE):
        devices.observe(announced(LAMP, LAMP_IP, "lamp"), now_us)

    flood = [
        announced(f"02:aa:00:{n >> 8:02x}:{n & 255:02x}:01", f"10.0.{n >> 8}.{n & 255}", "lamp") for n in range(3_000)
    ]
    for first in range(0, len(flood), 300):
        wire.send(flood[first : first + 300])
        heard.now_us[0] += 2 * SECOND
        while heard.listener.poll(devices.observe, devices.missed):
            continue

    assert devices.counts().devices <= MAX_STRANGERS + 1
    assert devices.counts().frames > 1_000
    assert devices.named(at(LAMP_IP)).name == "lamp"


def test_an_interface_made_again_is_heard_again_and_the_time_between_is_missed(wire: Wire):
    heard = listening()
    wire.send([arp(LAMP, LAMP_IP)])
    heard.until(lambda: len(heard.frames) == 1)

    wire.cut()
    heard.now_us[0] += SECOND
    heard.poll()
    wire.lay()
    heard.now_us[0] += SECOND
    heard.poll()
    wire.send([arp(LAMP, "192.168.1.11")])
    heard.until(lambda: len(heard.frames) == 2)

    assert heard.frames[1] == arp(LAMP, "192.168.1.11")
    assert heard.listener.reopened == 1
    assert heard.missed


def test_an_absent_interface_is_an_error_at_the_start_only():
    with pytest.raises(DataMissing, match="nowhere9"):
        DeviceListener("nowhere9")


def test_a_closed_listener_hears_nothing(wire: Wire):
    heard = listening()
    heard.listener.close()

    wire.send([arp(LAMP, LAMP_IP)])

    assert heard.poll() == 0
    heard.listener.close()
