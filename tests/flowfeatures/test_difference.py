"""The comparison itself: what it lets pass and what it finds, and what the lines at the end of a run say."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.flowfeatures.difference import disagreements, record_differences
from tests.flowfeatures.golden import ColumnDiff
from tests.flowfeatures.meters import Measured, measure
from tests.flowfeatures.packets import udp_frame, write_pcap
from tests.flowfeatures.tally import DifferentialTally, GoldenTally
from tests.oracle.columns import NAMES
from tests.oracle.meter import Record


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """What the oracle says of one flow with a gap of 59 days and a fraction."""
    frames = [udp_frame(0, payload_bytes=3), udp_frame(1.5), udp_frame(5_123_456.789012)]
    return measure(write_pcap(tmp_path / "one", frames), meter="oracle")


def changed(record: Record, name: str, value: float) -> Record:
    """Return the record with another value in one column."""
    columns = list(record.columns)
    columns[NAMES.index(name)] = value
    return replace(record, columns=columns)


@pytest.mark.parametrize("name", ["duration_us", "fwd_payload_bytes", "fwd_iat_sum_us", "iat_max_us", "ack_packets"])
def test_a_whole_number_that_is_off_by_one_is_found_however_large(measured: Measured, name: str):
    record = changed(measured.records[0], name, 10**13)

    assert record_differences(record, record) == []
    assert record_differences(record, changed(record, name, 10**13 + 1)) == [
        f"{name}: oracle {10**13}, engine {10**13 + 1}"
    ]


@pytest.mark.parametrize("name", ["iat_mean_us", "iat_std_us", "payload_bytes_var", "packets_per_s", "down_up_ratio"])
@pytest.mark.parametrize(("factor", "found"), [(1 + 9e-10, 0), (1 + 2e-9, 1), (-1, 1), (float("nan"), 1)])
def test_a_quotient_may_be_off_by_a_billionth_of_its_size(measured: Measured, name: str, factor: float, found: int):
    record = changed(measured.records[0], name, 12.5)

    assert len(record_differences(record, changed(record, name, 12.5 * factor))) == found


@pytest.mark.parametrize("name", ["start_us", "left_us", "end_reason", "src", "segment", "half_open", "number"])
def test_every_field_beside_the_columns_is_compared(measured: Measured, name: str):
    (record,) = measured.records[:1]

    assert len(record_differences(record, replace(record, **{name: "another"}))) == 1


def test_a_missing_record_and_a_counter_are_found(measured: Measured):
    fewer = replace(measured, records=measured.records[1:], counters=measured.counters | {"emergencies": 1})

    lines = disagreements(measured, fewer)

    assert any(line.startswith("records:") for line in lines)
    assert any(line.startswith("emergencies:") for line in lines)


def test_the_tally_counts_a_capture_once_and_a_reading_that_differs(measured: Measured):
    tally = DifferentialTally()

    for lines, capture in (([], "a.pcap"), ([], "a.pcap"), (["something"], None)):
        tally.count(lines, measured, capture=capture)

    assert len(measured.records) == 2
    assert tally.line() == (
        "differential: 1 captures, 1 made-up streams, 0 emergencies, 6 records x 77 columns: 1 readings differ"
    )


def test_the_golden_tally_adds_up_captures():
    tally = GoldenTally({"a": ColumnDiff([], 2, 140, 12), "b": ColumnDiff(["off"], 1, 70, 5)})

    assert tally.line() == (
        "golden: 3 rows x 76 columns against the corrected CICFlowMeter: "
        "1 values differ, 210 are equal, 17 differ on purpose and are left out"
    )
