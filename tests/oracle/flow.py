"""The numbers one flow keeps: exact integers, so that every mean and variance is computed once, at the end.

Holds no clock and decides no end: `meter.py` does. `fwd` is index 0, `bwd` index 1 throughout.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from tests.oracle.packet import ACK, FIN, NO_MAC, PSH, RST, SYN, TCP, URG, Packet

FWD, BWD = 0, 1
FLAG_BITS = (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x80, 0x40)  # FIN SYN RST PSH ACK URG CWR ECE, the columns' order
SUBFLOW_GAP_US = BULK_GAP_US = 1_000_000
ACTIVITY_GAP_US = 5_000_000
BULK_PACKETS = 4


class Sample:
    """Integers added one by one, and their count, sum, extremes, mean and sample variance."""

    def __init__(self) -> None:
        self.count = self.total = self.squares = self.low = self.high = 0

    def add(self, value: int) -> None:
        """Count one value."""
        self.low = value if self.count == 0 else min(self.low, value)
        self.high = value if self.count == 0 else max(self.high, value)
        self.count += 1
        self.total += value
        self.squares += value * value

    @property
    def mean(self) -> float:
        """Mean, 0 when empty."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Sample variance (n - 1), 0 up to one value; exact until the one division."""
        if self.count < 2:
            return 0.0
        return (self.count * self.squares - self.total**2) / (self.count * (self.count - 1))

    @property
    def std(self) -> float:
        """Square root of the sample variance."""
        return math.sqrt(self.variance)


class Bulk:
    """The bulk machine of one direction: four or more payload packets, none of the other side in between."""

    def __init__(self) -> None:
        self.start = self.count = self.size = self.last = 0
        self.bulks = self.packets = self.bytes = self.duration = 0

    def add(self, ts: int, pay: int, *, other_last: int) -> None:
        """Run the machine over one packet of this direction."""
        if other_last > self.start:
            self.start = 0
        if pay == 0:
            return
        if self.start == 0 or ts - self.last > BULK_GAP_US:
            self.start = self.last = ts
            self.count, self.size = 1, pay
            return
        self.count += 1
        self.size += pay
        if self.count == BULK_PACKETS:
            self.bulks += 1
            self.packets += BULK_PACKETS
            self.bytes += self.size
            self.duration += ts - self.start
        elif self.count > BULK_PACKETS:
            self.packets += 1
            self.bytes += pay
            self.duration += ts - self.last
        self.last = ts


class Direction:
    """What is counted per direction."""

    def __init__(self) -> None:
        self.pay, self.iat, self.hdr, self.bulk = Sample(), Sample(), Sample(), Bulk()
        self.psh = self.urg = self.rst = self.data_packets = self.wire_bytes = 0
        self.window = 0
        self.last = 0

    def add(self, packet: Packet, *, other: "Direction") -> None:
        """Account one packet of this direction."""
        if self.pay.count == 0:
            self.window = packet.win
        else:
            self.iat.add(packet.ts - self.last)
        self.last = packet.ts
        self.pay.add(packet.pay)
        self.hdr.add(packet.hdr)
        self.psh += bool(packet.flags & PSH)
        self.urg += bool(packet.flags & URG)
        self.rst += bool(packet.flags & RST)
        self.data_packets += packet.pay >= 1
        self.wire_bytes += packet.wire_bytes
        self.bulk.add(packet.ts, packet.pay, other_last=other.bulk.last)


@dataclass
class Counters:
    """Everything that an active cut resets."""

    start: int
    last: int
    sides: tuple[Direction, Direction] = field(default_factory=lambda: (Direction(), Direction()))
    pay: Sample = field(default_factory=Sample)
    iat: Sample = field(default_factory=Sample)
    flags: list[int] = field(default_factory=lambda: [0] * len(FLAG_BITS))
    gaps: int = 0
    active: Sample = field(default_factory=Sample)
    idle: Sample = field(default_factory=Sample)
    spell_start: int = 0
    spell_end: int = 0
    only_initiator_syns: bool = True

    def __post_init__(self) -> None:
        self.spell_start = self.spell_end = self.start

    def add(self, packet: Packet, side: int) -> None:
        """Account one packet; `side` is FWD or BWD."""
        if self.pay.count:
            gap = packet.ts - self.last
            self.iat.add(gap)
            self.gaps += gap > SUBFLOW_GAP_US
        self.last = packet.ts
        self.pay.add(packet.pay)
        for i, bit in enumerate(FLAG_BITS):
            self.flags[i] += bool(packet.flags & bit)
        self.sides[side].add(packet, other=self.sides[1 - side])
        self.add_spell(packet.ts)
        self.only_initiator_syns &= side == FWD and packet.flags & (SYN | ACK) == SYN

    def add_spell(self, ts: int) -> None:
        """Close the active spell when the gap before `ts` is above the activity gap."""
        if ts - self.spell_end > ACTIVITY_GAP_US:
            if self.spell_end - self.spell_start > 0:
                self.active.add(self.spell_end - self.spell_start)
            self.idle.add(ts - self.spell_end)
            self.spell_start = ts
        self.spell_end = ts


class Handshake:
    """Whether the initiator acknowledged a sequence number that only the responder's SYN+ACK could tell it."""

    def __init__(self) -> None:
        self.expected_ack: int | None = None
        self.is_complete = False

    def add(self, packet: Packet, side: int) -> None:
        """Follow the handshake by one TCP packet."""
        if side == BWD and packet.flags & (SYN | ACK) == SYN | ACK:
            self.expected_ack = (packet.seq + 1) & 0xFFFFFFFF
        elif side == FWD and packet.flags & (SYN | RST | ACK) == ACK and packet.ack == self.expected_ack:
            self.is_complete = True


class TcpState:
    """0 open, 1 one side has sent FIN, 2 both have, 3 closed."""

    def __init__(self) -> None:
        self.state = 0
        self.closed_us = 0
        self.fin_seen = [False, False]

    def add(self, packet: Packet, side: int) -> None:
        """Apply FIN, RST and ACK in this order."""
        before = self.state
        if packet.flags & FIN and self.state < 3:
            self.fin_seen[side] = True
            if self.state == 0:
                self.state = 1
            if all(self.fin_seen):
                self.state = 2
        if packet.flags & RST:
            self.state = 3
        if packet.flags & ACK and not packet.flags & (FIN | RST) and self.state == 2:
            self.state = 3
        if self.state == 3 and before != 3:
            self.closed_us = packet.ts


class Flow:
    """One entry of the table: identity, which an active cut keeps, and `counters`, which it resets.

    MAC addresses, VLAN ids, group and the finished handshake describe the two ends, not the packets since a cut, so
    they stay. An end's MAC address is that of its first frame that has one: all zeros, as on a loopback interface or
    where the link has no addresses, is none. `counters` is None between a cut and the next packet.
    """

    def __init__(self, packet: Packet, *, key: Hashable, arrival: int) -> None:
        self.is_reversed = packet.proto == TCP and packet.flags & (SYN | ACK) == SYN | ACK
        ends = (packet.src, packet.src_port), (packet.dst, packet.dst_port)
        self.initiator, self.responder = ends[::-1] if self.is_reversed else ends
        self.proto, self.ip_version = packet.proto, packet.ip_version
        self.vlan = (0, 0)
        self.macs = [NO_MAC, NO_MAC]
        self.group = packet.group
        self.handshake = Handshake()
        self.packets_seen = 0
        self.planned_visit_us = math.inf
        self.key, self.arrival = key, arrival
        self.cut_us = 0
        self.begin(packet.ts)

    def begin(self, ts: int) -> None:
        """Start counting: a new flow, or the one that continues after an active cut."""
        self.counters: Counters | None = Counters(start=ts, last=ts)
        self.tcp = TcpState()
        self.segment = 0
        self.partials_by_time = 0
        self.packet_label = 0

    def side_of(self, packet: Packet) -> int:
        """Return FWD if address and port are the initiator's."""
        return FWD if (packet.src, packet.src_port) == self.initiator else BWD

    def add(self, packet: Packet, *, label: int) -> None:
        """Account one packet."""
        side = self.side_of(packet)
        if self.macs[side] == NO_MAC:
            self.macs[side] = packet.src_mac
        self.packets_seen += 1
        if self.vlan == (0, 0):
            self.vlan = packet.vlan
        self.packet_label = label or self.packet_label
        if self.proto == TCP:
            self.handshake.add(packet, side)
            self.tcp.add(packet, side)
        assert self.counters is not None
        self.counters.add(packet, side)

    @property
    def is_half_open(self) -> bool:
        """TCP, and only the initiator's SYNs so far."""
        return self.proto == TCP and self.counters is not None and self.counters.only_initiator_syns

    @property
    def packets(self) -> int:
        """Packets since the flow began or was cut."""
        return self.counters.pay.count if self.counters else 0
