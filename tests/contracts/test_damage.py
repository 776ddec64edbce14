"""Files of SQLite damaged where SQLite quotes them: every owner refuses them or sets them aside, none ends at them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.learning.sampler import Sampler
from agent.state.forgetting import _from_database, _from_samples
from agent.state.incident_record import RECORD_FILE, IncidentRecord, newest_incidents
from contracts.damage import complaint_of
from contracts.errors import PenstockError
from contracts.samples import SAMPLES_FILE, SampleBook
from detection.state import StateRefused
from federation.aggregator.ledger import Ledger, LedgerError
from tests.agent.state.test_explanations import update_of


def spoiled(path: Path, make: Callable[[Path], None]) -> Path:
    """Make a file and put an octet that no UTF-8 has behind every CREATE that its schema holds."""
    make(path)
    raw = path.read_bytes()
    assert b"CREATE TABLE" in raw
    path.write_bytes(raw.replace(b"CREATE TABLE ", b"CREATE\xa4TABLE "))
    return path


def made_by_ledger(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")


def made_by_samples(path: Path) -> None:
    SampleBook(path, write=True).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")


def made_by_record(path: Path) -> None:
    record = IncidentRecord(path)
    record.add(update_of(), bundle_sha256="a" * 64)
    record.close()


def test_what_sqlite_quotes_is_told_though_it_is_no_text(tmp_path: Path):
    path = spoiled(tmp_path / "aggregator.db", made_by_ledger)

    with pytest.raises(UnicodeDecodeError) as caught, sqlite3.connect(path) as db:
        db.execute("SELECT count(*) FROM sqlite_master")

    assert "malformed database schema" in complaint_of(caught.value)
    assert r"CREATE\xa4TABLE" in complaint_of(caught.value)


def test_an_aggregators_store_is_refused_and_stays_as_it_is(tmp_path: Path):
    path = spoiled(tmp_path / "aggregator.db", made_by_ledger)
    before = path.read_bytes()

    with pytest.raises(LedgerError, match="malformed database schema"):
        Ledger(path)

    assert path.read_bytes() == before


def test_samples_are_set_aside_and_kept_anew(tmp_path: Path):
    path = spoiled(tmp_path / SAMPLES_FILE, made_by_samples)

    sampler = Sampler(tmp_path, most_bytes=1 << 20)
    book = sampler._opened()

    assert book is not None
    assert len(book) == 0
    assert path.with_name(f"{SAMPLES_FILE}.aside-1").exists()


def test_a_record_of_incidents_is_set_aside_and_kept_anew(tmp_path: Path):
    path = spoiled(tmp_path / RECORD_FILE, made_by_record)
    with pytest.raises(StateRefused, match="malformed database schema"):
        newest_incidents(path, most=1)

    record = IncidentRecord(path)
    for _ in range(2):
        record.add(update_of(), bundle_sha256="a" * 64)
    record.close()

    assert record.failed == 1
    assert len(newest_incidents(path, most=9)) == 1


def test_what_cannot_be_searched_for_a_device_is_told(tmp_path: Path):
    path = spoiled(tmp_path / SAMPLES_FILE, made_by_samples)

    found = [
        _from_samples(path, [b"x" * 16], is_rehearsal=True),
        _from_database(path, re.compile("10.0.0.1"), is_rehearsal=True),
    ]

    assert all("malformed database schema" in each.unread for each in found)


def test_reading_samples_is_refused(tmp_path: Path):
    path = spoiled(tmp_path / SAMPLES_FILE, made_by_samples)

    with pytest.raises(PenstockError, match="malformed database schema"):
        SampleBook(path)
