"""What holds for every stream: cuts, blocks, seeds and an eager clock change nothing, a turned flow swaps its sides."""

from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flowfeatures import FlowFeaturesError, FlowMeter, FlowSettings, open_capture
from tests.flowfeatures.difference import disagreements, report
from tests.flowfeatures.meters import EngineFeed, OracleFeed, column, measure
from tests.flowfeatures.packets import (
    DEVICE_MAC,
    ROUTER_MAC,
    enhanced_packet,
    interface_block,
    mac_bytes,
    pcap_bytes,
    pcapng_bytes,
    section_header,
    udp_frame,
    write_pcap,
)
from tests.flowfeatures.streams import SETTINGS, SMALL_TABLES, Event, crowds, streams, talks, timed
from tests.oracle.columns import NAMES
from tests.oracle.meter import WTMC, Settings
from tests.oracle.packet import NO_MAC
from tests.oracle.reader import LINK_TYPES, read_frames

SLOW_TO_MAKE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
FUZZ = settings(deadline=None, max_examples=40, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
BYTES = settings(deadline=None, max_examples=200, suppress_health_check=SLOW_TO_MAKE, derandomize=True)


ANY_STREAM = st.tuples(st.one_of(streams(), talks()), SETTINGS) | st.tuples(crowds(), SMALL_TABLES)


@FUZZ
@given(made=ANY_STREAM, shares=st.lists(st.floats(0, 1), max_size=6))
def test_a_capture_cut_into_files_gives_the_same_records(
    tmp_path: Path, meter: str, made: tuple[list[Event], Settings], shares: list[float]
):
    stream, how = made
    frames = timed(stream)
    cuts = [0, *sorted(round(share * len(frames)) for share in shares), len(frames)]
    whole, parts = write_pcap(tmp_path / "whole", frames), []
    for i, (first, last) in enumerate(pairwise(cuts)):
        parts.append(tmp_path / f"part-{i}")
        form = pcapng_bytes if i % 2 else pcap_bytes
        parts[-1].write_bytes(form(frames[first:last], order=">"))

    lines = disagreements(measure(whole, meter=meter, settings=how), measure(*parts, meter=meter, settings=how))

    assert not lines, report(lines, what=f"cut at {cuts}")


@FUZZ
@given(made=ANY_STREAM, block_frames=st.integers(1, 40), hash_seed=st.binary(min_size=16, max_size=16))
def test_neither_the_size_of_blocks_nor_the_hash_seed_is_seen_in_the_records(
    tmp_path: Path, made: tuple[list[Event], Settings], block_frames: int, hash_seed: bytes
):
    stream, how = made
    path = write_pcap(tmp_path / "blocks", timed(stream))
    feed = EngineFeed(how, hash_seed=hash_seed)

    feed.read_blocks(path, block_frames=block_frames)

    lines = disagreements(measure(path, meter="engine", settings=how), feed.finish())
    assert not lines, report(lines, what=f"blocks of {block_frames}")


@FUZZ
@given(made=ANY_STREAM, shares=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_clock_that_moves_between_packets_changes_no_record(
    tmp_path: Path, made: tuple[list[Event], Settings], shares: list[float]
):
    # Before each frame the clock is moved to up to two places between it and the one before. What is not decoded moves
    # no clock, so behind the last packet the clock would stand elsewhere.
    stream, how = made
    frames = timed([event for event in stream if event.kind != "arp"])
    assume(frames)
    times_us = [ts for ts, _ in frames]
    gaps = [(0, 0), *((before, max(0, at - before)) for before, at in pairwise(times_us))]
    moments = [
        sorted(before + int(shares[(i + k) % len(shares)] * gap) for k in range(2))
        for i, (before, gap) in enumerate(gaps)
    ]
    path = write_pcap(tmp_path / "clock", frames)
    oracle, engine = OracleFeed(how), EngineFeed(how)

    engine.read_blocks(path, block_frames=1, moments_us=moments)
    for now, frame in zip(moments, read_frames(path), strict=True):
        for now_us in now:
            oracle.advance(now_us)
        oracle.read_frames([frame])

    undisturbed = measure(path, meter="oracle", settings=how)
    lines = disagreements(undisturbed, engine.finish()) + disagreements(undisturbed, oracle.finish())
    assert not lines, report(lines, what=str(how))


def exchanged(event: Event) -> Event:
    """Return the event with address, port and MAC address of its two ends exchanged."""
    return event._replace(is_back=not event.is_back)


@FUZZ
@given(made=ANY_STREAM)
def test_exchanging_the_ends_exchanges_source_and_destination_and_nothing_else(
    tmp_path: Path, meter: str, made: tuple[list[Event], Settings]
):
    stream, how = made
    ours, theirs = (
        measure(write_pcap(tmp_path / "ends", timed(form)), meter=meter, settings=how)
        for form in (stream, [exchanged(event) for event in stream])
    )

    # The two MAC addresses of these streams are each other's; an end that sent nothing has none.
    other_mac = {mac_bytes(mac): mac_bytes(to) for mac, to in ((DEVICE_MAC, ROUTER_MAC), (ROUTER_MAC, DEVICE_MAC))}
    expected = [
        replace(
            record,
            src=record.dst,
            dst=record.src,
            src_port=record.dst_port,
            dst_port=record.src_port,
            src_mac=other_mac.get(record.src_mac, NO_MAC),
            dst_mac=other_mac.get(record.dst_mac, NO_MAC),
            group=False,
            columns=[record.src_port, *record.columns[1:]],
        )
        for record in ours.records
    ]
    # A broadcast address is a group as destination only.
    seen = replace(theirs, records=[replace(record, group=False) for record in theirs.records])
    lines = disagreements(replace(ours, records=expected), seen)
    assert not lines, report(lines, what=str(how))


@FUZZ
@given(
    first=st.sampled_from(("tcp S", "tcp", "udp", "v6")),
    steps=st.lists(
        st.tuples(
            st.sampled_from((0, 1, 500_000, 1_000_000, 1_000_001, 5_000_001, -1, -700_000)),
            st.booleans(),
            st.sampled_from(("A", "PA", "FA", "F", "UA", "R", "", "AEC")),
            st.sampled_from((0, 0, 100, 1400)),
        ),
        max_size=30,
    ),
)
def test_turning_a_flow_round_swaps_its_sides(tmp_path: Path, meter: str, first: str, steps: list[tuple]):
    # A first SYN makes its sender the initiator, a first SYN+ACK the other side. Of two empty packets of one time, the
    # first makes its sender the initiator. Nothing else differs: neither idle (120 s) nor a SYN ends the flow.
    kind = first.split(maxsplit=1)[0]
    rest = [Event(after, kind, is_back=back, flags=flags, payload_bytes=size) for after, back, flags, size in steps]
    openings = [[Event(0, kind, is_back=back), Event(0, kind, is_back=not back)] for back in (False, True)]
    if first == "tcp S":
        openings = [[Event(0, flags="S")], [Event(0, flags="SA")]]
    how = replace(WTMC, partials=True)
    asked, turned = (
        measure(write_pcap(tmp_path / "turned", timed([*opening, *rest])), meter=meter, settings=how)
        for opening in openings
    )

    free = {"dst_port", "down_up_ratio"} | ({"ack_packets"} if first == "tcp S" else set())
    assert len(asked.records) == len(turned.records)
    for one, other in zip(asked.records, turned.records, strict=True):
        assert (one.src, one.src_port, one.src_mac) == (other.dst, other.dst_port, other.dst_mac)
        assert (one.fwd_wire_bytes, one.fwd_rst, one.bwd_rst) == (other.bwd_wire_bytes, other.bwd_rst, other.fwd_rst)
        assert (one.end_reason, one.left_us, one.segment) == (other.end_reason, other.left_us, other.segment)
        for name in NAMES:
            partner = name.replace("fwd_", "bwd_") if "fwd_" in name else name.replace("bwd_", "fwd_")
            if partner in NAMES and name not in free:
                assert column(one, name) == column(other, partner), name
        assert column(other, "ack_packets") == column(one, "ack_packets") + (first == "tcp S")


# Of raw IP, of Ethernet with IP within, and of a capture: what follows is then read further.
BEGINNINGS = (
    b"",
    b"\x45",
    b"\x60",
    bytes(12) + b"\x08\x00\x45",
    bytes(12) + b"\x86\xdd\x60",
    bytes.fromhex("d4c3b2a1"),
    section_header(),
)


@BYTES
@given(
    content=st.tuples(st.sampled_from(BEGINNINGS), st.binary(max_size=300)).map(b"".join),
    as_frame=st.booleans(),
    link_type=st.sampled_from(LINK_TYPES),
    absent_bytes=st.sampled_from((0, 1, 1400, 65_535, 1 << 31)),
)
def test_no_bytes_raise_anything_but_our_own_errors(
    tmp_path: Path, content: bytes, as_frame: bool, link_type: int, absent_bytes: int
):
    path = tmp_path / "bytes"
    packet = enhanced_packet(0, content, wire_bytes=len(content) + absent_bytes)
    path.write_bytes(section_header() + interface_block(link_type) + packet if as_frame else content)
    meter = FlowMeter(FlowSettings(partials=True))

    # What is inside a frame is counted, never raised; what is around it may be no capture.
    with nullcontext() if as_frame else suppress(FlowFeaturesError), open_capture(path) as capture:
        list(meter.read(capture))
    list(meter.flush())

    counters = meter.counters
    assert counters["packets"] == counters["decoded"] + sum(counters["undecoded"].values())
    assert counters["packets"] == as_frame


@BYTES
@given(
    stream=streams(max_events=5),
    form=st.sampled_from((pcap_bytes, pcapng_bytes)),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 200),
)
def test_engine_and_oracle_agree_on_damaged_captures(tmp_path: Path, stream: list[Event], form, edits: list, cut: int):
    content = bytearray(form(timed(stream)))
    for at, value in edits:
        content[at % len(content)] = value
    path = tmp_path / "damaged"
    path.write_bytes(content[: len(content) - cut] if cut < 50 else content)
    how = Settings(partials=True)

    lines = disagreements(measure(path, meter="oracle", settings=how), measure(path, meter="engine", settings=how))

    assert not lines, report(lines, what=f"{len(content)} bytes")


def records_of(path: Path, *, partials: bool = False, **keys: bytes | None) -> np.ndarray:
    """Return the engine's records of one capture in one array."""
    meter = FlowMeter(FlowSettings(partials=partials), **keys)
    with open_capture(path) as capture:
        return np.concatenate([chunk.copy() for source in (meter.read(capture), meter.flush()) for chunk in source])


def values(records: np.ndarray, *, without: str = "") -> dict[str, list]:
    """Return every field as a list."""
    return {name: records[name].tolist() for name in records.dtype.names if name != without}


def test_flow_ids_fit_53_bits_and_are_constant_over_a_flow(tmp_path: Path):
    frames = [udp_frame(0), udp_frame(2), udp_frame(0, ports=(1, 2)), udp_frame(130)]

    records = records_of(write_pcap(tmp_path / "ids", frames), partials=True)

    by_flow = {(int(row["src_port"]), int(row["start_us"])): set() for row in records}
    for row in records:
        by_flow[int(row["src_port"]), int(row["start_us"])].add(int(row["flow_id"]))
    assert all(len(ids) == 1 for ids in by_flow.values())
    assert len(set.union(*by_flow.values())) == len(by_flow) == 3
    assert records["flow_id"].max() < 1 << 53


@pytest.fixture
def many_flows(tmp_path: Path) -> Path:
    """Return a capture of 97 flows that leave together, in order of arrival."""
    return write_pcap(tmp_path / "many", [udp_frame(i / 100, ports=(i % 97 + 1, 53)) for i in range(500)])


def test_the_same_capture_gives_the_same_records_twice(many_flows: Path):
    assert values(records_of(many_flows)) == values(records_of(many_flows))


def test_another_key_gives_other_flow_ids_and_nothing_else(many_flows: Path):
    ours, others = records_of(many_flows, flow_id_key=b"0123456789abcdef"), records_of(many_flows)

    assert not set(ours["flow_id"].tolist()) & set(others["flow_id"].tolist())
    assert values(ours, without="flow_id") == values(others, without="flow_id")


@pytest.mark.parametrize("seed", [b"a" * 16, b"b" * 16])
def test_the_hash_seed_is_never_visible_in_the_output(many_flows: Path, seed: bytes):
    assert values(records_of(many_flows, hash_seed=seed)) == values(records_of(many_flows))


def test_packets_are_accounted_for_exactly(tmp_path: Path):
    frames = [udp_frame(0), (udp_frame(1)[0], b"short"), udp_frame(2)]

    counters = measure(write_pcap(tmp_path / "counted", frames), meter="engine").counters

    assert counters["packets"] == 3
    assert counters["decoded"] == 2
    assert counters["undecoded"] == {"truncated_link": 1}
    assert counters["live_flows"] == 0
