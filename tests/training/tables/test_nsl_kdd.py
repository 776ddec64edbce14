"""NSL-KDD: what is read, counted, and never a feature."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.tables import nsl_kdd
from training.tables.table import TableError

from .rows import nsl_line

SHARED = Path(os.environ.get("PENSTOCK_SHARED", "../shared")) / "data" / "nsl_kdd" / "KDDTrain+.txt.xz"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "kdd.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_neither_the_label_nor_the_difficulty_is_a_column(tmp_path: Path):
    table = nsl_kdd.read([written(tmp_path, nsl_line())])

    assert len(table.number_names) == 38
    assert table.symbol_names == ("protocol_type", "service", "flag")


def test_a_header_a_full_stop_and_a_missing_difficulty_are_understood(tmp_path: Path):
    header = ",".join([*nsl_kdd.COLUMNS, "label"])

    table = nsl_kdd.read([written(tmp_path, header, nsl_line(kind="Smurf.", difficulty=False))])

    assert (table.kind.tolist(), table.label.tolist()) == (["smurf"], ["dos"])


def test_a_kind_nobody_knows_is_an_attack_without_a_class_and_counted(tmp_path: Path):
    table = nsl_kdd.read([written(tmp_path, nsl_line(), nsl_line(kind="heartfelt"))])

    assert table.label.tolist() == ["benign", "unknown"]
    assert table.attack.tolist() == [False, True]
    assert table.cleaned["unknown labels"] == 1


def test_equal_rows_of_one_class_stay_once_whatever_their_difficulty(tmp_path: Path):
    again = nsl_line().rsplit(",", 1)[0] + ",3"

    table = nsl_kdd.read([written(tmp_path, nsl_line(), again, nsl_line(kind="neptune"))])

    assert table.kind.tolist() == ["normal", "neptune"]
    assert table.cleaned["duplicate rows"] == 1


def test_what_is_no_number_infinite_or_negative_becomes_zero_and_is_counted(tmp_path: Path):
    line = nsl_line(duration="nan", src_bytes="inf", dst_bytes=-5, hot="")

    table = nsl_kdd.read([written(tmp_path, line)])

    assert not table.numbers.any()
    assert {what: count for what, count in table.cleaned.items() if count} == {
        "rows": 1, "cells not a number": 2, "cells infinite": 1, "cells negative": 1,
    }  # fmt: skip


def test_a_number_where_the_kind_should_stand_is_refused(tmp_path: Path):
    with pytest.raises(TableError, match=r"kdd\.txt:1: column 'label': saw '21'"):
        nsl_kdd.read([written(tmp_path, nsl_line(kind="21"))])


def test_every_kind_of_the_published_list_has_the_class_it_is_published_with():
    listed = SHARED.with_name("attack_types.csv")
    if not listed.exists():
        pytest.skip("no shared data")

    pairs = [line.split(",") for line in listed.read_text().split() if line]
    known = {kind: label for kind, label in pairs if kind not in ("normal", "unknown")}

    assert {kind: nsl_kdd.LABEL_OF[kind] for kind in known} == known


HEADED = [*nsl_kdd.COLUMNS, "label", "difficulty"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("label", ["label", "Class", " attack type"])
def test_a_header_says_which_column_is_which_whatever_their_order(tmp_path: Path, delimiter: str, label: str):
    cells = nsl_line(kind="neptune", src_bytes=7, service="ftp").split(",")
    header = ["", *reversed([*nsl_kdd.COLUMNS, label, "level"])]
    row = ["0", *reversed(cells)]

    plain = nsl_kdd.read([written(tmp_path, ",".join(cells))])
    table = nsl_kdd.read([written(tmp_path, delimiter.join(header), delimiter.join(row))])

    assert table.contents().tolist() == plain.contents().tolist()
    assert table.kind.tolist() == ["neptune"]


def test_a_header_that_lacks_a_column_names_it(tmp_path: Path):
    header = [name for name in HEADED if name != "hot"]

    with pytest.raises(TableError, match=r"kdd\.txt:1: no column 'hot' among 42"):
        nsl_kdd.read([written(tmp_path, ",".join(header), nsl_line(difficulty=False))])


def test_an_arff_file_gives_the_rows_its_attributes_name(tmp_path: Path):
    names = [f"@attribute '{name}' real" for name in nsl_kdd.COLUMNS]
    head = ["% made by hand", "@RELATION kdd", "", *names, "@Attribute 'class' {'normal', 'anomaly'}", "@data"]
    rows = [nsl_line(difficulty=False, src_bytes=7), nsl_line(difficulty=False, kind="'anomaly'")]

    table = nsl_kdd.read([written(tmp_path, *head, *rows)])

    assert table.kind.tolist() == ["normal", "anomaly"]
    assert table.label.tolist() == ["benign", "unknown"]
    assert table.numbers[0, table.number_names.index("src_bytes")] == 7
    with pytest.raises(TableError, match=rf"kdd\.txt:{len(head) + 1}: column 'hot': saw 'x', want a number"):
        nsl_kdd.read([written(tmp_path, *head, nsl_line(difficulty=False, hot="x"))])
