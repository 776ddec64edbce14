"""What holds for every stream: a cut capture changes nothing, a turned flow swaps its sides, no bytes are fatal."""

from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowfeatures import FlowFeaturesError, FlowMeter, FlowSettings, open_capture
from tests.flowfeatures.difference import disagreements, report
from tests.flowfeatures.meters import column, measure
from tests.flowfeatures.packets import pcap_bytes, pcapng_bytes, udp_frame, write_pcap
from tests.flowfeatures.streams import SETTINGS, Event, streams, timed
from tests.oracle.columns import NAMES
from tests.oracle.meter import WTMC, Settings

SLOW_TO_MAKE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
BYTES = settings(deadline=None, max_examples=200, suppress_health_check=SLOW_TO_MAKE, derandomize=True)


@FUZZ
@given(stream=streams(), how=SETTINGS, share=st.floats(0, 1))
def test_a_capture_cut_into_two_files_gives_the_same_records(
    tmp_path: Path, stream: list[Event], how: Settings, share: float
):
    frames = timed(stream)
    cut = round(share * len(frames))
    whole, first = write_pcap(tmp_path / "whole", frames), write_pcap(tmp_path / "first", frames[:cut])
    second = tmp_path / "second"
    second.write_bytes(pcapng_bytes(frames[cut:], order=">"))

    lines = disagreements(
        measure(whole, meter="engine", settings=how), measure(first, second, meter="engine", settings=how)
    )

    assert not lines, report(lines, what=f"cut after {cut} of {len(frames)}")


@FUZZ
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from((0, 1, 500_000, 1_000_001, 5_000_001)),
            st.booleans(),
            st.sampled_from(("A", "PA", "FA", "F", "UA")),
            st.sampled_from((0, 0, 100, 1400)),
        ),
        max_size=30,
    )
)
def test_turning_a_flow_round_swaps_its_sides(tmp_path: Path, meter: str, steps: list[tuple]):
    # A first SYN makes its sender the initiator, a first SYN+ACK the other side; nothing else differs.
    rest = [Event(after, is_back=back, flags=flags, payload_bytes=size) for after, back, flags, size in steps]
    asked, answered = (
        measure(write_pcap(tmp_path / "turned", timed([Event(0, flags=first), *rest])), meter=meter, settings=WTMC)
        for first in ("S", "SA")
    )

    (ours,), (turned,) = asked.records, answered.records
    assert (ours.src, ours.src_port, ours.src_mac) == (turned.dst, turned.dst_port, turned.dst_mac)
    for name in NAMES:
        partner = name.replace("fwd_", "bwd_") if "fwd_" in name else name.replace("bwd_", "fwd_")
        if partner in NAMES and name not in ("dst_port", "down_up_ratio", "ack_packets"):
            assert column(ours, name) == column(turned, partner), name
    assert column(turned, "ack_packets") == column(ours, "ack_packets") + 1


@BYTES
@given(content=st.binary(max_size=300), as_frame=st.booleans(), link_type=st.sampled_from((0, 1, 101, 108, 113, 276)))
def test_no_bytes_raise_anything_but_our_own_errors(tmp_path: Path, content: bytes, as_frame: bool, link_type: int):
    path = tmp_path / "bytes"
    path.write_bytes(pcap_bytes([(0, content)], link_type=link_type) if as_frame else content)
    meter = FlowMeter(FlowSettings(partials=True))

    # What is inside a frame is counted, never raised; what is around it may be no capture.
    with nullcontext() if as_frame else suppress(FlowFeaturesError), open_capture(path) as capture:
        list(meter.read(capture))
    list(meter.flush())

    counters = meter.counters
    assert counters["packets"] == counters["decoded"] + sum(counters["undecoded"].values())


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
