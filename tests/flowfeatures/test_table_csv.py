"""The CSV of records: its headers, its cells, and that no digit is lost."""

import csv
import io
from pathlib import Path

import pytest

from flowfeatures import FlowMeter, open_capture, write_csv
from tests.flowfeatures.meters import measure
from tests.flowfeatures.packets import Conversation, ethernet, ipv6, time_us, udp, udp_frame, write_pcap
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
