"""Records grouped by monitored device: which windows are due, their rows, values and labels.

A window is a list of rows, oldest first. The trap: a row's context counts are taken at the end of the tick in which
its record came, and stay as they were then.
"""

import ipaddress
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.oracle.columns import NAMES
from tests.oracle.meter import Record
from tests.oracle.packet import ICMP, ICMPV6, TCP, UDP

HOME_NETS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
AFTER, EXCLUDED, BENIGN = -2, -1, 0
TICK_US = 50_000
LATE_TICKS = 60_000_000 // TICK_US
ROWS = 16
REMEMBERED_RECORDS = 512
UNHEARD_RECORDS = 5
HORIZONS_US = (10_000_000, 60_000_000)
PORTS = {
    "remote_admin": (21, 22, 23, 2222, 2323, 3389, 5555, 5900),
    "web": (80, 443, 8000, 8008, 8080, 8081, 8443, 8888),
    "infrastructure": (53, 67, 68, 123, 137, 138, 161, 162, 514, 1900, 5353, 5355),
    "mqtt": (1883, 8883),
    "industrial": (102, 502, 4840, 20000, 44818, 47808, 5683, 5684),
    "other_system": range(1024),
    "registered": range(1024, 49152),
    "dynamic": range(49152, 65536),
}


@dataclass
class Row:
    """One record in a device's window."""

    record: Record
    peer: bytes
    is_initiator: bool
    log_gap: float
    repeats: int = 1
    held_labels: frozenset[int] = frozenset()
    """Its own label and those of the records folded into it."""
    is_new: bool = True
    counts: tuple[int, ...] = ()

    @property
    def group(self) -> Hashable:
        """What at most a quarter of a window may share."""
        return self.peer, self.record.dst_port, self.record.proto


@dataclass
class Window:
    """One due window."""

    device: bytes
    due_us: int
    label: int
    flows: list[Hashable]
    repeats: list[int]
    is_new: list[bool]
    values: list[list[float]]


class HomeNets:
    """Which addresses are a monitored device's."""

    def __init__(self, networks: Iterable[str]) -> None:
        self.networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, packed: bytes) -> bool:
        parsed = ipaddress.IPv6Address(packed)
        address = parsed.ipv4_mapped or parsed
        return any(address in network for network in self.networks if network.version == address.version)


class Device:
    """The rows and the recent records of one device."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.recent: list[tuple[int, Row]] = []
        self.last_left_us: int | None = None
        self.new_attack = BENIGN
        self.is_heard = False
        self.knocks = 0

    @property
    def is_somebody(self) -> bool:
        """Whether it spoke, was spoken to from outside, or got several records."""
        return self.is_heard or self.knocks >= UNHEARD_RECORDS

    def add(self, record: Record, *, is_initiator: bool, peer_is_home: bool) -> None:
        """Put one record at the end of the rows: replace its flow's, fold what is too many of its group."""
        if is_initiator or not peer_is_home or record.bwd_packets:
            self.is_heard = True
        if not self.is_heard:
            self.knocks = min(self.knocks + 1, UNHEARD_RECORDS)
        gap_s = 0.0 if self.last_left_us is None else max(0, record.left_us - self.last_left_us) / 1e6
        self.last_left_us = record.left_us
        peer = record.dst if is_initiator else record.src
        row = Row(record, peer, is_initiator, math.log1p(gap_s), held_labels=frozenset({record.label}))
        for earlier in [row_ for row_ in self.rows if row_.record.number == record.number]:
            self.rows.remove(earlier)
            row.repeats = earlier.repeats
            row.held_labels |= earlier.held_labels - {earlier.record.label}
        self.rows.append(row)
        group = [row_ for row_ in self.rows if row_.group == row.group]
        if len(group) > ROWS // 4:
            self.rows.remove(group[0])
            row.repeats += group[0].repeats
            row.held_labels |= group[0].held_labels
        del self.rows[:-ROWS]
        self.recent = [*self.recent, (record.left_us, row)][-REMEMBERED_RECORDS:]
        if record.label > BENIGN:
            self.new_attack = record.label

    def due(self, device: bytes, due_us: int, home: HomeNets) -> Window:
        """Return the window as it stands at the end of a tick; its records are new no longer."""
        counts = self.counts(due_us)
        for row in self.rows:
            if row.is_new:
                row.counts = counts
        held = frozenset().union(*(row.held_labels for row in self.rows))
        label = self.new_attack
        if label == BENIGN and max(held) > BENIGN:
            label = AFTER
        elif label == BENIGN and EXCLUDED in held:
            label = EXCLUDED
        window = Window(
            device,
            due_us,
            label,
            [row.record.number for row in self.rows],
            [row.repeats for row in self.rows],
            [row.is_new for row in self.rows],
            [row_values(row, home) for row in self.rows],
        )
        self.new_attack = BENIGN
        for row in self.rows:
            row.is_new = False
        return window

    def absorb(self, earlier: "Device") -> None:
        """Become one device with another: rows by time, then what a window may not hold folds or leaves."""
        rows: list[Row] = []
        for row in reversed(by_time(earlier.rows, self.rows, lambda row: row.record.left_us)):
            twin = next((later for later in rows if later.record.number == row.record.number), None)
            if twin is None:
                rows.append(row)
            else:
                twin.repeats = max(twin.repeats, row.repeats)
                twin.held_labels |= row.held_labels
        kept: list[Row] = []  # newest first
        for row in rows:
            group = [later for later in kept if later.group == row.group]
            if len(group) < ROWS // 4:
                kept.append(row)
            else:
                group[0].repeats += row.repeats
                group[0].held_labels |= row.held_labels
        self.rows = kept[:ROWS][::-1]
        self.recent = by_time(earlier.recent, self.recent, lambda event: event[0])[-REMEMBERED_RECORDS:]
        times = [time for time in (earlier.last_left_us, self.last_left_us) if time is not None]
        self.last_left_us = max(times, default=None)
        self.new_attack = self.new_attack or earlier.new_attack
        self.is_heard = self.is_heard or earlier.is_heard
        self.knocks = max(self.knocks, earlier.knocks)

    def counts(self, now_us: int) -> tuple[int, ...]:
        """Return peers, ports, half-open and failed flows, each over 10 and 60 s; a flow by its latest record."""
        latest = {row.record.number: (left_us, row) for left_us, row in self.recent}
        within = [[row for left_us, row in latest.values() if left_us >= now_us - horizon] for horizon in HORIZONS_US]
        return tuple(
            count
            for what in (distinct_peers, distinct_ports, half_open_flows, failed_flows)
            for count in map(what, within)
        )


def distinct_peers(rows: list[Row]) -> int:
    """Addresses at the other end."""
    return len({row.peer for row in rows})


def distinct_ports(rows: list[Row]) -> int:
    """Responders' ports; protocols without ports have none."""
    return len({row.record.dst_port for row in rows if row.record.proto in (TCP, UDP)})


def half_open_flows(rows: list[Row]) -> int:
    """Flows of the initiator's SYNs alone."""
    return sum(row.record.half_open for row in rows)


def failed_flows(rows: list[Row]) -> int:
    """Flows the responder reset without having sent payload."""
    payload = NAMES.index("bwd_payload_bytes")
    return sum(row.record.bwd_rst and row.record.columns[payload] == 0 for row in rows)


def row_values(row: Row, home: HomeNets) -> list[float]:
    """Return the 76 columns without the raw port, then the context columns."""
    record = row.record
    has_ports = record.proto in (TCP, UDP)
    bucket = next(name for name, ports in PORTS.items() if record.dst_port in ports) if has_ports else None
    return [
        *record.columns[1:],
        *(float(name == bucket) for name in PORTS),
        record.proto == TCP,
        record.proto == UDP,
        record.proto in (ICMP, ICMPV6),
        row.is_initiator,
        row.peer in home and not record.group,  # a group is no device
        record.fwd_rst,
        record.bwd_rst,
        record.partial,
        row.log_gap,
        row.repeats,
        *row.counts,
    ]


def by_time(earlier: list[Any], later: list[Any], time_of: Callable[[Any], int]) -> list[Any]:
    """Interleave two lists, each in an order of its own: the smaller head first, at a tie the earlier list's."""
    left, right, merged = list(earlier), list(later), []
    while left or right:
        from_left = not right or (left and time_of(left[0]) <= time_of(right[0]))
        merged.append((left if from_left else right).pop(0))
    return merged


def moved(devices: dict[bytes, Device], waiting: dict[bytes, Device], old: bytes, new: bytes) -> dict[bytes, Device]:
    """Give the device at `old` to `new`; return who is waiting, in the same order but for who became one."""
    if old not in devices:
        return waiting
    mover = devices.pop(old)
    if new not in devices:
        devices[new] = mover
        return {new if address == old else address: device for address, device in waiting.items()}
    devices[new].absorb(mover)
    order = [address for address in waiting if address != old or new not in waiting]
    return {new if address == old else address: devices[new if address == old else address] for address in order}


def device_windows(
    records: Iterable[Record],
    home_nets: Iterable[str] = HOME_NETS,
    moves: Mapping[int, tuple[bytes, bytes]] | None = None,
) -> Iterator[Window]:
    """Yield every due window, by tick, then by the device's first new record in it that makes it one.

    As for packets, time does not step back by up to a minute: a record that left earlier than the one before it (a
    late packet's flow) counts for the current tick. A larger step back is a clock that was set.

    `moves` says before which record a device goes from one address to another.
    """
    home, devices = HomeNets(home_nets), {}
    tick, waiting = None, {}
    for place, record in enumerate(records):
        if moves and place in moves:
            waiting = moved(devices, waiting, *moves[place])
        its_tick = record.left_us // TICK_US
        if tick is not None and 0 < tick - its_tick <= LATE_TICKS:
            its_tick = tick
        if tick is not None and its_tick != tick:
            yield from due_windows(waiting, (tick + 1) * TICK_US, home)
            waiting = {}
        tick = its_tick
        for address, is_initiator in ends_at_home(record, home):
            device = devices.setdefault(address, Device())
            peer = record.dst if is_initiator else record.src
            device.add(record, is_initiator=is_initiator, peer_is_home=peer in home and not record.group)
            if device.is_somebody:
                waiting[address] = device
    if tick is not None:
        yield from due_windows(waiting, (tick + 1) * TICK_US, home)


def due_windows(waiting: dict[bytes, Device], due_us: int, home: HomeNets) -> Iterator[Window]:
    """Yield the windows of the devices that a record reached in this tick."""
    for address, device in waiting.items():
        yield device.due(address, due_us, home)


def ends_at_home(record: Record, home: HomeNets) -> Iterator[tuple[bytes, bool]]:
    """Yield (address, whether it is the initiator) of each end that is a device; what a group receives has one end."""
    if record.src in home:
        yield record.src, True
    if record.dst in home and record.dst != record.src and not record.group:
        yield record.dst, False
