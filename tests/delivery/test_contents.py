"""What waits in an outbox, read beside its owner, after it was killed, and from files nobody should take for one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cli
from agent.delivery.clock import CLOCK_SET_US
from agent.delivery.contents import WAIT_S, Contents, Pile, contents_of
from agent.delivery.outbox import Letter, Outbox
from contracts.errors import DataMissing, OutboxError
from tests.delivery.test_outbox import FORMAT_1, damaged, damaged_words, later_format, no_database

NOW_US = CLOCK_SET_US + 30 * 86_400_000_000
S_US = 1_000_000


def letter(name: str, *, severity: int = 2, attack: str = "scan", octets: int = 10, **changes: object) -> Letter:
    return Letter(severity, "cellar", attack, name, b"x" * octets)._replace(**changes)


def filled(path: Path, ages_s: dict[float, list[Letter]]) -> None:
    """Make an outbox of letters that came so many seconds before NOW_US, the oldest first."""
    now_us = 0
    outbox = Outbox(path, clock_us=lambda: now_us)
    for age_s, letters in ages_s.items():
        now_us = NOW_US - round(age_s * S_US)
        outbox.apply(added=letters)
    outbox.close()


def read(path: Path) -> Contents:
    return contents_of(path, now_us=NOW_US)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_letters_are_counted_by_topic_and_severity_the_worst_first(path: Path):
    here = [letter("a"), letter("b", severity=1, attack="flood", octets=7), letter("c", octets=5)]
    filled(path, {30: [*here, letter("d", attack="", topic="penstock/v1/cellar/update/7")]})

    seen = [(each.topic, each.severity, each.letters, each.size_bytes) for each in read(path).piles]

    assert seen == [
        ("penstock/v1/cellar/alert/flood", 1, 1, 7),
        ("penstock/v1/cellar/alert/scan", 2, 2, 15),
        ("penstock/v1/cellar/update/7", 2, 1, 10),
    ]
    assert (read(path).letters, read(path).size_bytes) == (4, 32)


def test_an_age_ends_with_its_last_microsecond(path: Path):
    ages_s = [6 * 86_400, 86_400.000001, 86_400, 3600.000001, 3600, 60.000001, 60, 0]
    filled(path, {age_s: [letter(str(age_s))] for age_s in ages_s})

    seen = {each.age: (each.letters, NOW_US - each.oldest_us) for each in read(path).piles}

    assert seen == {
        "minute": (2, 60 * S_US),
        "hour": (2, 3600 * S_US),
        "day": (2, 86_400 * S_US),
        "older": (2, 6 * 86_400 * S_US),
    }
    assert read(path).oldest_us == NOW_US - 6 * 86_400 * S_US


def test_a_letter_of_a_time_when_the_clock_was_not_set_is_of_unknown_age(path: Path):
    filled(path, {NOW_US / S_US - 5: [letter("1970")], 10: [letter("unsure", is_timed=False), letter("sure")]})

    seen = {each.age: each.letters for each in read(path).piles}

    assert seen == {"minute": 1, "unknown": 2}


def test_an_outbox_that_nothing_waits_in_holds_nothing(path: Path):
    Outbox(path).close()
    begun = read(path)
    path.write_bytes(b"")  # what stands there until the first of its pages is written

    assert begun == read(path) == Contents(piles=(), aside=())
    assert (begun.letters, begun.size_bytes, begun.oldest_us) == (0, 0, None)


def test_what_a_killed_owner_had_committed_is_seen_and_still_there_for_the_next(path: Path):
    script = (
        "import os, sys; from pathlib import Path; from agent.delivery.outbox import Letter, Outbox;"
        "outbox = Outbox(Path(sys.argv[1]));"
        "outbox.apply(added=[Letter(2, 'cellar', 'scan', str(number), b'x') for number in range(9)]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=120)
    assert os.stat(f"{path}-wal").st_size > 0

    seen = read(path).letters

    assert (seen, len(Outbox(path))) == (9, 9)


def test_a_reader_that_stays_does_not_hold_up_the_owner(path: Path):
    outbox = Outbox(path)
    outbox.apply(added=[letter("before")])
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM alerts").fetchone()

        outbox.apply(added=[letter(str(number)) for number in range(500)], removed=[1])

        assert (read(path).letters, len(outbox)) == (500, 500)
        assert reader.execute("SELECT count(*) FROM alerts").fetchone() == (1,)
    outbox.close()


@pytest.mark.parametrize("letters", [0, 3])
def test_reading_changes_no_octet_of_the_file(path: Path, letters: int):
    filled(path, {5: [letter(str(number)) for number in range(letters)]})
    before = path.read_bytes()

    read(path)

    assert path.read_bytes() == before


def test_a_file_of_the_first_format_is_read_and_stays_one(path: Path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1)

    assert read(path).piles == (
        Pile(topic="penstock/v1/replay/alert/scan", severity=2, age="unknown", letters=1, size_bytes=2, oldest_us=1),
    )
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (later_format, "is format 99, wanted 3 or an earlier one"),
        (damaged, "cannot be read: .*(malformed|not a database)"),
        (no_database, "cannot be read: file is not a database"),
        (damaged_words, r'cannot be read: malformed database schema .*"CREAT\\xa4"'),
        (os.mkfifo, "cannot be read: not a regular file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE mine (x)"), "is another program's database"),
    ],
)
def test_what_is_no_outbox_of_ours_is_told(path: Path, make, said: str):
    make(path)

    with pytest.raises(OutboxError, match=rf"outbox: .*outbox\.db {said}"):
        read(path)


@pytest.mark.parametrize("column", ["added_us", "severity", "gateway", "class", "topic", "payload", "is_timed"])
@pytest.mark.parametrize("value", [b"\xff\x00", "later", 1.5e300, -(1 << 63), (1 << 63) - 1])
def test_a_column_that_holds_another_type_is_shown_all_the_same(
    path: Path, column: str, value: object, capsys: pytest.CaptureFixture[str]
):
    filled(path, {60: [letter("a"), letter("b")]})
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE alerts SET {column} = ? WHERE alert_id = 'b'", (value,))

    codes = [cli.main(["outbox", str(path), *more]) for more in ([], ["--json"])]

    assert codes == [0, 0]
    assert read(path).letters == 2
    assert "letters  2" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_told_and_not_made(path: Path):
    with pytest.raises(DataMissing, match=r"outbox\.db is not there: nothing was kept in it yet"):
        read(path)

    assert list(path.parent.iterdir()) == []


def test_an_owner_that_holds_the_file_whole_is_waited_for_no_longer_than_it_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    filled(path, {5: [letter("a")]})
    monkeypatch.setattr("agent.delivery.contents.WAIT_S", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")

        with pytest.raises(OutboxError, match="cannot be read: database is locked"):
            read(path)

    assert WAIT_S == 5.0


def test_files_set_aside_are_named_with_all_their_octets(path: Path):
    filled(path, {5: [letter("a")]})
    for name, octets in (("aside-1", 10), ("aside-1-wal", 5), ("aside-2", 1), ("aside-x", 9), ("other", 9)):
        path.with_name(f"{path.name}.{name}").write_bytes(bytes(octets))

    assert read(path).aside == ((path.with_name("outbox.db.aside-1"), 15), (path.with_name("outbox.db.aside-2"), 1))
