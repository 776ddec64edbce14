"""Incident updates in the words of the alert."""

from __future__ import annotations

import dataclasses

import pytest

from agent.alerts import AlertWriter
from contracts.alert import Alert
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from flowfeatures import DEFAULT_HOME_NETS, HomeNets, community_id
from tests.detection.windows import (
    CAMERA,
    OUTSIDE,
    PHONE,
    T0_US,
    LegibleEngine,
    Row,
    Window,
    batch_of,
    make_bundle,
    make_manifest,
)

WRITER = AlertWriter(make_manifest(), gateway="cellar", home=HomeNets(DEFAULT_HOME_NETS))


def update_of(src: str = OUTSIDE, dst: str = CAMERA, *, score: float = 0.75, **row) -> IncidentUpdate:
    batch = batch_of(Window(CAMERA, [Row(src, dst, {"scan": score}, **row)]))
    batch.flows["end_reason"] = 3
    (update,) = Detector(make_bundle(), LegibleEngine()).add(batch)
    return update


def changed_flow(update: IncidentUpdate, **fields: int) -> IncidentUpdate:
    flow = update.parties.flow.copy()
    for name, value in fields.items():
        flow[name] = value
    return dataclasses.replace(update, parties=dataclasses.replace(update.parties, flow=flow))


def test_an_alert_says_what_the_update_says():
    update = update_of()

    alert = WRITER.alert(update)

    assert (alert.src_ip, alert.src_port, alert.dest_ip, alert.dest_port) == (OUTSIDE, 40_000, CAMERA, 23)
    assert (alert.host, alert.device.ip, alert.attack_class, alert.proto) == ("cellar", CAMERA, "scan", "TCP")
    assert (alert.model, alert.version, alert.update, alert.state) == ("gru", 1, 0, "open")
    assert (alert.alert_id, alert.incident_id) == (update.alert_id, update.incident_id)
    assert (alert.score, alert.threshold, alert.severity, alert.spoofable) == (0.75, 0.5, 2, True)
    assert alert.community_id == community_id(update.parties.flow)
    assert alert.columns == (("fwd_packets", 0.75),)


def test_its_time_is_that_of_the_flows_last_packet():
    alert = WRITER.alert(update_of(end_us=T0_US + 7))

    assert (alert.timestamp_us, alert.flow.end_us) == (T0_US + 7, T0_US + 7)


@pytest.mark.parametrize(
    ("src", "dst", "direction"),
    [
        (OUTSIDE, CAMERA, "inbound"),
        (CAMERA, OUTSIDE, "outbound"),
        (CAMERA, PHONE, "internal"),
        (PHONE, CAMERA, "internal"),
    ],
)
def test_the_direction_is_seen_from_home(src: str, dst: str, direction: str):
    alert = WRITER.alert(update_of(src, dst))

    assert alert.direction == direction
    assert alert.kind.signature_id(inside=alert.inside) == (9_000_001 if direction == "inbound" else 9_000_101)


def test_a_protocol_without_ports_has_none():
    alert = WRITER.alert(changed_flow(update_of(), proto=1))

    assert (alert.proto, alert.src_port, alert.dest_port) == ("ICMP", None, None)


def test_a_flow_that_still_lives_has_no_end_reason():
    assert WRITER.alert(changed_flow(update_of(), end_reason=0)).flow.reason is None
    assert WRITER.alert(update_of()).flow.reason == "end_of_flow"


@pytest.mark.parametrize("time_us", [-1, 2**62])
def test_a_time_no_calendar_has_is_brought_to_the_nearest_it_has(time_us: int):
    alert = WRITER.alert(changed_flow(update_of(), end_us=time_us))

    assert isinstance(alert, Alert)


def test_a_score_that_overshoots_in_its_last_bit_is_1():
    assert WRITER.alert(dataclasses.replace(update_of(), score=1.0000001)).score == 1.0


def test_the_last_message_says_closed():
    detector = Detector(make_bundle(), LegibleEngine())
    detector.add(batch_of(Window(CAMERA, [Row(OUTSIDE, CAMERA, {"scan": 0.75})])))

    (update,) = detector.close()

    assert (WRITER.alert(update).state, WRITER.alert(update).update) == ("closed", 1)


def test_an_attacker_that_was_answered_is_the_source_and_its_port_goes_with_it():
    update = update_of()
    parties = update.parties
    swapped = dataclasses.replace(parties, attacker=parties.victim, victim=parties.attacker)

    alert = WRITER.alert(dataclasses.replace(update, parties=swapped))

    assert (alert.src_ip, alert.src_port, alert.dest_ip, alert.dest_port) == (CAMERA, 23, OUTSIDE, 40_000)
    assert not alert.flow.src_is_initiator


@dataclasses.dataclass
class Known:
    mac: str | None = None
    name: str | None = None


def writer(**options) -> AlertWriter:
    return AlertWriter(make_manifest(), gateway="cellar", home=HomeNets(DEFAULT_HOME_NETS), **options)


def test_live_an_alert_names_the_device_and_the_interface_and_doubts_the_clock():
    asked = []

    def names(address: bytes) -> Known:
        asked.append(address)
        return Known("02:00:00:00:00:AB", "cam")

    update = update_of()
    alert = writer(names=names, interface_of=lambda flow: f"eth{flow['dst_port']}", clock=lambda: False).alert(update)

    assert (alert.device.ip, alert.device.mac, alert.device.name) == (CAMERA, "02:00:00:00:00:ab", "cam")
    assert asked == [update.device]
    assert (alert.in_iface, alert.clock) == ("eth23", "unsynchronised")


def test_in_replay_a_device_is_its_address_and_time_is_packet_time():
    alert = WRITER.alert(update_of())

    assert (alert.device.mac, alert.device.name, alert.in_iface, alert.clock) == (None, None, None, "synchronised")


@pytest.mark.parametrize(
    ("known", "mac", "name"),
    [
        (None, None, None),
        (Known(), None, None),
        (Known("", ""), None, None),
        (Known("02:00:00:00:00:ab\n", "a\nb\0"), None, "a\nb\0"),
        (Known("not a mac", "n" * 5_000), None, "n" * 1_024),
        (Known(None, "half \ud83d a pair"), None, "half ? a pair"),
    ],
)
def test_what_the_network_calls_a_device_never_stops_an_alert(known, mac, name):
    alert = writer(names=lambda _: known).alert(update_of())

    assert (alert.device.mac, alert.device.name) == (mac, name)


@pytest.mark.parametrize(
    ("interface", "shown"), [(None, None), ("wlan0", "wlan0"), ("", None), ("a b", None), ("x" * 16, None)]
)
def test_an_interface_that_cannot_be_one_is_left_out(interface, shown):
    assert writer(interface_of=lambda _: interface).alert(update_of()).in_iface == shown
