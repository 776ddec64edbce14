"""Files of a table: packings, torn files, and what a wrong line is called."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from pathlib import Path

import pytest

from contracts.errors import DataMissing
from training.tables import files, nsl_kdd
from training.tables.table import TableError

from .rows import nsl_line

TEXT = nsl_line(src_bytes=7) + "\n" + nsl_line(kind="neptune") + "\n"


def packed(folder: Path, kind: str) -> Path:
    path = folder / f"table.txt.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("KDDTrain+.txt", TEXT)
    else:
        data = {"xz": lzma.compress, "gz": gzip.compress, "plain": bytes}[kind](TEXT.encode())
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["plain", "xz", "gz", "zip"])
def test_every_packing_gives_the_same_rows(tmp_path: Path, kind: str):
    table = nsl_kdd.read([packed(tmp_path, kind)])

    assert table.kind.tolist() == ["normal", "neptune"]
    assert table.numbers[0, table.number_names.index("src_bytes")] == 7


@pytest.mark.parametrize("kind", ["xz", "gz"])
def test_a_torn_file_is_told_apart_from_a_whole_one(tmp_path: Path, kind: str):
    path = packed(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(TableError, match="torn"):
        nsl_kdd.read([path])


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataMissing, match=r"nowhere\.csv"):
        files.first_row(tmp_path / "nowhere.csv")


def test_an_empty_file_is_an_error(tmp_path: Path):
    path = tmp_path / "empty.txt"
    path.write_text("\n\n")

    with pytest.raises(TableError, match="empty"):
        nsl_kdd.read([path])


def test_a_wrong_cell_names_file_line_column_value_and_what_was_wanted(tmp_path: Path):
    path = tmp_path / "kdd.txt"
    path.write_text(TEXT + nsl_line(src_bytes="many") + "\n")

    with pytest.raises(TableError) as raised:
        nsl_kdd.read([path])

    assert str(raised.value) == f"{path}:3: column 'src_bytes': saw 'many', want a number"


def test_a_line_with_too_few_cells_names_both_widths(tmp_path: Path):
    path = tmp_path / "kdd.txt"
    path.write_text(TEXT + "0,tcp,http\n")

    with pytest.raises(TableError, match=r"kdd\.txt:3: saw 3 cells, want 42 or 43"):
        nsl_kdd.read([path])


def test_a_parquet_file_is_refused_by_its_name(tmp_path: Path):
    path = tmp_path / "table.parquet"
    path.write_bytes(b"PAR1" + bytes(40))

    with pytest.raises(TableError, match=r"table\.parquet: saw a Parquet file, want a table of text"):
        nsl_kdd.read([path])
