"""DataFrames of records: types, values, time zones, and what is said where pandas is not installed."""

import sys
from itertools import chain

import numpy as np
import pytest

from flowfeatures import RECORD, FlowMeter, FrameBlock, MissingExtra, to_pandas
from flowfeatures.table_columns import NAMES, table_of
from tests.flowfeatures.tables import FRAMES, batches_of, flood


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas", reason="pandas is not installed: pip install 'penstock[tables]'")


@pytest.mark.parametrize("names", NAMES)
def test_a_frame_has_the_columns_and_a_row_per_record(pandas, names):
    batches = batches_of()
    expected = table_of(np.concatenate(batches), names)

    flows = to_pandas(batches, names=names)

    assert list(flows.columns) == list(expected)
    assert len(flows) == 3
    for name, values in expected.items():
        seen = flows[name].dt.tz_localize(None) if values.dtype.kind == "M" else flows[name]
        assert seen.tolist() == pandas.Series(values).tolist(), name


def test_the_headers_of_cicids2017_are_the_default(pandas):
    assert list(to_pandas(batches_of()).columns) == list(to_pandas(batches_of(), names="cicids2017").columns)


@pytest.mark.parametrize("batches", [batches_of(), []], ids=["some", "none"])
def test_types_are_the_same_with_and_without_records(pandas, batches):
    flows = to_pandas(batches, names="penstock")

    types = flows.dtypes.astype(str)

    assert set(types[["start", "end", "left"]]) == {"datetime64[us, UTC]"}
    assert set(types[["flow_id", "src_port", "duration_us", "fwd_wire_bytes", "iat_max_us"]]) == {"int64"}
    assert set(types[["iat_mean_us", "packets_per_s", "down_up_ratio"]]) == {"float64"}
    assert set(types[["partial", "half_open"]]) == {"bool"}
    assert set(types[["src", "src_mac", "end_reason"]]) <= {"str", "object"}  # pandas 3, pandas 2


def test_a_time_is_an_instant_in_utc(pandas):
    flows = to_pandas(batches_of())

    assert flows["Timestamp"][0] == pandas.Timestamp("2023-11-14 22:13:20", tz="UTC")


def test_ports_can_be_subtracted(pandas):
    flows = to_pandas(batches_of())

    assert (flows["Destination Port"] - flows["Source Port"]).min() < 0


def test_an_array_a_list_and_what_a_meter_yields_make_the_same_frame(pandas):
    times_us, octets = zip(*FRAMES, strict=True)
    meter = FlowMeter()
    as_it_comes = to_pandas(chain(meter.add(FrameBlock.of(octets, times_us)), meter.flush()))

    for records in (batches_of(), np.concatenate(batches_of())):
        pandas.testing.assert_frame_equal(to_pandas(records), as_it_comes)


def test_a_table_of_several_groups_is_one_frame_numbered_from_0(pandas, monkeypatch):
    batches = flood(100)
    whole = to_pandas(batches)

    monkeypatch.setattr("flowfeatures.table_pandas.ROWS_AT_ONCE", 33)

    pandas.testing.assert_frame_equal(to_pandas(batches), whole)
    assert whole.index.tolist() == list(range(100))


def test_without_pandas_the_line_that_brings_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingExtra, match=r"no pandas in .* pip install 'penstock\[tables\]'") as caught:
        to_pandas(np.empty(0, RECORD))

    assert caught.value.exit_code == 69


def test_what_is_no_record_and_what_is_no_set_of_names_is_refused(pandas):
    with pytest.raises(TypeError, match="wanted RECORD"):
        to_pandas(np.zeros(3))
    with pytest.raises(ValueError, match="names: 'other'"):
        to_pandas(np.empty(0, RECORD), names="other")


def test_the_last_microsecond_of_the_year_9999_is_kept(pandas):
    last = [(253_402_300_799_999_999, FRAMES[0][1])]

    flows = to_pandas(batches_of(last), names="penstock")

    assert flows["start"].dt.strftime("%Y-%m-%d %H:%M:%S.%f").tolist() == ["9999-12-31 23:59:59.999999"]
