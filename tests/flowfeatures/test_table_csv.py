"""The CSV of records: its headers, its cells, and that no digit is lost."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from flowfeatures import RECORD, FlowMeter, open_capture, write_csv
from flowfeatures.table_columns import NAMES, table_of
from tests.flowfeatures.meters import measure
from tests.flowfeatures.packets import Conversation, ethernet, ipv6, time_us, udp, udp_frame, write_pcap
from tests.flowfeatures.tables import batches_of, flood
from tests.oracle.table_csv import HEADER, rows

FRAMES = [
    *Conversation().out(0, "S").back(0.1, "SA").out(0.3, "PA", 100).back(0.7, "PA", 1333).out(7, "A").frames,
    udp_frame(8, payload_bytes=5),
    (time_us(9), ethernet(ipv6(udp(5683, 5683, 3), 17))),
]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_pcap(tmp_path / "table.pcap", FRAMES)


def lines_of(capture: Path) -> list[list[str]]:
    """Return the cells the engine writes."""
    file, meter = io.StringIO(newline=""), FlowMeter()
    with open_capture(capture) as frames:
        records = [*(chunk.copy() for chunk in meter.read(frames)), *(chunk.copy() for chunk in meter.flush())]
    write_csv(records, file)
    return list(csv.reader(io.StringIO(file.getvalue())))


def test_the_headers_are_cicids2017s_with_neither_spaces_nor_label(capture: Path):
    header = lines_of(capture)[0]

    assert header == HEADER
    assert len(header) == 7 + 77


def test_every_cell_is_the_oracles(capture: Path):
    expected = list(rows(measure(capture, meter="oracle").records))

    seen = lines_of(capture)[1:]

    assert [line[:7] for line in seen] == [row[:7] for row in expected]
    for line, row in zip(seen, expected, strict=True):
        assert [float(cell) for cell in line[7:]] == pytest.approx(row[7:], rel=1e-12)


def test_a_start_is_written_in_utc_with_microseconds(capture: Path):
    # 1,700,000,000 s after 1970 is 2023-11-14 22:13:20 UTC.
    assert lines_of(capture)[1][6] == "2023-11-14 22:13:20.000000"


def test_numbers_read_back_as_they_were(capture: Path):
    (record, *_) = measure(capture, meter="engine").records

    cells = [float(cell) for cell in lines_of(capture)[1][7:]]

    del cells[54]
    assert cells == record.columns[1:]


def read_back(records, **options) -> list[dict[str, str]]:
    """Return the rows that a reader of CSV sees."""
    file = io.StringIO(newline="")
    write_csv(records, file, **options)
    return list(csv.DictReader(io.StringIO(file.getvalue())))


def test_under_our_names_a_row_is_all_of_a_record():
    records = np.concatenate(batches_of())
    expected = table_of(records, "penstock")

    rows = read_back(records, names="penstock")

    assert [list(row) for row in rows] == [list(expected)] * 3
    first = rows[0]
    assert (first["start"], first["partial"], first["end_reason"]) == ("2023-11-14 22:13:20.000000", "0", "forced_end")
    assert [int(row["flow_id"]) for row in rows] == records["flow_id"].tolist()
    assert [float(row["iat_mean_us"]) for row in rows] == expected["iat_mean_us"].tolist()


@pytest.mark.parametrize("names", NAMES)
def test_no_cell_needs_quotes_or_begins_a_formula(names):
    rows = read_back(batches_of(), names=names)

    cells = [cell for row in rows for cell in row.values()]

    assert [cell for cell in cells if cell[:1] in {"=", "+", "@", "\t", "\r"} or set(cell) & set(',"\n')] == []


def test_an_array_and_its_batches_make_the_same_file_and_count(monkeypatch):
    batches, files = flood(50), [io.StringIO(), io.StringIO(), io.StringIO()]
    counts = [write_csv(batches, files[0]), write_csv(np.concatenate(batches), files[1])]

    monkeypatch.setattr("flowfeatures.table_csv.ROWS_AT_ONCE", 7)
    counts.append(write_csv(iter(batches), files[2]))

    assert counts == [50, 50, 50]
    assert len({file.getvalue() for file in files}) == 1


def test_no_records_are_a_header():
    assert read_back([]) == read_back(np.empty(0, RECORD)) == []


def test_what_is_no_record_and_what_is_no_set_of_names_is_refused():
    with pytest.raises(TypeError, match="wanted RECORD"):
        write_csv(np.zeros(3), io.StringIO())
    with pytest.raises(ValueError, match="names: 'other'"):
        write_csv([], io.StringIO(), names="other")
