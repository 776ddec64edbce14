"""CICIDS2017: both formats told apart, what says who or when is no feature, attempted attacks left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from training.tables import cicids2017
from training.tables.cicids_columns import NEWER, ORIGINAL_FEATURES
from training.tables.table import TableError

from .rows import CORRECTED_NAMES, corrected_line, original_header

DATA = Path(os.environ.get("PENSTOCK_SHARED", "../shared")) / "data"
FORBIDDEN = ("ip", "port", "id", "timestamp", "label", "attempted")


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def corrected(folder: Path, *lines: str) -> Path:
    return written(folder, "corrected.csv", ",".join(CORRECTED_NAMES), *lines)


def original(folder: Path, *, label: str = "BENIGN", **how: bool) -> Path:
    header = original_header(**how)
    cells = [str(place) for place in range(len(header) - 1)]
    return written(folder, "original.csv", ",".join(header), ",".join([*cells, label]))


def test_nothing_that_says_who_or_when_is_a_feature(tmp_path: Path):
    form, table = cicids2017.read([corrected(tmp_path, corrected_line())])

    words = {word for name in table.number_names for word in name.split()}
    assert form == "corrected"
    assert len(table.number_names) == 81
    assert words & set(FORBIDDEN) == set()
    assert table.symbols.tolist() == [["tcp"]]


def test_the_flow_is_named_by_its_id_and_its_start(tmp_path: Path):
    early, late = corrected_line(), corrected_line(time="2017-07-03 11:57:42.826651")

    _, table = cicids2017.read([corrected(tmp_path, early, late)])

    assert len(set(table.flow)) == 2
    assert (table.time_us[1] - table.time_us[0]) == 1_000_000


def test_an_attack_that_was_tried_and_failed_is_left_out_and_counted(tmp_path: Path):
    tried = corrected_line(label="DoS Hulk - Attempted", flow="c-d")

    _, table = cicids2017.read([corrected(tmp_path, corrected_line(), tried)])

    assert table.kind.tolist() == ["benign"]
    assert table.cleaned["attempted attacks left out"] == 1


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_the_original_format_has_the_same_columns_however_it_is_published(tmp_path: Path, twice: bool, named: bool):
    form, table = cicids2017.read([original(tmp_path, twice=twice, named=named)])

    assert form == "original"
    assert table.number_names == ORIGINAL_FEATURES
    assert table.flow.tolist() == [""]


def test_two_formats_are_never_mixed(tmp_path: Path):
    with pytest.raises(TableError, match="must not be mixed"):
        cicids2017.read([corrected(tmp_path, corrected_line()), original(tmp_path)])


def test_a_header_of_another_table_is_refused(tmp_path: Path):
    with pytest.raises(TableError, match="want the header of CICIDS2017"):
        cicids2017.read([written(tmp_path, "other.csv", "a,b,label", "1,2,x")])


def test_a_header_that_lacks_columns_names_the_first(tmp_path: Path):
    path = written(tmp_path, "short.csv", "flow duration,label", "1,BENIGN")

    with pytest.raises(TableError, match=r"short\.csv:1: no column 'total fwd packets' and 74 others of the original"):
        cicids2017.read([path])


def test_the_corrected_format_is_known_as_it_was_first_published(tmp_path: Path):
    absent = {*NEWER, "id", "attempted category"}
    kept = [place for place, name in enumerate(CORRECTED_NAMES) if name.lower() not in absent]
    line = corrected_line(label="Botnet", time="07/07/2017 03:30:00 PM").split(",")

    form, table = cicids2017.read(
        [written(tmp_path, "first.csv", *(",".join(row[place] for place in kept) for row in (CORRECTED_NAMES, line)))]
    )

    assert (form, table.kind.tolist(), len(table.number_names)) == ("corrected", ["botnet"], 76)
    assert str(np.datetime64(int(table.time_us[0]), "us")) == "2017-07-07T15:30:00.000000"


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_columns_are_told_by_name_and_those_of_no_format_passed_over(tmp_path: Path, delimiter: str):
    cells = dict(zip([*original_header(), "SimillarHTTP"], map(str, range(100)), strict=False))
    cells |= {" Label": "Web Attack \x96 Brute Force", " Flow Duration": "Infinity"}
    rows = [delimiter.join(row) for row in (reversed(cells), reversed(cells.values()), [""] * len(cells))]
    path = tmp_path / "shuffled.csv"
    path.write_bytes("\r\n".join(rows).encode("latin-1"))

    _, table = cicids2017.read([path])

    assert table.number_names == ORIGINAL_FEATURES
    assert table.numbers.tolist() == [[0.0, *map(float, range(1, 76))]]
    assert table.label.tolist() == ["web attack"]


def test_a_time_that_is_none_names_its_line(tmp_path: Path):
    with pytest.raises(TableError, match=r"corrected\.csv:2: column 'timestamp': saw 'noon'"):
        cicids2017.read([corrected(tmp_path, corrected_line(time="noon"))])


def test_an_attack_of_the_original_format_is_told_by_its_family_however_its_dash_is_written(tmp_path: Path):
    path = original(tmp_path, label="Web Attack \u2013 XSS")

    _, table = cicids2017.read([path])

    assert (table.kind.tolist(), table.label.tolist()) == (["web attack"], ["web attack"])


def test_the_shared_sample_reads_as_its_provenance_says():
    path = DATA / "cicids2017_original" / "cicids2017_sample_km.csv.xz"
    if not path.exists():
        pytest.skip("no shared data")

    _, table = cicids2017.read([path])

    assert table.cleaned["rows"] == 4309
    assert table.cleaned["duplicate rows"] == 4309 - len(table)
    assert set(table.label) == {"benign", "web attack", "dos", "brute force", "portscan"}
