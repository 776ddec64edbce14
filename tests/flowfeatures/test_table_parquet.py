"""Parquet files of records: read back as they were, group by group, whole or not there."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from flowfeatures import RECORD, MissingExtra, to_pandas, write_parquet
from flowfeatures.table_columns import NAMES, table_of
from tests.flowfeatures.tables import batches_of, flood


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'penstock[tables]'")


@pytest.mark.parametrize("names", NAMES)
def test_a_file_reads_back_as_the_records_were(parquet, tmp_path: Path, names):
    batches = batches_of()
    expected = table_of(np.concatenate(batches), names)

    rows = write_parquet(batches, tmp_path / "flows.parquet", names=names)

    table = parquet.read_table(tmp_path / "flows.parquet")
    assert rows == table.num_rows == 3
    assert table.column_names == list(expected)
    for name, values in expected.items():
        seen = table[name].cast("int64") if values.dtype.kind == "M" else table[name]
        wanted = values.view(np.int64) if values.dtype.kind == "M" else values
        assert seen.to_pylist() == wanted.tolist(), name


@pytest.mark.parametrize("names", NAMES)
def test_types_are_those_of_a_frame(parquet, tmp_path: Path, names):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install 'penstock[tables]'")

    write_parquet(batches_of(), tmp_path / "flows.parquet", names=names)

    read = pandas.read_parquet(tmp_path / "flows.parquet")
    pandas.testing.assert_frame_equal(read, to_pandas(batches_of(), names=names))


def test_no_records_are_a_table_with_columns_and_no_rows(parquet, tmp_path: Path):
    assert write_parquet([], tmp_path / "none.parquet") == 0

    table = parquet.read_table(tmp_path / "none.parquet")

    assert (table.num_rows, table.num_columns) == (0, 84)
    assert str(table.schema.field("Timestamp").type) == "timestamp[us, tz=UTC]"


def test_row_groups_are_full_but_the_last_whatever_the_batches(parquet, tmp_path: Path):
    batches = [*batches_of(), *flood(100)]

    write_parquet(iter(batches), tmp_path / "flows.parquet", rows_per_group=40)

    read = parquet.ParquetFile(tmp_path / "flows.parquet")
    groups = [read.metadata.row_group(at).num_rows for at in range(read.num_row_groups)]
    assert groups == [40, 40, 23]
    ports = np.concatenate(batches)["src_port"].tolist()
    assert read.read()["Source Port"].to_pylist() == ports


def test_groups_are_written_while_records_still_come(parquet):
    written = io.BytesIO()
    sizes = []

    def records():
        for batch in flood(60):
            for at in range(0, 60, 20):
                sizes.append(written.tell())
                yield batch[at : at + 20]

    write_parquet(records(), written, rows_per_group=20)

    assert sizes[0] < sizes[2] < written.tell()
    assert parquet.read_table(io.BytesIO(written.getvalue())).num_rows == 60


def test_an_error_on_the_way_leaves_what_was_there_before(parquet, tmp_path: Path):
    path = tmp_path / "flows.parquet"
    write_parquet(flood(2), path)
    before = path.read_bytes()

    def broken():
        yield from flood(50)
        raise OSError("the capture went away")

    with pytest.raises(OSError, match="the capture went away"):
        write_parquet(broken(), path, rows_per_group=10)

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["flows.parquet"]


def test_a_link_goes_on_pointing_at_the_file(parquet, tmp_path: Path):
    (tmp_path / "link.parquet").symlink_to(tmp_path / "real.parquet")

    write_parquet(flood(2), tmp_path / "link.parquet")

    assert (tmp_path / "link.parquet").is_symlink()
    assert parquet.read_table(tmp_path / "real.parquet").num_rows == 2


def test_a_device_is_written_to_and_not_replaced(parquet):
    assert write_parquet(flood(2), os.devnull) == 2

    assert not os.path.isfile(os.devnull)


def test_a_file_given_open_stays_open(parquet):
    file = io.BytesIO()

    write_parquet(flood(2), file)

    assert not file.closed
    assert file.getvalue()[-4:] == b"PAR1"


@pytest.mark.parametrize("rows", [0, -1])
def test_row_groups_without_rows_are_refused(tmp_path: Path, rows: int):
    with pytest.raises(ValueError, match=f"rows_per_group: {rows}, wanted 1 or more"):
        write_parquet([], tmp_path / "flows.parquet", rows_per_group=rows)


def test_a_folder_that_is_not_there_is_named(parquet, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_parquet([], tmp_path / "nowhere" / "flows.parquet")


def test_what_is_no_record_leaves_no_file(parquet, tmp_path: Path):
    with pytest.raises(TypeError, match="wanted RECORD"):
        write_parquet([np.zeros(3)], tmp_path / "flows.parquet")

    assert os.listdir(tmp_path) == []


def test_without_pyarrow_the_line_that_brings_it_is_told_and_nothing_is_written(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtra, match=r"no pyarrow in .* pip install 'penstock\[tables\]'"):
        write_parquet(np.empty(0, RECORD), tmp_path / "flows.parquet")

    assert os.listdir(tmp_path) == []
