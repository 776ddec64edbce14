"""The engine equals the oracle: over every capture at hand, and over streams made to sit on the deadlines."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flowfeatures.difference import report
from tests.flowfeatures.differential import compare, compare_all
from tests.flowfeatures.meters import SHARED, measure
from tests.flowfeatures.packets import write_pcap
from tests.flowfeatures.streams import SETTINGS, SMALL_TABLES, Event, crowds, reordered, streams, swaps, talks, timed
from tests.oracle.meter import WTMC, Settings

CAPTURES = sorted(path for suffix in ("pcap", "pcapng") for path in SHARED.rglob(f"*.{suffix}"))
MALFORMED = [path for path in CAPTURES if "malformed" in path.parts]
WHOLE = [path for path in CAPTURES if "malformed" not in path.parts]
# The core suite reads what takes below a second in plain Python, and of each large family a sample.
SMALL_BYTES = 130_000
SMALL = [path for path in WHOLE if path.stat().st_size < SMALL_BYTES]
SAMPLE = [path for i, path in enumerate(SMALL) if i % 10 == 0 or "iot_sentinel" not in path.parts]

needs_shared = pytest.mark.skipif(not CAPTURES, reason=f"no captures under {SHARED} (PENSTOCK_SHARED)")
SLOW_TO_MAKE = [HealthCheck.too_slow, HealthCheck.data_too_large]
# The same examples each time in the core suite; new ones in the slow one.
FUZZ = settings(deadline=None, max_examples=80, suppress_health_check=SLOW_TO_MAKE, derandomize=True)
SEARCH = settings(deadline=None, max_examples=2000, suppress_health_check=SLOW_TO_MAKE)


@needs_shared
@pytest.mark.parametrize("part", range(4))
def test_engine_and_oracle_agree_on_hostile_captures(part: int):
    lines = compare_all(MALFORMED[part::4], Settings(partials=True))

    assert not lines, report(lines, what="hostile captures")


@needs_shared
@pytest.mark.parametrize(
    "how",
    [Settings(), Settings(partials=True), WTMC, Settings(partials=True, max_flows=10)],
    ids=["default", "partials", "wtmc", "small table"],
)
def test_engine_and_oracle_agree_on_a_sample_of_captures(how: Settings):
    lines = compare_all(SAMPLE, how)

    assert not lines, report(lines, what="sample")


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: "/".join(path.parts[-2:]))
def test_engine_and_oracle_agree_on_every_capture(path: Path):
    everything = Settings(partials=True)

    lines = compare_all([path], everything, Settings(), WTMC, replace(everything, vlan_in_key=True, max_flows=50))

    assert not lines, report(lines, what=path.name)


@FUZZ
@given(stream=streams(), how=SETTINGS)
def test_engine_and_oracle_agree_on_any_stream(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], how: Settings
):
    path = write_pcap(tmp_path_factory.getbasetemp() / "stream.pcap", timed(stream))

    lines = compare(path, how)

    assert not lines, report(lines, what=str(how))


@FUZZ
@given(stream=st.one_of(streams(), talks()), how=SETTINGS, moves=swaps())
def test_engine_and_oracle_agree_on_frames_out_of_order(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], how: Settings, moves: list[tuple[int, int]]
):
    frames = reordered(timed(stream), moves)

    lines = compare(write_pcap(tmp_path_factory.getbasetemp() / "late.pcap", frames), how)

    assert not lines, report(lines, what=str(how))


@FUZZ
@given(stream=talks(), how=SETTINGS)
def test_engine_and_oracle_agree_on_ports_used_again(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], how: Settings
):
    lines = compare(write_pcap(tmp_path_factory.getbasetemp() / "talks.pcap", timed(stream)), how)

    assert not lines, report(lines, what=str(how))


@settings(FUZZ, max_examples=120)
@given(stream=crowds(), how=SMALL_TABLES)
def test_engine_and_oracle_agree_while_the_table_is_full(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], how: Settings
):
    lines = compare(write_pcap(tmp_path_factory.getbasetemp() / "crowd.pcap", timed(stream)), how)

    assert not lines, report(lines, what=str(how))


@pytest.mark.slow
@SEARCH
@given(stream=crowds(max_events=40), how=SMALL_TABLES)
def test_engine_and_oracle_agree_on_crowds_nobody_has_seen(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], how: Settings
):
    lines = compare(write_pcap(tmp_path_factory.getbasetemp() / "crowds.pcap", timed(stream)), how)

    assert not lines, report(lines, what=str(how))


@pytest.mark.slow
@SEARCH
@given(stream=st.one_of(streams(), talks(max_talks=20)), how=SETTINGS, moves=swaps())
def test_engine_and_oracle_agree_on_streams_nobody_has_seen(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], how: Settings, moves: list[tuple[int, int]]
):
    frames = reordered(timed(stream), moves)

    lines = compare(write_pcap(tmp_path_factory.getbasetemp() / "search.pcap", frames), how)

    assert not lines, report(lines, what=str(how))


@FUZZ
@given(stream=streams(max_events=20), labels=st.lists(st.integers(0, 11), max_size=60))
def test_a_record_carries_the_last_label_of_its_packets(
    tmp_path_factory: pytest.TempPathFactory, stream: list[Event], labels: list[int]
):
    path = write_pcap(tmp_path_factory.getbasetemp() / "labelled.pcap", timed(stream))
    per_packet = (0, *labels, *[0] * (20 * 9))

    oracle, engine = (measure(path, meter=meter, labels=per_packet) for meter in ("oracle", "engine"))

    assert [record.packet_label for record in engine.records] == [record.packet_label for record in oracle.records]
