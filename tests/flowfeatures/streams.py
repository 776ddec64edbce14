"""Packet streams for property tests: few ends, many ties, and times that sit on the deadlines."""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st

from tests.flowfeatures.packets import (
    DEVICE,
    DEVICE_MAC,
    ROUTER_MAC,
    SERVER,
    START_US,
    TimedFrame,
    ethernet,
    extension,
    fragment_header,
    ipv4,
    ipv6,
    tcp,
    udp,
)
from tests.oracle.meter import WTMC, Settings

# Every deadline of the default settings, one microsecond less and one more, some repeats, steps back within and
# beyond what counts as late.
DEADLINES_US = (250_000, 1_000_000, 5_000_000, 15_000_000, 30_000_000, 60_000_000, 120_000_000)
FORWARD_US = (0, 1, 100, 1_000, 999_999, 10_000_000, *(at + off for at in DEADLINES_US for off in (-1, 0, 1)))
BACK_US = (-1, -1_000, -1_000_000, -20_000_000, -60_000_000, -60_000_001, -500_000_000)
FLAGS = ("", "S", "SA", "A", "PA", "FA", "F", "R", "RA", "SF", "SR", "FRA", "UEC", "SAEC")

ENDS = ((DEVICE, SERVER), (DEVICE, "192.168.1.20"), (DEVICE, DEVICE), (DEVICE, "255.255.255.255"))
KINDS = ("tcp", "tcp", "tcp", "udp", "udp", "icmp", "gre", "fragment", "v6", "v6 fragment", "arp")
PORTS = ((40000, 80), (40001, 80), (53, 53))
# For a table of 10 to 20 flows: trains of new flows that overlap, and gaps about an emergency's 1 s and 5 s.
CROWD_PORTS = tuple((40000 + at, 80) for at in (0, 0, 3, 10, 20, 26))
CROWD_US = (0, 0, 1, 1_000, 500_000, *(at + off for at in (1_000_000, 4_000_000, 5_000_000) for off in (-1, 0, 1)))


class Event(NamedTuple):
    """One frame, or a train of it, some time after the one before; small enough to read in a failing example."""

    after_us: int
    kind: str = "tcp"
    ends: tuple[str, str] = ENDS[0]
    ports: tuple[int, int] = PORTS[0]
    is_back: bool = False
    flags: str = "A"
    payload_bytes: int = 0
    numbers: tuple[int, int] = (0, 0)
    """Sequence and acknowledgement number."""
    offset_bytes: int = 0
    vlans: tuple[int, ...] = ()
    train: int = 1
    spacing_us: int = 0
    port_span: int = 1
    """The frames of a train come from so many ports in turn, the next above the one before: a packet for each flow."""


def events(steps_us: tuple[int, ...]) -> st.SearchStrategy[Event]:
    """Return a strategy for one event; what is ordinary comes first and so is what examples shrink to."""
    return st.builds(
        Event,
        after_us=st.sampled_from(steps_us),
        kind=st.sampled_from(KINDS),
        ends=st.sampled_from(ENDS),
        ports=st.sampled_from(PORTS),
        is_back=st.booleans(),
        flags=st.sampled_from(FLAGS),
        payload_bytes=st.sampled_from((0, 1, 10, 1400, 3000, 8960)),
        numbers=st.sampled_from(((0, 0), (100, 101), (101, 101), (0xFFFFFFFF, 0))),
        offset_bytes=st.sampled_from((0, 8, 1480)),
        vlans=st.sampled_from(((), (), (), (10,), (10, 20))),
        train=st.sampled_from((1, 1, 1, 1, 5, 9)),
        spacing_us=st.sampled_from((0, 1, 500)),
        port_span=st.sampled_from((1, 1, 1, 100)),
    )


def crowd_events() -> st.SearchStrategy[Event]:
    """Return a strategy for trains of new flows, of packets to the flows of such a train, and now and then a pause."""
    return st.builds(
        Event,
        after_us=st.sampled_from((*CROWD_US * 4, *FORWARD_US, *BACK_US)),
        kind=st.sampled_from(("tcp", "tcp", "tcp", "tcp", "udp", "udp", "gre", "v6")),
        ports=st.sampled_from(CROWD_PORTS),
        is_back=st.sampled_from((False, False, True)),
        ends=st.just(ENDS[0]),
        flags=st.sampled_from(("S", "S", "S", "SA", "A", "FA", "R", "")),
        payload_bytes=st.sampled_from((0, 10)),
        numbers=st.just((0, 0)),
        offset_bytes=st.just(0),
        vlans=st.just(()),
        train=st.sampled_from((1, 2, 4, 9, 13, 13, 26, 40)),
        spacing_us=st.sampled_from((0, 0, 1, 100_000)),
        port_span=st.sampled_from((100, 100, 13, 10, 5, 3, 1)),
    )


def crowds(*, max_events: int = 25) -> st.SearchStrategy[list[Event]]:
    """Return a strategy for a stream that fills a small table, again and again."""
    return st.lists(crowd_events(), min_size=3, max_size=max_events)


def streams(
    *, max_events: int = 40, steps_us: tuple[int, ...] = FORWARD_US + BACK_US
) -> st.SearchStrategy[list[Event]]:
    """Return a strategy for a stream of up to this many events."""
    return st.lists(events(steps_us), min_size=1, max_size=max_events)


OPENING = (("S", False), ("SA", True), ("A", False))
CLOSINGS = (
    (),
    (("R", True),),
    (("RA", False), ("A", True)),
    (("FA", False), ("FA", True), ("A", False)),
    (("FA", False), ("A", True), ("FA", True), ("A", False)),
    (("FA", False), ("A", True), ("PA", True), ("PA", True)),
    (("FA", True), ("FA", False), ("FA", True), ("A", True)),
    (("FA", False), ("FA", True), ("A", False), ("A", True), ("S", False)),
)
LINGER_US = (0, 0, 1, 1_000, 100_000, 249_999, 250_000, 250_001, 1_000_001)


class Talk(NamedTuple):
    """One TCP conversation: opened or not, some payload each way, one of many ends."""

    ports: tuple[int, int]
    opening: tuple[tuple[str, bool], ...]
    payload: tuple[tuple[str, bool], ...]
    closing: tuple[tuple[str, bool], ...]
    steps_us: tuple[int, ...]

    def events(self) -> list[Event]:
        """Return its packets; the times between them are taken in turn."""
        packets = (*self.opening, *self.payload, *self.closing)
        return [
            Event(
                self.steps_us[i % len(self.steps_us)],
                ports=self.ports,
                flags=flags,
                is_back=is_back,
                payload_bytes=300 if "P" in flags else 0,
            )
            for i, (flags, is_back) in enumerate(packets)
        ]


def talks(*, max_talks: int = 8) -> st.SearchStrategy[list[Event]]:
    """Return a strategy for conversations one after another on few ports, so that ports are used again."""
    pushes = st.sampled_from((("PA", False), ("PA", True), ("A", False)))
    talk = st.builds(
        Talk,
        ports=st.sampled_from(PORTS[:2]),
        opening=st.sampled_from((OPENING, OPENING[:1], OPENING[1:], ())),
        payload=st.lists(pushes, max_size=6).map(tuple),
        closing=st.sampled_from(CLOSINGS),
        steps_us=st.lists(st.sampled_from(LINGER_US), min_size=1, max_size=5).map(tuple),
    )
    made = st.lists(talk, min_size=1, max_size=max_talks)
    return made.map(lambda talks: [event for talk in talks for event in talk.events()]).filter(bool)


def swaps() -> st.SearchStrategy[list[tuple[int, int]]]:
    """Return a strategy for how frames change places: (which, how many places later)."""
    return st.lists(st.tuples(st.integers(0, 100), st.integers(1, 5)), max_size=10)


def reordered(frames: list[TimedFrame], moves: list[tuple[int, int]]) -> list[TimedFrame]:
    """Return the frames with some of them late, each under the time it had."""
    late = list(frames)
    for which, places in moves:
        at = which % len(late)
        late.insert(min(at + places, len(late) - 1), late.pop(at))
    return late


def frame(event: Event) -> bytes:
    """Return the event's frame."""
    (src, dst), ports, macs = event.ends, event.ports, (DEVICE_MAC, ROUTER_MAC)
    if event.is_back:
        src, dst, ports, macs = dst, src, ports[::-1], macs[::-1]
    seq, ack = event.numbers
    segment = tcp(*ports, event.flags, event.payload_bytes, seq=seq, ack=ack, window=event.payload_bytes + 7)
    datagram = udp(*ports, event.payload_bytes)
    six = {"src": f"2001:db8::{src}", "dst": f"2001:db8::{dst}"}
    packet = {
        "tcp": lambda: ipv4(segment, 6, src=src, dst=dst),
        "udp": lambda: ipv4(datagram, 17, src=src, dst=dst),
        "icmp": lambda: ipv4(datagram, 1, src=src, dst=dst),
        "gre": lambda: ipv4(datagram, 47, src=src, dst=dst),
        "fragment": lambda: ipv4(datagram, 17, src=src, dst=dst, fragment_offset=event.offset_bytes),
        "v6": lambda: ipv6(extension(6) + segment, 0, **six),
        "v6 fragment": lambda: ipv6(fragment_header(17, offset=event.offset_bytes, more=True) + datagram, 44, **six),
        "arp": lambda: bytes(28),
    }[event.kind]()
    ether_type = 0x0806 if event.kind == "arp" else None
    return ethernet(packet, src=macs[0], dst=macs[1], vlans=event.vlans, ether_type=ether_type)


def timed(stream: list[Event]) -> list[TimedFrame]:
    """Return the stream's frames with their times."""
    at_us, frames = START_US, []
    for event in stream:
        at_us += event.after_us
        device_port, server_port = event.ports
        for i in range(event.train):
            frames.append((at_us, frame(event._replace(ports=(device_port + i % event.port_span, server_port)))))
            at_us += event.spacing_us
    return frames


def all_timeouts(timeout_s: float, *, linger_s: float) -> Settings:
    """Return settings under which every deadline ties with every other."""
    return Settings(
        active_timeout_s=timeout_s,
        tcp_idle_timeout_s=timeout_s,
        other_idle_timeout_s=timeout_s,
        half_open_timeout_s=timeout_s,
        linger_s=linger_s,
        partials=True,
    )


SETTINGS = st.sampled_from(
    (
        Settings(),
        Settings(partials=True),
        WTMC,
        Settings(partials=True, vlan_in_key=True),
        Settings(partials=True, max_flows=3),
        Settings(max_flows=1),
        Settings(active_timeout_s=15, partials=True),
        all_timeouts(5, linger_s=5),
        all_timeouts(1, linger_s=0),
    )
)

SMALL_TABLES = st.sampled_from(
    (
        Settings(max_flows=10),
        Settings(max_flows=10, partials=True),
        Settings(max_flows=12, partials=True),
        Settings(max_flows=20, partials=True),
        Settings(max_flows=20, half_open_timeout_s=0.5, other_idle_timeout_s=3),
        Settings(max_flows=12, active_timeout_s=6, partials=True),
        Settings(max_flows=10, active_timeout_s=1, other_idle_timeout_s=8),
        Settings(max_flows=16, active_timeout_s=0.5, tcp_idle_timeout_s=8, half_open_timeout_s=8),
        Settings(max_flows=9, partials=True),
        replace(WTMC, max_flows=10),
        replace(all_timeouts(5, linger_s=5), max_flows=11),
        replace(all_timeouts(1, linger_s=0), max_flows=10),
    )
)
