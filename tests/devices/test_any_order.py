"""Whatever is said, in whatever order: who has what stays consistent, bounded, and proven addresses are held ones."""

from __future__ import annotations

import random

import pytest

from agent.devices.device import MAX_ADDRESSES
from agent.devices.devices import MAX_STRANGERS, Devices
from flowfeatures import HomeNets
from tests.devices.said import HOUR, MINUTE, SECOND, announced, arp, at, dhcp, neighbour

MACS = [f"02:00:00:00:00:{number:02x}" for number in range(6)]
STEPS_US = (1, SECOND, 7 * SECOND, MINUTE, 11 * MINUTE, HOUR, 25 * HOUR)


def some_frame(dice: random.Random) -> bytes:
    mac = dice.choice(MACS)
    if dice.random() < 0.05:
        mac = f"02:aa:{dice.randrange(256):02x}:{dice.randrange(256):02x}:00:01"
    address = f"192.168.1.{dice.randrange(30)}"
    return dice.choice(
        (
            lambda: arp(mac, address),
            lambda: dhcp(mac, name=f"n{dice.randrange(4)}", address=address),
            lambda: dhcp(mac, kind=5, given=address),
            lambda: announced(mac, address, f"n{dice.randrange(4)}"),
            lambda: neighbour(mac, 135, src=f"fd00::{dice.randrange(20):x}"),
        )
    )()


def check(devices: Devices) -> None:
    everyone = {device.mac: device for device in devices._everyone()}
    assert len(devices._strangers) <= MAX_STRANGERS
    for address, mac in devices._holders.items():
        assert address in everyone[mac].claims
    for mac, device in everyone.items():
        assert len(device.claims) <= MAX_ADDRESSES
        assert device.proven <= device.claims.keys()
        assert all(devices._holders[address] == mac for address in device.proven)
    for name, mac in devices._name_holders.items():
        assert everyone[mac].name == name


@pytest.mark.parametrize("seed", range(8))
def test_who_has_what_stays_consistent(seed: int):
    dice, now_us, moved = random.Random(seed), 0, 0
    devices = Devices(home=HomeNets())

    for turn in range(1_500):
        now_us += dice.choice(STEPS_US[: 5 if dice.random() < 0.98 else 7])
        frame = some_frame(dice)
        for _ in range(dice.choice((1, 1, 4))):
            devices.observe(frame, now_us)
            now_us += 10 * SECOND
        if dice.random() < 0.1:
            devices.missed(1, now_us)
        moved += len(devices.moves(now_us))
        if turn % 100 == 99:
            devices.forget(dice.choice((MACS[0], "192.168.1.7")))
            check(devices)
            state, devices = devices.state(), Devices(home=HomeNets(), own=[at("192.168.1.1")])
            devices.restore(state, now_us)
        check(devices)

    assert devices.counts().settled
    assert moved
