"""A store's file that is somebody else's, of a later format, in use, full, or no file: told, and left as it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.aggregator import stores
from federation.aggregator.ledger import Ledger, LedgerError
from tests.federation.homes import NOW_US, rounds_at
from tests.federation.killed import ENVIRONMENT, ROOT

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def another_programs(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE theirs (x)")


def of_a_later_format(path: Path) -> None:
    Ledger(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA user_version = 2")
        db.execute("DROP TABLE memory")


def cut_short(path: Path) -> None:
    Ledger(path).close()
    path.write_bytes(path.read_bytes()[:9000])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (another_programs, "not an aggregator's file of this format"),
        (of_a_later_format, "not an aggregator's file of this format"),
        (cut_short, "malformed"),
        (lambda path: path.write_bytes(b"noise" * 2000), "not a database"),
    ],
)
def test_a_file_that_is_refused_stays_as_it_was_to_the_bit(tmp_path: Path, make: Callable[[Path], None], said: str):
    path = tmp_path / "aggregator.db"
    make(path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(LedgerError, match=said):
        Ledger(path)

    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert os.listdir(tmp_path) == ["aggregator.db"]


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.with_name("other.db")), os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_nothing_is_made(tmp_path: Path, make: Callable[[Path], None]):
    path = tmp_path / "aggregator.db"
    make(path)

    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path)

    assert os.listdir(tmp_path) == ["aggregator.db"]


def test_workers_that_find_no_file_at_the_same_time_all_open_it(tmp_path: Path):
    script = "import sys; from pathlib import Path; from federation.aggregator.ledger import Ledger\n"
    script += "sys.stdin.read(1); Ledger(Path(sys.argv[1])).close()"
    command = [sys.executable, "-c", script, str(tmp_path / "aggregator.db")]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT)
        for _ in range(4)
    ]

    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b".")
        worker.stdin.flush()

    assert [(worker.communicate()[1], worker.returncode) for worker in workers] == [(b"", 0)] * 4


@contextlib.contextmanager
def no_more_than(octets: int) -> Iterator[None]:
    """Let no file grow beyond that, as a disk that is full: Python ignores the signal, and writing fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_a_change_is_refused_whole_and_taken_once_there_is_room(tmp_path: Path):
    ledger, rounds = rounds_at(tmp_path / "aggregator.db", KEY)
    before, entries = ledger.digest(), ledger.audit()
    held = (tmp_path / "aggregator.db-wal").stat().st_size

    with no_more_than(held), pytest.raises(LedgerError, match="cannot be written"):
        rounds.enrol("attic", KEY.public_key(), now_us=NOW_US)

    assert (ledger.digest(), ledger.audit()) == (before, entries)
    rounds.enrol("attic", KEY.public_key(), now_us=NOW_US)
    assert [entry["what"] for entry in ledger.audit()] == ["enrolled"]


def test_a_file_that_another_program_holds_is_said_to_be_and_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stores, "PATIENCE_S", 0.05)
    ledger, rounds = rounds_at(tmp_path / "aggregator.db", KEY)
    before = ledger.digest()
    with contextlib.closing(sqlite3.connect(tmp_path / "aggregator.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")

        with pytest.raises(LedgerError, match="cannot be written: database is locked"):
            rounds.enrol("attic", KEY.public_key(), now_us=NOW_US)
        with pytest.raises(LedgerError, match="cannot be used: database is locked"):
            Ledger(tmp_path / "aggregator.db")

    assert ledger.digest() == before
    rounds.enrol("attic", KEY.public_key(), now_us=NOW_US)
