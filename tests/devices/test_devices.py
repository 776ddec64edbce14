"""Who has which address: names, moves and takeovers, and what a forger can and cannot do about them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from agent.devices.devices import MAX_SETTLED, MAX_STRANGERS, Devices
from agent.devices.report import DeviceName, Move
from flowfeatures import HomeNets
from tests.devices.said import (
    CAMERA,
    CAMERA_IP,
    FORGER,
    HOUR,
    LAMP,
    LAMP_IP,
    MINUTE,
    OTHER_IP,
    SECOND,
    announced,
    arp,
    at,
    dhcp,
    neighbour,
)
from tests.flowfeatures.packets import mac_bytes


def some(**settings: object) -> Devices:
    return Devices(home=HomeNets(), **settings)


def repeat(devices: Devices, frame: bytes, *, first_us: int, last_us: int, every_us: int = 10 * SECOND) -> None:
    for now_us in range(first_us, last_us + 1, every_us):
        devices.observe(frame, now_us)


def settled(mac: str = LAMP, address: str = LAMP_IP) -> Devices:
    """Return devices of which one has claimed an address from 0 to 11 minutes."""
    devices = some()
    repeat(devices, arp(mac, address), first_us=0, last_us=11 * MINUTE)
    return devices


def moves(devices: Devices, now_us: int) -> list[tuple[bytes, bytes]]:
    return [(move.old, move.new) for move in devices.moves(now_us)]


LAMP_MOVED = [(at(LAMP_IP), at(OTHER_IP))]

# -- names --------------------------------------------------------------------------------------------------------


def test_an_address_has_the_name_its_device_gave_before_it_had_the_address():
    devices = some()
    devices.observe(dhcp(LAMP, name="lamp"), 0)

    devices.observe(dhcp(LAMP, kind=5, given=LAMP_IP, sender="02:00:00:00:00:01"), SECOND)

    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, "lamp")
    assert devices.named(at(CAMERA_IP)) is None


def test_a_device_without_a_name_has_its_mac():
    devices = some()
    devices.observe(neighbour(LAMP, 135, src="fe80::10"), 0)

    assert devices.named(at("fe80::10")) == DeviceName(LAMP, None)


def test_a_name_that_no_host_may_have_is_counted_and_the_rest_counts():
    devices = some()

    devices.observe(dhcp(LAMP, name="\x1b[2J", address=LAMP_IP), 0)

    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, None)
    assert devices.counts().refused == {"bad_name": 1}


def test_whoever_has_a_name_second_shows_it_with_half_of_its_mac():
    devices = some()
    devices.observe(announced(LAMP, LAMP_IP, "esp"), 0)

    devices.observe(announced(CAMERA, CAMERA_IP, "esp"), 1)

    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, "esp")
    assert devices.named(at(CAMERA_IP)) == DeviceName(CAMERA, "esp (00:00:20)")


def test_a_forged_name_does_not_take_the_place_of_one_that_is_still_said():
    devices = some()
    devices.observe(announced(LAMP, LAMP_IP, "lamp"), 0)

    for now_us in range(MINUTE, 5 * 24 * HOUR, 30 * MINUTE):
        devices.observe(dhcp(LAMP, name="evil"), now_us)
        if now_us % (12 * HOUR) == MINUTE:
            devices.observe(announced(LAMP, LAMP_IP, "lamp"), now_us)

    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, "lamp")
    assert devices.counts().renames == 0


def test_a_new_name_stands_once_it_alone_was_said_for_a_day():
    devices = some()
    devices.observe(announced(LAMP, LAMP_IP, "lamp"), 0)

    repeat(devices, announced(LAMP, LAMP_IP, "kitchen"), first_us=HOUR, last_us=25 * HOUR - 1, every_us=HOUR)
    before = devices.named(at(LAMP_IP))
    devices.observe(announced(LAMP, LAMP_IP, "kitchen"), 25 * HOUR)

    assert before == DeviceName(LAMP, "lamp")
    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, "kitchen")


# -- moves --------------------------------------------------------------------------------------------------------


def test_a_device_that_goes_on_at_another_address_has_moved():
    devices = settled()

    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=13 * MINUTE - 1)
    before = moves(devices, 13 * MINUTE - 1)
    moved = devices.moves(13 * MINUTE)

    assert before == []
    assert moved == [Move(old=at(LAMP_IP), new=at(OTHER_IP), mac=mac_bytes(LAMP))]
    assert moves(devices, 14 * MINUTE) == []
    assert (devices.named(at(LAMP_IP)), devices.named(at(OTHER_IP))) == (None, DeviceName(LAMP, None))


@pytest.mark.parametrize("said_us", [13 * MINUTE - 1, 12 * MINUTE + 1, 12 * MINUTE + 40 * SECOND])
def test_a_device_that_is_heard_at_its_old_address_has_not_moved(said_us: int):
    devices = settled()
    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=said_us)

    devices.observe(arp(LAMP, LAMP_IP), said_us)
    repeat(devices, arp(LAMP, OTHER_IP), first_us=said_us + 1, last_us=20 * MINUTE)

    assert moves(devices, 20 * MINUTE) == []


def test_two_claims_in_passing_move_nobody():
    devices = settled()

    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=12 * MINUTE + 19 * SECOND, every_us=SECOND)

    assert moves(devices, 20 * MINUTE) == []


def test_a_stranger_has_no_history_to_move():
    devices = some()
    repeat(devices, arp(LAMP, LAMP_IP), first_us=0, last_us=9 * MINUTE)

    repeat(devices, arp(LAMP, OTHER_IP), first_us=9 * MINUTE + 1, last_us=9 * MINUTE + 50 * SECOND)

    assert moves(devices, 11 * MINUTE) == []


def test_silence_while_frames_were_missed_is_none():
    devices = settled()
    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=12 * MINUTE + 50 * SECOND)

    devices.missed(1, 13 * MINUTE - 1)

    assert moves(devices, 14 * MINUTE - 2) == []
    assert moves(devices, 14 * MINUTE) == LAMP_MOVED


def test_an_objection_holds_a_move_up_and_after_an_hour_ends_it():
    devices = settled()
    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=14 * MINUTE)
    asked: list[tuple[bytes, bytes, bytes]] = []

    held_up = devices.moves(14 * MINUTE, lambda *named: asked.append(named) or "another MAC sends")
    ended = devices.moves(12 * MINUTE + HOUR + 1, lambda *_: "another MAC sends")

    assert asked == [(at(LAMP_IP), at(OTHER_IP), mac_bytes(LAMP))]
    assert [*held_up, *ended, *moves(devices, 2 * HOUR)] == []
    assert devices.counts().refused_moves == {"another MAC sends": 1}


def test_a_device_that_sends_its_first_flow_hours_after_it_moved_moves_then():
    devices = settled()

    for now_us in range(12 * MINUTE, 3 * HOUR, 5 * MINUTE):
        devices.observe(arp(LAMP, OTHER_IP), now_us)
        assert devices.moves(now_us, lambda *_: "new address never sent") == []

    assert devices.counts().refused_moves == {"new address never sent": 2}
    assert moves(devices, 3 * HOUR) == LAMP_MOVED


def test_a_device_rests_between_two_moves():
    devices = settled()
    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=13 * MINUTE)
    first = moves(devices, 13 * MINUTE)
    repeat(devices, arp(LAMP, "192.168.1.78"), first_us=14 * MINUTE, last_us=23 * MINUTE)

    assert first == LAMP_MOVED
    assert moves(devices, 23 * MINUTE - 1) == []
    assert moves(devices, 23 * MINUTE) == [(at(OTHER_IP), at("192.168.1.78"))]


def test_an_ipv6_address_of_several_moves_only_where_it_is_plain_which_one_was_left():
    stable, first, second = "fd00::1", "fd00::aaaa", "fd00::bbbb"
    devices = settled()
    for address in (stable, first):
        repeat(devices, neighbour(LAMP, 135, src=address), first_us=12 * MINUTE, last_us=80 * MINUTE, every_us=MINUTE)
    repeat(devices, neighbour(LAMP, 135, src=second), first_us=81 * MINUTE, last_us=83 * MINUTE)

    before = moves(devices, 83 * MINUTE)
    devices.observe(neighbour(LAMP, 135, src=stable), 84 * MINUTE)

    assert before == []
    assert moves(devices, 84 * MINUTE) == [(at(first), at(second))]


def test_addresses_a_forger_adds_in_a_devices_name_do_not_keep_it_from_moving():
    devices = settled()
    for number in range(3):
        repeat(devices, arp(LAMP, f"192.168.1.9{number}"), first_us=11 * MINUTE, last_us=12 * MINUTE)

    repeat(devices, arp(LAMP, OTHER_IP), first_us=13 * MINUTE, last_us=14 * MINUTE)

    assert moves(devices, 14 * MINUTE) == LAMP_MOVED


def test_an_address_claimed_in_vain_long_ago_can_be_moved_to():
    devices = settled()
    devices.observe(arp(LAMP, OTHER_IP), 11 * MINUTE)
    repeat(devices, arp(LAMP, LAMP_IP), first_us=12 * MINUTE, last_us=5 * HOUR, every_us=MINUTE)
    assert moves(devices, 5 * HOUR) == []

    repeat(devices, arp(LAMP, OTHER_IP), first_us=5 * HOUR + MINUTE, last_us=5 * HOUR + 2 * MINUTE)

    assert moves(devices, 5 * HOUR + 2 * MINUTE) == LAMP_MOVED


# -- forgers ------------------------------------------------------------------------------------------------------


def test_who_claims_an_address_in_use_gets_neither_name_nor_window():
    devices = settled()

    for now_us in range(11 * MINUTE, 40 * MINUTE, 10 * SECOND):
        devices.observe(arp(FORGER, LAMP_IP), now_us)
        devices.observe(arp(FORGER, "192.168.1.66"), now_us)
        if now_us % (5 * MINUTE) == 0:
            devices.observe(arp(LAMP, LAMP_IP), now_us)

    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, None)
    assert moves(devices, 40 * MINUTE) == []
    assert devices.takeovers() == []
    assert devices.counts().contested > 100


def test_a_forged_move_of_a_device_that_goes_on_speaking_is_none():
    devices = settled()

    for now_us in range(11 * MINUTE, 60 * MINUTE, SECOND):
        devices.observe(arp(LAMP, OTHER_IP), now_us)  # with the lamp's own MAC
        if now_us % (50 * SECOND) == 0:
            devices.observe(arp(LAMP, LAMP_IP), now_us)
        assert moves(devices, now_us) == []


def test_nobody_claims_an_address_of_the_gateway():
    devices = some(own=[at("192.168.1.1"), mac_bytes(CAMERA)])

    devices.observe(arp(FORGER, "192.168.1.1"), 0)
    devices.observe(arp(CAMERA, "192.168.1.1"), 0)

    assert devices.counts().refused == {"own_address": 1, "own": 1}
    assert devices.named(at("192.168.1.1")) is None


def test_addresses_outside_home_are_refused():
    devices = some()

    devices.observe(arp(FORGER, "203.0.113.5"), 0)

    assert devices.counts().refused == {"not_home": 1}
    assert devices.counts().devices == 0


def flood(make: Callable[[str, int], bytes], devices: Devices, *, now_us: int, count: int = 3_000) -> None:
    for number in range(count):
        devices.observe(make(f"02:aa:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}:01", number), now_us)


@pytest.mark.parametrize(
    "make",
    [
        lambda mac, number: arp(mac, f"10.0.{number >> 8}.{number & 255}"),
        lambda mac, number: dhcp(mac, name=f"n{number}", address=f"10.0.{number >> 8}.{number & 255}"),
        lambda mac, number: announced(mac, f"10.0.{number >> 8}.{number & 255}", f"n{number}"),
        lambda mac, number: neighbour(mac, 136, src="fe80::1", target=f"fd00::{number:x}"),
    ],
    ids=["arp", "dhcp", "mdns", "neighbours"],
)
def test_a_flood_of_strangers_turns_their_own_table_over_and_nobody_elses(make: Callable[[str, int], bytes]):
    devices = settled()
    devices.observe(dhcp(LAMP, name="lamp"), 11 * MINUTE)

    flood(make, devices, now_us=12 * MINUTE)

    facts = devices.counts()
    assert (facts.devices, facts.settled) == (MAX_STRANGERS + 1, 1)
    assert facts.addresses <= facts.devices
    assert facts.named <= facts.devices
    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, "lamp")
    assert len(devices._holders) + len(devices._name_holders) <= 2 * (MAX_STRANGERS + 1)


def test_one_mac_has_a_bounded_number_of_addresses():
    devices = settled()

    for number in range(5_000):
        devices.observe(arp(LAMP, f"10.0.{number >> 8}.{number & 255}"), 12 * MINUTE)

    assert devices.counts().addresses == 16
    assert devices.counts().refused == {"too_many_addresses": 5_000 - 15}
    assert devices.named(at(LAMP_IP)) == DeviceName(LAMP, None)


def test_a_full_house_keeps_who_was_there_first_for_a_day():
    devices = some()
    macs = [f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(MAX_SETTLED + 1)]
    for group in itertools.zip_longest(*[iter(macs)] * MAX_STRANGERS):
        for now_us in (0, 5 * MINUTE, 11 * MINUTE):
            for mac in filter(None, group):
                devices.observe(arp(mac, f"10.1.{int(mac[12:14], 16)}.{int(mac[15:17], 16)}"), now_us)

    full = devices.counts()
    for now_us in (24 * HOUR + 12 * MINUTE, 24 * HOUR + 13 * MINUTE):
        devices.observe(arp(macs[-1], "10.1.4.0"), now_us)

    assert (full.settled, full.no_room) == (MAX_SETTLED, 1)
    assert devices.counts().settled == MAX_SETTLED
    assert devices.named(at("10.1.4.0")) is not None
    assert devices.named(at("10.1.0.0")) is None


# -- proof --------------------------------------------------------------------------------------------------------


def test_a_mac_is_proven_for_the_address_it_settled_with_and_the_one_it_moved_to():
    devices = settled()
    before = devices.proven_mac(at(LAMP_IP)), devices.proven_mac(at(OTHER_IP))
    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=13 * MINUTE)
    meanwhile = devices.proven_mac(at(OTHER_IP))

    devices.moves(13 * MINUTE)

    assert before == (LAMP, None)
    assert meanwhile == ""
    assert (devices.proven_mac(at(LAMP_IP)), devices.proven_mac(at(OTHER_IP))) == (None, LAMP)


def test_a_forger_in_a_devices_name_proves_no_second_address_however_long_it_says_so():
    devices = settled()

    for now_us in range(11 * MINUTE, 5 * HOUR, 20 * SECOND):
        devices.observe(arp(LAMP, OTHER_IP), now_us)
        devices.observe(arp(LAMP, LAMP_IP), now_us)
        devices.moves(now_us)

    assert devices.proven_mac(at(OTHER_IP)) == ""
    assert devices.proven_mac(at(LAMP_IP)) == LAMP


def test_strangers_prove_nothing():
    devices = some()

    repeat(devices, arp(LAMP, LAMP_IP), first_us=0, last_us=10 * MINUTE - 1)

    assert devices.proven_mac(at(LAMP_IP)) == ""


def test_an_ipv6_address_beside_others_is_proven_after_an_hour():
    devices = settled()
    for address in ("fd00::1", "fd00::2"):
        repeat(devices, neighbour(LAMP, 135, src=address), first_us=12 * MINUTE, last_us=72 * MINUTE - 10 * SECOND)
    before = devices.proven_mac(at("fd00::2"))

    devices.observe(neighbour(LAMP, 135, src="fd00::2"), 72 * MINUTE)

    assert before == ""
    assert devices.proven_mac(at("fd00::2")) == LAMP


# -- takeovers ----------------------------------------------------------------------------------------------------


def test_an_address_goes_to_another_device_once_its_holder_was_silent_for_an_hour():
    devices = settled()
    repeat(devices, arp(CAMERA, LAMP_IP), first_us=11 * MINUTE + 10 * SECOND, last_us=71 * MINUTE - 1)
    before = devices.named(at(LAMP_IP))

    devices.observe(arp(CAMERA, LAMP_IP), 71 * MINUTE)

    assert before == DeviceName(LAMP, None)
    assert devices.named(at(LAMP_IP)) == DeviceName(CAMERA, None)
    assert devices.takeovers() == [at(LAMP_IP)]
    assert devices.takeovers() == []


def test_a_device_that_has_been_here_need_not_wait_for_a_stranger_on_its_address():
    devices = settled(CAMERA, CAMERA_IP)
    devices.observe(arp(FORGER, OTHER_IP), 12 * MINUTE)

    repeat(devices, arp(CAMERA, OTHER_IP), first_us=12 * MINUTE + 1, last_us=12 * MINUTE + 21 * SECOND)

    assert devices.named(at(OTHER_IP)) == DeviceName(CAMERA, None)


def test_a_device_that_was_given_anothers_old_address_moves_there_in_the_end():
    devices = settled()
    devices.observe(arp(CAMERA, OTHER_IP), 11 * MINUTE)

    repeat(devices, arp(LAMP, OTHER_IP), first_us=12 * MINUTE, last_us=12 * MINUTE + 30 * SECOND)
    repeat(devices, arp(LAMP, OTHER_IP), first_us=13 * MINUTE, last_us=14 * MINUTE)

    assert devices.takeovers() == [at(OTHER_IP)]
    assert moves(devices, 14 * MINUTE) == LAMP_MOVED


# -- over a restart -----------------------------------------------------------------------------------------------


def test_settled_devices_outlive_a_restart_and_move_afterwards():
    before = settled()
    before.observe(dhcp(LAMP, name="lamp"), 11 * MINUTE)
    before.observe(arp(FORGER, CAMERA_IP), 11 * MINUTE)
    before.observe(arp(LAMP, OTHER_IP), 11 * MINUTE)
    saved = json.loads(json.dumps(before.state()))

    after = some()
    after.restore(saved, 5)

    assert after.named(at(LAMP_IP)) == DeviceName(LAMP, "lamp")
    assert after.proven_mac(at(LAMP_IP)) == LAMP
    assert after.named(at(CAMERA_IP)) is after.named(at(OTHER_IP)) is None
    repeat(after, arp(LAMP, OTHER_IP), first_us=MINUTE, last_us=2 * MINUTE)
    assert moves(after, 2 * MINUTE) == LAMP_MOVED


ROW = {"mac": LAMP, "name": "lamp", "addresses": [LAMP_IP], "wishes": "01", "is_settled": True}


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"version": 2, "devices": []},
        {"version": 1, "devices": {}},
        {"version": 1, "devices": [7]},
        {"version": 1, "devices": [{}]},
        {"version": 1, "devices": [ROW, ROW]},
        *({"version": 1, "devices": [{**ROW, name: 5}]} for name in ("mac", "name", "addresses", "wishes")),
        {"version": 1, "devices": [{**ROW, "mac": "02:00"}]},
        {"version": 1, "devices": [{**ROW, "addresses": ["here"]}]},
        {"version": 1, "devices": [{**ROW, "more": 1}]},
    ],
)
def test_a_state_that_is_none_is_refused_and_changes_nothing(state: object):
    devices = some()

    with pytest.raises(ValueError):  # noqa: PT011  # each with words of its own
        devices.restore(state, 0)

    assert devices.counts().devices == 0


def test_a_device_is_forgotten_by_mac_or_address():
    devices = settled()

    assert not devices.forget(CAMERA)
    assert devices.forget(LAMP_IP)
    assert devices.named(at(LAMP_IP)) is None
    assert devices.list() == []
