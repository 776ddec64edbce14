"""The columns that every table is made of: their names, their types, and that nothing is lost on the way."""

import re

import numpy as np
import pytest
from hypothesis import given, settings

from flowfeatures import COLUMNS, FLOW_META, RECORD
from flowfeatures.table_columns import NAMES, in_groups, is_whole, table_of
from tests.flowfeatures.packets import DEVICE, DEVICE_MAC, ROUTER_MAC, SERVER, START_US
from tests.flowfeatures.streams import streams, timed
from tests.flowfeatures.tables import batches_of, flood
from tests.oracle.table_csv import HEADER

RECORDS = np.concatenate(batches_of())
# Every text there is: an address, a MAC or none, a flow id, a reason.
INNOCENT = re.compile(r"[0-9a-f.:]*(?:-[0-9a-f.:]+-\d+-\d+-\d+)?|[a-z_]+")


def test_the_names_of_cicids2017_are_its_headers_in_its_order():
    assert list(table_of(RECORDS, "cicids2017")) == HEADER


def test_our_own_names_hold_every_field_of_a_record_once():
    renamed = {"start_us": "start", "end_us": "end", "left_us": "left"}
    fields = {renamed.get(name, name) for name in FLOW_META.names} - {"vlan"} | {"vlan_outer", "vlan_inner"}

    assert set(table_of(RECORDS, "penstock")) == fields | {column.name for column in COLUMNS}


def test_a_row_under_our_names_is_the_record():
    table = table_of(RECORDS, "penstock")

    row = {name: values[1] for name, values in table.items()}

    assert RECORDS[1]["proto"] == 17
    assert (row["src"], row["dst"], row["src_port"], row["dst_port"]) == (DEVICE, SERVER, 5000, 53)
    assert (row["src_mac"], row["dst_mac"], row["end_reason"]) == (DEVICE_MAC, "", "forced_end")
    assert row["start"] == np.datetime64(START_US + 8_000_000, "us")
    assert row["flow_id"] == RECORDS[1]["flow_id"]
    assert table["dst_mac"][0] == ROUTER_MAC
    assert (table["vlan_outer"][2], table["vlan_inner"][2]) == (100, 7)


@pytest.mark.parametrize("names", NAMES)
def test_every_column_has_one_of_five_types_however_many_records_there_are(names):
    some, none = table_of(RECORDS, names), table_of(np.empty(0, RECORD), names)

    types = {name: str(values.dtype) for name, values in some.items()}

    assert set(types.values()) <= {"int64", "float64", "bool", "datetime64[us]", "object"}
    assert types == {name: str(values.dtype) for name, values in none.items()}


def test_both_sets_of_names_hold_the_same_values():
    theirs, ours = table_of(RECORDS, "cicids2017"), table_of(RECORDS, "penstock")

    for column in COLUMNS:
        assert theirs[column.header].dtype == ours[column.name].dtype, column
        assert np.array_equal(theirs[column.header], ours[column.name]), column
    assert np.array_equal(theirs["Fwd Header Length.1"], theirs["Fwd Header Length"])


@given(streams())
@settings(max_examples=60, deadline=None)
def test_a_column_of_whole_numbers_has_never_a_fraction_and_none_is_beyond_float64(stream):
    records = np.concatenate(batches_of(timed(stream), partials=True) or [np.empty(0, RECORD)])

    assert np.isfinite(records["columns"]).all()
    for place, column in enumerate(COLUMNS):
        values = records["columns"][:, place]
        if is_whole(column.name):
            assert np.array_equal(values, np.trunc(values)), column
            assert (np.abs(values) < 2**53).all(), column


@given(streams(max_events=10))
@settings(max_examples=30, deadline=None)
def test_no_text_is_anything_but_addresses_and_our_own_words(stream):
    records = np.concatenate(batches_of(timed(stream)) or [np.empty(0, RECORD)])

    texts = {
        text
        for names in NAMES
        for values in table_of(records, names).values()
        if values.dtype == object
        for text in values.tolist()
    }

    assert [text for text in texts if not INNOCENT.fullmatch(text)] == []


@pytest.mark.parametrize("names", ["CICIDS2017", "", None, "nfstream"])
def test_another_set_of_names_is_refused(names):
    with pytest.raises(ValueError, match="wanted one of cicids2017, penstock"):
        table_of(RECORDS, names)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_groups_hold_every_record_once_in_order_whatever_the_batches(rows: int):
    batches = [*batches_of(), np.empty(0, RECORD), *flood(20)]

    groups = list(in_groups(iter(batches), rows))

    assert {len(group) for group in groups[:-1]} <= {rows}
    assert 1 <= len(groups[-1]) <= rows
    assert np.array_equal(np.concatenate(groups), np.concatenate(batches))


def test_there_is_no_group_without_a_record():
    assert list(in_groups([], 5)) == []
    assert list(in_groups(np.empty(0, RECORD), 5)) == []


@pytest.mark.parametrize(
    "records",
    [
        RECORDS[0],
        list(RECORDS),
        RECORDS["columns"],
        np.zeros(3, FLOW_META),
        RECORDS.reshape(1, -1),
        [RECORDS, None],
        [1, 2],
    ],
    ids=["one record", "list of records", "columns", "meta", "two dimensions", "none", "numbers"],
)
def test_what_is_no_array_of_records_is_refused(records):
    with pytest.raises(TypeError, match="wanted RECORD"):
        list(in_groups(records, 5))
