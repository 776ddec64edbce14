"""Packets in, records out: the flow table, its clock and its deadlines.

The clock is the time of decoded packets. It never steps back by up to 60 s (a late packet leaves it); a larger step
back sets it back. Before a packet is added, everything due before the clock leaves, ordered by (due time, arrival).
A table that was found full is in an emergency until it has emptied to seven tenths; idle times are short meanwhile.
The trap: a deadline passes strictly, so a packet exactly on it still belongs to the flow.
"""

import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.oracle.columns import columns
from tests.oracle.flow import BWD, FWD, Flow
from tests.oracle.packet import SUPER_FRAME_ABOVE_BYTES, SYN, TCP, Packet, Undecoded, decode
from tests.oracle.ranks import Ranks
from tests.oracle.reader import Frame

PARTIAL, IDLE, ACTIVE, END_OF_FLOW, FORCED, NO_ROOM = range(6)
DROP = -1  # a cut entry that no packet came back to: leaves without a record
PARTIAL_AFTER_PACKETS = (8, 64, 512)
CLOCK_RESET_US = 60_000_000
SMALLEST_TABLE_WITH_EMERGENCY = 10
EMERGENCY_IDLE_US = 5_000_000
EMERGENCY_HALF_OPEN_US = 1_000_000


@dataclass(frozen=True)
class Settings:
    """The four timeouts, and what else changes the segmentation."""

    active_timeout_s: float = 120.0
    tcp_idle_timeout_s: float = 60.0
    other_idle_timeout_s: float = 15.0
    half_open_timeout_s: float = 5.0
    linger_s: float = 0.25
    partials: bool = False
    vlan_in_key: bool = False
    max_flows: int = 65_536


WTMC = Settings(
    active_timeout_s=120, tcp_idle_timeout_s=120, other_idle_timeout_s=120, half_open_timeout_s=120, linger_s=math.inf
)


@dataclass
class Record:
    """One record, named as the engine names its fields; `number` tells flow ids apart."""

    number: Hashable
    start_us: int
    end_us: int
    left_us: int
    fwd_wire_bytes: int
    bwd_wire_bytes: int
    fwd_packets: int
    bwd_packets: int
    segment: int
    src: bytes
    dst: bytes
    src_port: int
    dst_port: int
    vlan: tuple[int, int]
    src_mac: bytes
    dst_mac: bytes
    proto: int
    ip_version: int
    end_reason: int
    partial: bool
    half_open: bool
    handshake: bool
    group: bool
    fwd_rst: bool
    bwd_rst: bool
    packet_label: int
    columns: list[float]
    label: int = 0


@dataclass
class Counts:
    """What the meter has seen."""

    packets: int = 0
    decoded: int = 0
    undecoded: Counter[str] = field(default_factory=Counter)
    super_frames: int = 0
    flows: int = 0
    records: int = 0
    partial_records: int = 0
    evicted_flows: int = 0
    emergencies: int = 0


def partial_due_us(number: int) -> int:
    """Return the age at which the n-th partial record (from 0) is due: 0.25, 1, 5, 35, 65, ... s."""
    first = (250_000, 1_000_000, 5_000_000)
    return first[number] if number < len(first) else first[-1] + 30_000_000 * (number - 2)


def microseconds(seconds: float) -> float:
    """Return an integer, or infinity: a float would lose the last digits of a time beyond the year 2255."""
    return seconds if math.isinf(seconds) else round(seconds * 1_000_000)


class Meter:
    """Flow table of one observation point."""

    def __init__(self, settings: Settings = Settings()) -> None:
        self.settings = settings
        self.counts = Counts()
        self.clock: int | None = None
        self.emergency_us: int | None = None
        """When the emergency that lasts began; None where there is none."""
        self._flows: OrderedDict[tuple, Flow] = OrderedDict()
        self._ranks = Ranks()
        self._due: list[tuple[float, int, int, tuple, Flow]] = []
        self._pushes = 0

    @property
    def live_flows(self) -> int:
        """Flows that hold packets no final record has told of."""
        return sum(flow.counters is not None for flow in self._flows.values())

    def read(self, frames: Iterable[Frame], packet_labels: Sequence[int] = ()) -> Iterator[Record]:
        """Yield the records that leave while these frames pass; may be called again for the next capture."""
        for number, frame in enumerate(frames, start=1):
            self.counts.packets += 1
            try:
                packet = decode(frame)
            except Undecoded as reason:
                self.counts.undecoded[str(reason)] += 1
                continue
            self.counts.decoded += 1
            self.counts.super_frames += packet.ip_bytes > SUPER_FRAME_ABOVE_BYTES
            label = packet_labels[number] if number < len(packet_labels) else 0
            yield from self.add(packet, label=label)

    def add(self, packet: Packet, *, label: int = 0) -> Iterator[Record]:
        """Account one packet; yield what leaves before and because of it."""
        if self.clock is not None and self.clock - packet.ts > CLOCK_RESET_US:
            yield from self._expire()  # what the clock has passed has ended, whoever looked and whoever did not
            self.clock = packet.ts
        if self.clock is None or packet.ts > self.clock:
            self.clock = packet.ts
        yield from self._expire()
        key = self._key(packet)
        flow = self._flows.get(key)
        if flow is not None and flow.counters is not None and flow.tcp.state == 3 and packet.flags & SYN:
            yield self._end(key, flow, reason=END_OF_FLOW, left_us=self.clock)
            flow = None
        if flow is None:
            yield from self._make_room()
            self.counts.flows += 1
            flow = self._flows[key] = Flow(packet, key=key, arrival=self.counts.flows)
            self._ranks.enter(flow, packet)
        elif flow.counters is None:
            flow.begin(packet.ts)
        flow.add(packet, label=label)
        self._ranks.after_packet(flow)
        self._schedule(key, flow)
        if self.settings.partials and flow.packets in PARTIAL_AFTER_PACKETS:
            yield self._record(flow, reason=PARTIAL, left_us=self.clock)

    def advance(self, now_us: int) -> Iterator[Record]:
        """Move the clock forward without a packet, never back; yield what was due before it."""
        if self.clock is None or now_us > self.clock:
            self.clock = now_us
        yield from self._expire()

    def flush(self) -> Iterator[Record]:
        """Yield what is due, then every live flow, in order of arrival."""
        if self.clock is None:
            return
        yield from self._expire()
        for key, flow in sorted(self._flows.items(), key=lambda item: item[1].arrival):
            if flow.counters is not None:
                yield self._end(key, flow, reason=END_OF_FLOW if flow.tcp.state == 3 else FORCED, left_us=self.clock)
            else:
                self._forget(key, flow)

    def _key(self, packet: Packet) -> tuple:
        ends = sorted([(packet.src, packet.src_port), (packet.dst, packet.dst_port)])
        return (*ends, packet.proto, packet.vlan if self.settings.vlan_in_key else None)

    def _idle_us(self, flow: Flow) -> float:
        settings = self.settings
        return microseconds(settings.tcp_idle_timeout_s if flow.proto == TCP else settings.other_idle_timeout_s)

    def _next_end(self, flow: Flow) -> tuple[float, int]:
        """Return (due time, reason) of the flow's deadline; on a tie the earlier in the specification's list."""
        counters = flow.counters
        if counters is None:
            return flow.cut_us + self._idle_us(flow), DROP
        ends = [
            (counters.start + microseconds(self.settings.active_timeout_s), ACTIVE),
            (self._silent_until(counters.last, self._idle_us(flow), EMERGENCY_IDLE_US), IDLE),
        ]
        if flow.is_half_open:
            half_open_us = microseconds(self.settings.half_open_timeout_s)
            ends.append((self._silent_until(counters.last, half_open_us, EMERGENCY_HALF_OPEN_US), IDLE))
        if flow.tcp.state == 3:
            ends.append((flow.tcp.closed_us + microseconds(self.settings.linger_s), END_OF_FLOW))
        return min(ends, key=lambda end: end[0])

    def _silent_until(self, last: int, timeout_us: float, in_emergency_us: int) -> float:
        """Return when a silence since `last` is over; what an emergency makes overdue is due when it begins."""
        ordinary = last + timeout_us
        if self.emergency_us is None:
            return ordinary
        return max(last + min(timeout_us, in_emergency_us), min(ordinary, self.emergency_us))

    def _next_due(self, flow: Flow) -> tuple[float, int]:
        """Return (due time, reason) of what comes next: the end, or a partial record strictly before it."""
        end = self._next_end(flow)
        if self.settings.partials and flow.counters is not None:
            partial = flow.counters.start + partial_due_us(flow.partials_by_time)
            if partial < end[0]:
                return partial, PARTIAL
        return end

    def _schedule(self, key: tuple, flow: Flow) -> None:
        """Put the flow's next due time on the heap, unless an earlier visit is already planned."""
        due, _ = self._next_due(flow)
        if due < flow.planned_visit_us:
            flow.planned_visit_us = due
            self._pushes += 1
            heapq.heappush(self._due, (due, flow.arrival, self._pushes, key, flow))

    def _expire(self) -> Iterator[Record]:
        """Yield everything due strictly before the clock."""
        while self._due and self._due[0][0] < self.clock:
            planned, _, _, key, flow = heapq.heappop(self._due)
            if self._flows.get(key) is not flow or flow.planned_visit_us != planned:
                continue
            flow.planned_visit_us = math.inf
            due, reason = self._next_due(flow)
            if due == planned:
                if reason == PARTIAL:
                    flow.partials_by_time += 1
                    yield self._record(flow, reason=PARTIAL, left_us=int(due))
                elif reason == ACTIVE:
                    yield self._cut(flow, left_us=int(due))
                elif reason == DROP:
                    self._forget(key, flow)
                    continue
                else:
                    yield self._end(key, flow, reason=reason, left_us=int(due))
                    continue
            self._schedule(key, flow)

    def _cut(self, flow: Flow, *, left_us: int) -> Record:
        """Emit the flow and keep its entry, empty, for a packet that continues its direction.

        The cut resets `last` with the other counters: the entry is remembered for the idle timeout from the cut on.
        Counted from the last packet, golden/pcaps/21 would lose its direction, which the specification says it keeps.
        """
        record = self._record(flow, reason=ACTIVE, left_us=left_us)
        flow.cut_us = left_us
        flow.counters = None
        self._ranks.leave(flow)
        return record

    def _end(self, key: tuple, flow: Flow, *, reason: int, left_us: int) -> Record:
        """Emit the flow and forget it."""
        self._forget(key, flow)
        return self._record(flow, reason=reason, left_us=left_us)

    def _forget(self, key: tuple, flow: Flow) -> None:
        """Take the entry out of the table, which may end the emergency: ordinary deadlines then hold again."""
        del self._flows[key]
        self._ranks.leave(flow)
        if len(self._flows) <= self.settings.max_flows * 7 // 10:
            self.emergency_us = None

    def _make_room(self) -> Iterator[Record]:
        """Where the table is full, evict one entry: the first by rank, else the oldest.

        An entry left empty by an active cut stands in no rank; it leaves without a record and is counted all the same.
        """
        if len(self._flows) < self.settings.max_flows:
            return
        if self.emergency_us is None and self.settings.max_flows >= SMALLEST_TABLE_WITH_EMERGENCY:
            self._begin_emergency()
        flow = self._ranks.first() or min(self._flows.values(), key=lambda entry: entry.arrival)
        self.counts.evicted_flows += 1
        if flow.counters is None:
            self._forget(flow.key, flow)
        else:
            yield self._end(flow.key, flow, reason=NO_ROOM, left_us=self.clock)

    def _begin_emergency(self) -> None:
        """Shorten the idle times from the clock on; every flow may be due earlier than it was."""
        self.emergency_us = self.clock
        self.counts.emergencies += 1
        for key, flow in self._flows.items():
            self._schedule(key, flow)

    def _record(self, flow: Flow, *, reason: int, left_us: int) -> Record:
        counters = flow.counters
        fwd, bwd = counters.sides[FWD], counters.sides[BWD]
        segment, flow.segment = flow.segment, flow.segment + 1
        self.counts.records += 1
        self.counts.partial_records += reason == PARTIAL
        return Record(
            number=(flow.key, counters.start),
            start_us=counters.start,
            end_us=counters.last,
            left_us=left_us,
            fwd_wire_bytes=fwd.wire_bytes,
            bwd_wire_bytes=bwd.wire_bytes,
            fwd_packets=fwd.pay.count,
            bwd_packets=bwd.pay.count,
            segment=segment,
            src=flow.initiator[0],
            dst=flow.responder[0],
            src_port=flow.initiator[1],
            dst_port=flow.responder[1],
            vlan=flow.vlan,
            src_mac=flow.macs[FWD],
            dst_mac=flow.macs[BWD],
            proto=flow.proto,
            ip_version=flow.ip_version,
            end_reason=reason,
            partial=reason == PARTIAL,
            half_open=flow.is_half_open,
            handshake=flow.handshake.is_complete,
            group=flow.group,
            fwd_rst=fwd.rst > 0,
            bwd_rst=bwd.rst > 0,
            packet_label=flow.packet_label,
            columns=columns(counters, dst_port=flow.responder[1]),
        )
