"""The timer wheel, through the meter: whatever the distances between packets and deadlines, engine and oracle agree."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowfeatures import END_REASONS
from tests.flowfeatures.difference import disagreements, report
from tests.flowfeatures.meters import METERS, measure
from tests.flowfeatures.packets import START_US, write_pcap
from tests.flowfeatures.streams import Event, streams, timed
from tests.flowfeatures.tally import DIFFERENTIAL_TALLY
from tests.oracle.meter import Settings

TICK_US = 1 << 10
LEVEL_US = TICK_US << 12
DAY_US = 86_400_000_000
YEAR_US = 366 * DAY_US
# On both sides of where the wheel's slots and levels end, beyond its last level, and back again.
STEPS_US = (
    *(0, 1, TICK_US - 1, TICK_US, TICK_US + 1, LEVEL_US - TICK_US, LEVEL_US - 1, LEVEL_US, LEVEL_US + 1),
    *(3_600_000_000, LEVEL_US << 12, (LEVEL_US << 12) - 1, DAY_US, YEAR_US, 3 * YEAR_US),
    *(-61_000_000, -DAY_US, -2 * YEAR_US),
)
TIMES_S = st.sampled_from((0.001, 0.5, 4.194304, 60.0, 3_600.0, 86_400.0, 40 * 86_400.0, 3 * 366 * 86_400.0))
SEARCH = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@SEARCH
@given(
    stream=streams(max_events=40, steps_us=STEPS_US),
    times_s=st.tuples(TIMES_S, TIMES_S, TIMES_S, TIMES_S),
    partials=st.booleans(),
)
def test_deadlines_of_any_distance_come_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    stream: list[Event],
    times_s: tuple[float, float, float, float],
    partials: bool,
):
    idle_s, active_s, half_open_s, linger_s = times_s
    how = Settings(
        tcp_idle_timeout_s=idle_s,
        other_idle_timeout_s=active_s,
        active_timeout_s=active_s,
        half_open_timeout_s=half_open_s,
        linger_s=linger_s,
        partials=partials and active_s < DAY_US / 1e6,  # a record every 30 s for years is not worth waiting for
    )
    path = write_pcap(tmp_path_factory.getbasetemp() / "distances.pcap", timed(stream))

    oracle, engine = (measure(path, meter=meter, settings=how) for meter in ("oracle", "engine"))

    lines = DIFFERENTIAL_TALLY.count(disagreements(oracle, engine), oracle)
    assert not lines, report(lines, what=str(how))


@pytest.mark.parametrize("meter", METERS)
@pytest.mark.parametrize("idle_s", [60.0, 86_400.0, 3 * 366 * 86_400.0], ids=["a minute", "a day", "three years"])
def test_a_flow_ends_when_its_deadline_has_passed_however_far_it_was(tmp_path: Path, meter: str, idle_s: float):
    how = Settings(tcp_idle_timeout_s=idle_s, half_open_timeout_s=idle_s, active_timeout_s=10 * 366 * 86_400)
    first, at_deadline, after = Event(0, flags="S"), round(idle_s * 1e6), 1
    stream = [first, Event(at_deadline, kind="udp", ports=(53, 53)), Event(after, kind="udp", ports=(53, 53))]

    records = measure(write_pcap(tmp_path / "far", timed(stream)), meter=meter, settings=how).records

    assert [(record.src_port, END_REASONS[record.end_reason], record.left_us - START_US) for record in records] == [
        (40000, "idle_timeout", at_deadline),
        (53, "forced_end", at_deadline + after),
    ]
