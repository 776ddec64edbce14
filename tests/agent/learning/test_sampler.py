"""Windows to disk: nobody waits for it, what is not taken is counted, a file of another schema is set aside."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.learning import sampler as samplers
from agent.learning.sampler import MOST_WAITING, Sampler
from contracts.samples import MAX_BYTES, MAX_PER_DEVICE_HOUR, SAMPLES_FILE, Sample, SampleBook, SamplesRefused
from flowfeatures import WINDOW_COLUMNS

INCIDENT = "00000000-0000-7000-8000-0000000000a1"
NOW_US = 1_800_000_000_000_000


def sample(number: int = 0, *, device: bytes = bytes(16), incident_id: str | None = None, value: float = 1.0) -> Sample:
    rows = np.full((2, len(WINDOW_COLUMNS)), value, np.float32)
    return Sample(device=device, due_us=NOW_US + number, rows=rows, margin=-5.0, incident_id=incident_id, class_index=0)


def kept(folder: Path) -> int:
    with SampleBook(folder / SAMPLES_FILE) as book:
        return len(book)


def test_what_is_put_is_on_disk_at_the_end(tmp_path: Path):
    with Sampler(tmp_path, most_bytes=MAX_BYTES) as sampler:
        for number in range(MAX_PER_DEVICE_HOUR + 2):
            sampler.put(sample(number))
        sampler.put(sample(99, incident_id=INCIDENT))

    assert (sampler.kept, sampler.pinned, sampler.skipped["enough"]) == (MAX_PER_DEVICE_HOUR, 1, 2)
    assert kept(tmp_path) == MAX_PER_DEVICE_HOUR + 1


def test_what_is_let_go_is_no_longer_there_but_for_incidents(tmp_path: Path):
    with Sampler(tmp_path, most_bytes=MAX_BYTES) as sampler:
        sampler.put(sample(1))
        sampler.put(sample(2, device=bytes(15) + b"x"))
        sampler.put(sample(3, incident_id=INCIDENT))
        sampler.let_go(bytes(16), NOW_US, NOW_US + 5)

    assert (sampler.let_go_again, kept(tmp_path)) == (1, 2)


def test_a_number_that_is_none_is_counted_and_stops_nothing(tmp_path: Path):
    with Sampler(tmp_path, most_bytes=MAX_BYTES) as sampler:
        sampler.put(sample(1, value=float("nan")))
        sampler.put(sample(2))

    assert (sampler.skipped["unfit"], sampler.kept, sampler.failed) == (1, 1, 0)


def test_a_disk_that_hangs_holds_nobody_and_what_has_no_room_is_counted(tmp_path: Path):
    hangs, is_in = threading.Event(), threading.Event()

    class Slow(SampleBook):
        def add(self, sample: Sample) -> bool:
            is_in.set()
            hangs.wait(120)
            return super().add(sample)

    with Sampler(tmp_path, most_bytes=MAX_BYTES, open_book=Slow) as sampler:
        sampler.put(sample(0))
        assert is_in.wait(120)
        for number in range(MOST_WAITING + 5):
            sampler.put(sample(number))

        assert sampler.skipped["waiting"] == 5
        hangs.set()


def test_a_full_disk_is_counted_and_asked_again_after_some_time(tmp_path: Path):
    now_s, is_full = [0.0], [True]

    class Full(SampleBook):
        def add(self, sample: Sample) -> bool:
            if is_full[0]:
                raise SamplesRefused("database or disk is full")
            return super().add(sample)

    with Sampler(tmp_path, most_bytes=MAX_BYTES, open_book=Full, clock_s=lambda: now_s[0]) as sampler:
        sampler.put(sample(1))
        until(lambda: sampler.failed == 1)
        is_full[0] = False
        sampler.put(sample(2))
        until(lambda: sampler.failed == 2)
        assert "full" in sampler.trouble
        now_s[0] = samplers.RETRY_S
        sampler.put(sample(3))
        until(lambda: sampler.kept == 1)

        assert sampler.trouble == ""


def until(is_so: Any) -> None:
    waiting = threading.Event()
    for _ in range(12_000):
        if is_so():
            return
        waiting.wait(0.01)
    raise AssertionError("it never was so")


def test_a_file_of_another_schema_is_set_aside_and_a_new_one_begun(tmp_path: Path):
    with SampleBook(tmp_path / SAMPLES_FILE, write=True) as book:
        book.add(sample())
    with closing(sqlite3.connect(tmp_path / SAMPLES_FILE)) as db:
        db.execute("UPDATE schema SET id = '0000000000000000'")
        db.commit()

    with Sampler(tmp_path, most_bytes=MAX_BYTES) as sampler:
        sampler.put(sample(1))

    assert (sampler.kept, sampler.failed, kept(tmp_path)) == (1, 0, 1)
    assert (tmp_path / f"{SAMPLES_FILE}.aside-1").exists()


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
def test_what_is_no_database_is_set_aside_too_and_an_empty_file_used(tmp_path: Path, content: bytes):
    (tmp_path / SAMPLES_FILE).write_bytes(content)

    with Sampler(tmp_path, most_bytes=MAX_BYTES) as sampler:
        sampler.put(sample(1))

    assert (sampler.kept, kept(tmp_path)) == (1, 1)
    assert (tmp_path / f"{SAMPLES_FILE}.aside-1").exists() == bool(content)


def test_the_file_is_bounded_in_octets_and_the_oldest_leave(tmp_path: Path):
    noise = np.random.default_rng(3)
    with SampleBook(tmp_path / SAMPLES_FILE, write=True, most_bytes=1 << 20) as book:
        for number in range(1200):
            rows = noise.random((16, len(WINDOW_COLUMNS)), np.float32)
            device = number.to_bytes(16, "big")
            book.add(Sample(device=device, due_us=NOW_US + number, rows=rows, margin=-5.0))

        assert book.size_bytes < (1 << 20) + 300 * 16 * len(WINDOW_COLUMNS) * 4
        kept_us = [each.due_us for each in book.read(pinned=False, before_us=NOW_US + 2000, limit=2000)]
        assert max(kept_us) == NOW_US + 1199
    assert (tmp_path / SAMPLES_FILE).stat().st_size < 4 << 20
