"""Several interfaces as one source: none waits for another, a flow on two of them counts once, clocks may be set."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from agent.capture.lag import MOST_US
from agent.capture.patient import PatientSource
from agent.capture.several import CLOCK_STEP_US, Point, Several
from agent.capture.source import CaptureSettings
from flowfeatures import FlowMeter, FlowSettings
from tests.capture.test_live import Script, syn
from tests.capture.wire import GUARD_S, Wire, datagrams, ip
from tests.flowfeatures.packets import START_US
from tests.flowfeatures.ring_memory import Forged

# A block is taken every 20 ms, be it ever so empty: so many last while a sender beside us stands still now and then.
LASTING = {"block_bytes": 1 << 16, "block_count": 256}


class Scripted(Script):
    """A script whose frames need no waiting for."""

    descriptor = None

    def heed_error(self) -> None: ...

    def close(self) -> None: ...


class Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall_us, self.steady_us = START_US, 0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def several(clocks: Clocks, *scripts: Scripted, settings: FlowSettings | None = None) -> Several:
    points = [
        Point(interface=f"wire{number}", source=script, meter=FlowMeter(settings))
        for number, script in enumerate(scripts)
    ]
    return Several(points, now_us=lambda: clocks.wall_us, steady_us=lambda: clocks.steady_us)


def flow(port: int, *, packets: int, start_us: int = START_US) -> list[Forged]:
    return [syn(start_us + number, port) for number in range(packets)]


def test_every_interface_has_a_flow_table_of_its_own(clocks: Clocks):
    interfaces = several(clocks, Scripted(flow(80, packets=3)), Scripted(flow(81, packets=5)))

    list(interfaces.round(0.0))
    left = np.concatenate(list(interfaces.finish()))

    assert sorted(zip(left["dst_port"].tolist(), left["fwd_packets"].tolist(), strict=True)) == [(80, 3), (81, 5)]
    assert [point.accounting().check() for point in interfaces.points] == [[], []]


def test_a_flow_on_two_interfaces_leaves_one_record_with_its_own_packets(clocks: Clocks):
    same = flow(80, packets=6)
    interfaces = several(clocks, Scripted(same), Scripted([syn(each.ts_us + 30, 80) for each in same]))

    list(interfaces.round(0.0))
    left = np.concatenate(list(interfaces.finish()))

    assert left["fwd_packets"].tolist() == [6]
    assert interfaces.interface_of(left[0]) == "wire0"
    assert interfaces.twins.taken_away == 1


def test_time_is_that_of_the_slowest_interface(clocks: Clocks):
    interfaces = several(clocks, Scripted(START_US + 9), Scripted(START_US + 5))

    list(interfaces.round(0.0))

    assert interfaces.clock_us == START_US + 5


def test_a_flow_on_a_quiet_interface_leaves_while_another_is_busy(clocks: Clocks):
    late_us = START_US + 10**8
    quiet = Scripted(flow(80, packets=1), late_us)
    busy = Scripted(flow(81, packets=1), flow(82, packets=1, start_us=late_us))
    interfaces = several(clocks, quiet, busy)

    left = [record for records in interfaces.round(0.0) for record in records["dst_port"].tolist()]

    assert left == [80, 81]


def test_a_flood_on_one_interface_does_not_keep_the_others_waiting(clocks: Clocks):
    flood = Scripted(*(flow(80, packets=1) for _ in range(1000)))
    interfaces = several(clocks, flood, Scripted(flow(81, packets=1)))

    list(interfaces.round(0.0))

    assert interfaces.points[1].meter.counters["packets"] == 1
    assert interfaces.points[0].meter.counters["packets"] < 1000


def test_packets_older_than_the_lag_allows_are_shed_counted_and_make_room_for_newer_ones(clocks: Clocks):
    old = [flow(80 + number, packets=10, start_us=START_US) for number in range(4)]
    new = flow(90, packets=3, start_us=START_US + MOST_US)
    interfaces = several(clocks, Scripted(*old, new))
    clocks.wall_us = START_US + MOST_US + 10

    list(interfaces.round(0.0))
    left = np.concatenate(list(interfaces.finish()))

    assert left["dst_port"].tolist() == [90]
    (point,) = interfaces.points
    assert point.meter.counters["shed_packets"] == 40
    assert point.accounting().check() == []


def test_a_short_stall_sheds_nothing(clocks: Clocks):
    interfaces = several(clocks, Scripted(flow(80, packets=10)))
    clocks.wall_us = START_US + MOST_US

    list(interfaces.round(0.0))

    assert interfaces.points[0].meter.counters["shed_packets"] == 0


@pytest.mark.parametrize("step_us", [-3_600_000_000, 3_600_000_000])
def test_a_clock_that_was_set_is_noticed_once_and_every_flow_begins_anew(clocks: Clocks, step_us: int):
    interfaces = several(clocks, Scripted(flow(80, packets=1)))
    list(interfaces.round(0.0))
    clocks.wall_us += step_us

    was_set = [interfaces.was_clock_set(), interfaces.was_clock_set()]
    left = np.concatenate(list(interfaces.begin_anew()))

    assert was_set == [True, False]
    assert left["dst_port"].tolist() == [80]
    assert interfaces.points[0].meter.counters["live_flows"] == 0


def test_time_that_passes_and_a_clock_corrected_by_less_than_a_minute_are_no_step(clocks: Clocks):
    interfaces = several(clocks, Scripted())
    clocks.wall_us += 10**12
    clocks.steady_us += 10**12 - CLOCK_STEP_US

    assert not interfaces.was_clock_set()
    assert interfaces.clock_steps == 0


# -- on wires -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bridge(wire: Wire) -> Wire:
    """A bridge br0 at the near end, with the wire as its port."""
    ip("-n", wire.near, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    ip("-n", wire.near, "link", "set", "br0", "up")
    ip("-n", wire.near, "link", "set", "eth0", "master", "br0")
    return wire


@pytest.fixture(autouse=True)
def _bridges_take_any_checksum(request: pytest.FixtureRequest) -> None:
    """Packets of tests carry none; where br_netfilter is loaded, a bridge would drop them."""
    setting = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if "wire" in request.fixturenames and request.getfixturevalue("wire") and setting.exists():
        setting.write_text("0")


def opened(*names: str) -> Several:
    points = [
        Point(interface=name, source=PatientSource(CaptureSettings(interface=name, **LASTING)), meter=FlowMeter())
        for name in names
    ]
    return Several(points)


def heard(interfaces: Several, packets: int) -> list[np.ndarray]:
    """Read until every interface has seen so many packets; the guard only ends a test that would hang."""
    records, until_s = [], time.monotonic() + GUARD_S
    while time.monotonic() < until_s:
        records += interfaces.round(0.05)
        if all(point.meter.counters["packets"] >= packets for point in interfaces.points):
            break
    return records


@pytest.mark.needs_root
def test_what_crosses_a_bridge_and_its_port_counts_once(bridge: Wire):
    with opened("br0", "eth0") as interfaces:
        bridge.send(datagrams(200, flows=20))
        records = heard(interfaces, 200) + list(interfaces.finish())
        accounts = [point.accounting() for point in interfaces.points]

    left = np.concatenate(records)
    assert left["fwd_packets"].sum() == 200
    assert interfaces.twins.taken_away == 20
    assert [each.check() for each in accounts] == [[], []]
    assert [each.kernel.read for each in accounts] == [200, 200]


@pytest.mark.needs_root
def test_a_bridge_that_is_not_there_yet_is_taken_up_when_it_comes(wire: Wire):
    with opened("eth0", "br0") as interfaces:
        wire.send(datagrams(50))
        until_s = time.monotonic() + GUARD_S
        while interfaces.points[0].meter.counters["packets"] < 50 and time.monotonic() < until_s:
            list(interfaces.round(0.05))
        before = interfaces.points[1].source.is_open
        ip("-n", wire.near, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", wire.near, "link", "set", "br0", "up")
        ip("-n", wire.near, "link", "set", "eth0", "master", "br0")
        while not interfaces.points[1].source.is_open and time.monotonic() < until_s:
            list(interfaces.round(0.05))
        while interfaces.points[1].meter.counters["packets"] < 50 and time.monotonic() < until_s:
            wire.send(datagrams(10))  # a bridge takes its time until it passes frames on
            list(interfaces.round(0.05))
        list(interfaces.finish())

    assert not before
    assert interfaces.points[1].meter.counters["packets"] >= 50
    assert [point.accounting().check() for point in interfaces.points] == [[], []]


@pytest.mark.needs_root
def test_a_link_that_goes_down_and_up_is_counted_and_does_not_spin(wire: Wire):
    with opened("eth0", "lo") as interfaces:
        ip("-n", wire.near, "link", "set", "eth0", "down")
        ip("-n", wire.near, "link", "set", "eth0", "up")
        ip("-n", wire.far, "link", "set", "eth0", "up")
        rounds, until_s = 0, time.monotonic() + 1.0
        while time.monotonic() < until_s:
            list(interfaces.round(0.05))
            rounds += 1
        wire.wait_for_carrier()
        wire.send(datagrams(10))
        until_s = time.monotonic() + GUARD_S
        while interfaces.points[0].meter.counters["packets"] < 10 and time.monotonic() < until_s:
            list(interfaces.round(0.05))
        downs = interfaces.points[0].source.report().link_downs

    assert downs >= 1
    assert rounds < 100
    assert interfaces.points[0].meter.counters["packets"] == 10


@pytest.mark.needs_root
def test_one_that_comes_back_as_another_kind_that_the_filter_does_not_fit_leaves_the_others_alone(
    wire: Wire, capsys: pytest.CaptureFixture[str]
):
    def filtered(name: str) -> Point:
        settings = CaptureSettings(interface=name, **LASTING, filter="not ether host 00:11:22:33:44:55")
        return Point(interface=name, source=PatientSource(settings), meter=FlowMeter())

    ip("-n", wire.near, "link", "add", "other", "type", "dummy")
    with Several([filtered("eth0"), filtered("other")]) as interfaces:
        ip("-n", wire.near, "link", "del", "other")
        ip("-n", wire.near, "tuntap", "add", "dev", "other", "mode", "tun")
        ip("-n", wire.near, "link", "set", "other", "up")
        until_s, said = time.monotonic() + GUARD_S, ""
        while "looked at again" not in said and time.monotonic() < until_s:
            list(interfaces.round(0.05))
            said += capsys.readouterr().err
        wire.send(datagrams(20))
        while interfaces.points[0].meter.counters["packets"] < 20 and time.monotonic() < until_s:
            list(interfaces.round(0.05))

    assert "the filter" in said
    assert interfaces.points[0].meter.counters["packets"] == 20
