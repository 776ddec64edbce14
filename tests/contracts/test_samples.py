"""Samples on disk: what was added comes back, bounds hold, other files and damaged rows are refused or skipped."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import numpy as np
import pytest

from contracts.samples import (
    DAY_US,
    HOUR_US,
    MAX_PER_DEVICE_HOUR,
    MAX_PER_INCIDENT,
    Sample,
    SampleBook,
    SamplesRefused,
    padded,
)
from flowfeatures import WINDOW_COLUMNS

NOW_US = 1_800_000_000_000_000 // HOUR_US * HOUR_US
INCIDENT = "00000000-0000-7000-8000-000000000001"
CAMERA, BULB = bytes(15) + b"\x01", bytes(15) + b"\x02"


def sample(due_us: int = NOW_US, *, device: bytes = CAMERA, rows: int = 3, **facts: object) -> Sample:
    values = np.random.default_rng(due_us % 997).normal(size=(rows, len(WINDOW_COLUMNS))).astype(np.float32)
    return Sample(device=device, due_us=due_us, rows=values, margin=-3.0, **facts)


def all_of(book: SampleBook, *, pinned: bool = False) -> list[Sample]:
    return list(book.read(pinned=pinned, before_us=NOW_US + 30 * DAY_US, limit=100_000))


def test_a_window_comes_back_to_the_last_bit(tmp_path: Path):
    kept = sample(incident_id=INCIDENT, class_index=3)
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        book.add(kept)

    with SampleBook(tmp_path / "samples.db") as book:
        (found,) = all_of(book, pinned=True)

    assert np.array_equal(found.rows, kept.rows)
    assert (found.device, found.due_us, found.incident_id, found.class_index) == (CAMERA, NOW_US, INCIDENT, 3)
    assert (tmp_path / "samples.db").stat().st_mode & 0o777 == 0o600


def test_windows_are_padded_as_the_network_wants_them():
    values, mask = padded([sample(rows=3), sample(rows=20)], window=16)

    assert mask.sum(axis=1).tolist() == [3.0, 16.0]
    assert not values[0, 3:].any()
    assert np.array_equal(values[1], sample(rows=20).rows[-16:])


def test_a_talkative_device_fills_its_hour_and_no_more(tmp_path: Path):
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        kept = [book.add(sample(NOW_US + second)) for second in range(MAX_PER_DEVICE_HOUR + 5)]
        assert book.add(sample(NOW_US, device=BULB))
        assert book.add(sample(NOW_US + HOUR_US))

        assert sum(kept) == MAX_PER_DEVICE_HOUR
        assert book.skipped == 5


def test_an_incident_keeps_so_many_windows(tmp_path: Path):
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        kept = sum(book.add(sample(NOW_US + second, incident_id=INCIDENT)) for second in range(MAX_PER_INCIDENT + 3))

    assert kept == MAX_PER_INCIDENT


def test_old_windows_leave_and_pinned_ones_sooner(tmp_path: Path):
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        book.add(sample(NOW_US - 15 * DAY_US))
        book.add(sample(NOW_US - 13 * DAY_US))
        book.add(sample(NOW_US - 8 * DAY_US, incident_id=INCIDENT))
        book._until_trim = 0

        book.add(sample(NOW_US))

        assert [each.due_us for each in all_of(book)] == [NOW_US, NOW_US - 13 * DAY_US]
        assert all_of(book, pinned=True) == []


def test_the_newest_stay_where_there_are_too_many(tmp_path: Path):
    with SampleBook(tmp_path / "samples.db", write=True, most=20) as book:
        for hour in range(30):
            book._until_trim = 0
            book.add(sample(NOW_US + hour * HOUR_US))

        assert len(book) == 10
        assert min(each.due_us for each in all_of(book)) == NOW_US + 20 * HOUR_US


def test_windows_before_an_incident_was_known_can_be_pinned_to_it(tmp_path: Path):
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        for second in range(5):
            book.add(sample(NOW_US + second * 1_000_000))

        pinned = book.pin(CAMERA, INCIDENT, class_index=1, from_us=NOW_US + 1_000_000, to_us=NOW_US + 3_000_000)

        assert pinned == 3
        assert book.incidents() == {INCIDENT}
        assert len(all_of(book)) == 2


def test_a_forgotten_device_leaves_nothing_behind(tmp_path: Path):
    told = sample(incident_id=INCIDENT)
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        book.add(told)
        book.add(sample(NOW_US + 1, device=BULB))

        assert book.forget(CAMERA) == 1
        assert [each.device for each in all_of(book)] == [BULB]

    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert CAMERA not in left
    assert zlib.compress(told.rows.astype("<f4").tobytes(), 1)[8:40] not in left


@pytest.mark.parametrize("content", [b"", b"not a database at all, " * 300])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "samples.db").write_bytes(content)

    with pytest.raises(SamplesRefused, match=r"samples\.db"):
        SampleBook(tmp_path / "samples.db")


def test_windows_of_another_schema_are_refused(tmp_path: Path):
    SampleBook(tmp_path / "samples.db", write=True).close()
    with sqlite3.connect(tmp_path / "samples.db") as db:
        db.execute("UPDATE schema SET id = 'another'")

    with pytest.raises(SamplesRefused, match="of schema another"):
        SampleBook(tmp_path / "samples.db")


@pytest.mark.parametrize(
    "change",
    [
        "content = x'00'",
        "rows = 2",
        "rows = 100000000000",
        "rows = 'many'",
        "class_index = 99",
        "device = x'01'",
        "incident_id = 'x; DROP TABLE samples'",
    ],
)
def test_a_damaged_row_is_skipped_and_counted(tmp_path: Path, change: str):
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        book.add(sample(NOW_US, incident_id=INCIDENT))
        book.add(sample(NOW_US + 1, incident_id=INCIDENT))
    with sqlite3.connect(tmp_path / "samples.db") as db:
        db.execute(f"UPDATE samples SET {change} WHERE due_us = ?", (NOW_US,))

    with SampleBook(tmp_path / "samples.db") as book:
        assert [each.due_us for each in all_of(book, pinned=True)] == [NOW_US + 1]
        assert book.skipped == 1


def test_a_row_that_unpacks_to_a_thousand_times_its_size_is_skipped(tmp_path: Path):
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        book.add(sample())
    with sqlite3.connect(tmp_path / "samples.db") as db:
        db.execute("UPDATE samples SET content = ?", (zlib.compress(bytes(50_000_000)),))

    with SampleBook(tmp_path / "samples.db") as book:
        assert all_of(book) == []


@pytest.mark.parametrize(
    "wrong",
    [{"rows": np.full((2, len(WINDOW_COLUMNS)), np.nan, np.float32)}, {"rows": np.zeros((2, 5), np.float32)},
     {"device": b"short"}, {"margin": float("inf")}, {"incident_id": "no id"}, {"class_index": 12}],
)  # fmt: skip
def test_what_is_no_window_is_not_added(tmp_path: Path, wrong: dict):
    facts = {"device": CAMERA, "due_us": NOW_US, "rows": sample().rows, "margin": 0.0, **wrong}
    with SampleBook(tmp_path / "samples.db", write=True) as book:
        with pytest.raises(ValueError, match=r"\w"):
            book.add(Sample(**facts))

        assert len(book) == 0
