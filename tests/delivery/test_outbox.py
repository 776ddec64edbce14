import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.delivery.clock import CLOCK_SET_US
from agent.delivery.outbox import _MIGRATIONS, Bounds, Letter, Outbox
from contracts.errors import OutboxError


def letter(number, severity=2, size=10):
    return Letter(severity, "replay", "scan", f"alert-{number}", b"x" * size)


def ids(outbox):
    return [each.alert_id for _, each in outbox.after(0, 1_000)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


def test_letters_come_out_in_order_of_arrival_from_any_place(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(number) for number in range(5)])
    first = outbox.after(0, 1)[0]

    assert first[1] == letter(0)
    assert [each.alert_id for _, each in outbox.after(first[0], 2)] == ["alert-1", "alert-2"]


def test_what_is_added_and_removed_is_counted_in_rows_and_bytes(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(0, size=10), letter(1, size=20)])
    (number, _), _ = outbox.after(0, 9)

    assert (len(outbox), outbox.size_bytes) == (2, 30)
    assert outbox.apply(added=[letter(2, size=5)], removed=[number, number, 999]) == 1
    assert (len(outbox), outbox.size_bytes) == (2, 25)


def test_letters_survive_a_restart_and_their_ids_are_not_used_again(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(0), letter(1)])
    outbox.apply(removed=[number for number, _ in outbox.after(0, 9)])
    outbox.close()

    again = Outbox(path)
    again.apply(added=[letter(2)])

    assert [number for number, _ in again.after(0, 9)] == [3]
    assert (len(again), again.size_bytes) == (1, 10)


def test_above_the_number_of_rows_the_lowest_severity_leaves_first_and_of_one_severity_the_oldest(path):
    outbox = Outbox(path, bounds=Bounds(rows=3))
    outbox.apply(added=[letter(0, severity=2), letter(1, severity=1), letter(2, severity=3), letter(3, severity=2)])
    assert (ids(outbox), outbox.dropped) == (["alert-0", "alert-1", "alert-3"], 1)

    outbox.apply(added=[letter(4, severity=1)])
    assert (ids(outbox), outbox.dropped) == (["alert-1", "alert-3", "alert-4"], 2)

    outbox.apply(added=[letter(5, severity=3)])
    assert (ids(outbox), outbox.dropped) == (["alert-1", "alert-3", "alert-4"], 3)


def test_exactly_the_bound_in_bytes_stays_and_one_byte_more_makes_room(path):
    outbox = Outbox(path, bounds=Bounds(size_bytes=100))
    outbox.apply(added=[letter(0, size=40), letter(1, size=60)])
    assert len(outbox) == 2

    outbox.apply(added=[letter(2, size=1)])
    assert (ids(outbox), outbox.size_bytes, outbox.dropped) == (["alert-1", "alert-2"], 61, 1)


def test_a_letter_of_exactly_the_age_stays_and_one_older_leaves(path):
    now_us = [CLOCK_SET_US + 10**15]
    outbox = Outbox(path, bounds=Bounds(age_s=60), clock_us=lambda: now_us[0])
    outbox.apply(added=[letter(0)])

    now_us[0] += 60_000_000
    outbox.apply(added=[letter(1)])
    assert ids(outbox) == ["alert-0", "alert-1"]

    now_us[0] += 1
    outbox.apply()
    assert (ids(outbox), outbox.dropped) == (["alert-1"], 1)


def test_a_letter_from_before_the_clock_was_set_is_not_taken_for_old(path):
    now_us = [5_000_000]
    outbox = Outbox(path, bounds=Bounds(age_s=60), clock_us=lambda: now_us[0])
    outbox.apply(added=[letter(0)])

    now_us[0] = CLOCK_SET_US + 10**15
    outbox.apply(added=[letter(1)])

    assert ids(outbox) == ["alert-0", "alert-1"]


def test_the_file_is_for_its_owner_alone(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(0)])

    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_another_process_cannot_use_it_at_the_same_time_but_afterwards(path):
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match=r"outbox\.db is in use by another process"):
        Outbox(path)

    outbox.close()
    Outbox(path).close()


@pytest.mark.parametrize("start", [b"this is not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4_000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, start):
    path.write_bytes(start)

    with pytest.raises(OutboxError, match=r"outbox\.db is damaged \(.*\): move it away"):
        Outbox(path)
    assert path.read_bytes() == start


def test_a_damaged_page_is_found_when_the_outbox_is_opened(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(number, size=900) for number in range(50)])
    outbox.close()
    raw = bytearray(path.read_bytes())
    raw[8192:] = b"\xa5" * (len(raw) - 8192)
    path.write_bytes(raw)

    with pytest.raises(OutboxError, match=r"outbox\.db is damaged"):
        Outbox(path)


def test_another_programs_database_is_not_taken_for_an_outbox(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()

    with pytest.raises(OutboxError, match="is another program's database, wanted an outbox of format 3"):
        Outbox(path)


def test_an_outbox_of_a_later_format_says_which(path):
    Outbox(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 4")
    db.close()

    with pytest.raises(OutboxError, match="is format 4, wanted an outbox of format 3"):
        Outbox(path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutboxError, match=r"nowhere/outbox\.db cannot be opened: No such file"):
        Outbox(tmp_path / "nowhere" / "outbox.db")


def test_a_closed_outbox_says_so(path):
    outbox = Outbox(path)
    outbox.close()
    outbox.close()

    with pytest.raises(OutboxError, match="is closed"):
        outbox.apply(added=[letter(0)])


def test_a_disk_that_takes_nothing_leaves_the_counts_as_they_were(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(0)])
    outbox._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way of a full disk

    with pytest.raises(OutboxError, match="cannot be read or written: database or disk is full"):
        outbox.apply(added=[letter(1, size=100_000)])

    assert (len(outbox), outbox.size_bytes, outbox.dropped, ids(outbox)) == (1, 10, 0, ["alert-0"])


@contextmanager
def no_file_grows_beyond(size_bytes):
    """Let the kernel refuse to write past a size, as a full disk does: an INSERT fits into memory, COMMIT fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_commit_that_fails_leaves_the_counts_as_they_were_and_costs_no_letter_afterwards(path):
    outbox = Outbox(path, bounds=Bounds(rows=40))
    outbox.apply(added=[letter(0)])

    with no_file_grows_beyond(path.with_name("outbox.db-wal").stat().st_size):
        for _ in range(3):
            with pytest.raises(OutboxError, match="cannot be read or written"):
                outbox.apply(added=[letter(1)] * 24, removed=[1])
    assert (len(outbox), outbox.size_bytes, outbox.dropped) == (1, 10, 0)

    outbox.apply(added=[letter(2), letter(3)])
    assert (len(outbox), outbox.dropped, ids(outbox)) == (3, 0, ["alert-0", "alert-2", "alert-3"])


WRITER = """
import sys
from pathlib import Path
from agent.delivery.outbox import Letter, Outbox
outbox = Outbox(Path(sys.argv[1]))
for number in range(10_000):
    outbox.apply(added=[Letter(2, "replay", "scan", str(number), b"x" * 500)])
    print(number, flush=True)
"""


def test_what_apply_returned_from_is_there_after_the_process_is_killed_and_its_files_are_copied_away(path, tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    for last in writer.stdout:
        if int(last) == 20:
            break
    # As a power cut would find them: in the middle of something, with the write-ahead log beside the file.
    writer.send_signal(signal.SIGSTOP)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("outbox.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy / file.name)
    writer.kill()
    writer.wait()

    promised = int((last + writer.stdout.read()).split()[-1])
    found = ids(Outbox(copy / "outbox.db"))

    assert found[: promised + 1] == [str(number) for number in range(promised + 1)]
    assert found == [str(number) for number in range(len(found))]


def test_the_settings_that_survive_a_power_cut_are_in_force(path):
    outbox = Outbox(path)

    assert outbox._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_threads_may_share_it(path):
    outbox = Outbox(path)

    def work(name):
        for number in range(20):
            outbox.apply(added=[letter(f"{name}-{number}")])
            outbox.apply(removed=[outbox.after(0, 1)[0][0]])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outbox) == len(ids(outbox))
    assert outbox.size_bytes == 10 * len(outbox)


def test_a_temporary_outbox_stands_where_temporary_files_do_and_can_be_deleted():
    outbox = Outbox.temporary()
    outbox.apply(added=[letter(0)])
    assert outbox.path.name.startswith("penstock-outbox-")

    outbox.delete()

    assert not [name for name in os.listdir(Path(outbox.path).parent) if name.startswith(outbox.path.name)]


FORMAT_1 = """
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    added_us INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    class TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX alerts_by_worth ON alerts (severity DESC, id);
INSERT INTO alerts VALUES (7, 1, 2, 'replay', 'scan', 'old', x'7878');
PRAGMA application_id = 0x50454E53;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""


def test_a_file_of_format_1_is_brought_to_this_one_with_what_is_in_it(path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1)

    outbox = Outbox(path)
    outbox.apply(added=[letter("new")._replace(format="cef", is_timed=False)])

    assert outbox.after(0, 9) == [
        (7, Letter(2, "replay", "scan", "old", b"xx", "eve", True)),
        (8, Letter(2, "replay", "scan", "alert-new", b"x" * 10, "cef", False)),
    ]
    outbox.close()
    assert [each.format for _, each in Outbox(path).after(0, 9)] == ["eve", "cef"]


def test_a_file_of_format_2_is_brought_to_this_one_with_what_is_in_it(path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1 + _MIGRATIONS[1] + "PRAGMA user_version = 2;")

    outbox = Outbox(path)
    outbox.apply(added=[letter("new")._replace(topic="penstock/v1/replay/update/1")])

    assert [each.topic for _, each in outbox.after(0, 9)] == ["", "penstock/v1/replay/update/1"]


def test_a_migration_that_is_cut_off_leaves_the_old_format(path, monkeypatch):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1)
    half = _MIGRATIONS[1].replace("ALTER TABLE alerts ADD COLUMN is_timed", "ALTER TABLE nothing ADD COLUMN is_timed")
    monkeypatch.setitem(_MIGRATIONS, 1, half)
    with pytest.raises(OutboxError):
        Outbox(path)

    monkeypatch.undo()

    assert ids(Outbox(path)) == ["old"]


def later_format(path):
    Outbox(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def damaged(path):
    outbox = Outbox(path)
    outbox.apply(added=[letter(number, size=900) for number in range(50)])
    outbox.close()
    raw = bytearray(path.read_bytes())
    raw[8192:] = b"\xa5" * (len(raw) - 8192)
    path.write_bytes(raw)


def damaged_words(path):
    """Damage the file where SQLite quotes it in its complaint, with an octet that no UTF-8 has."""
    Outbox(path).close()
    raw = path.read_bytes()
    assert raw.count(b"CREATE TABLE alerts") == 1
    path.write_bytes(raw.replace(b"CREATE TABLE alerts", b"CREAT\xa4 TABLE alerts"))


def no_database(path):
    path.write_bytes(b"this is not a database" * 100)


@pytest.mark.parametrize("make", [later_format, damaged, damaged_words, no_database])
def test_a_service_sets_aside_what_it_cannot_use_and_begins_anew(path, make, caplog):
    make(path)
    before = path.read_bytes()

    outbox = Outbox(path, sets_aside=True)
    outbox.apply(added=[letter("new")])

    assert ids(outbox) == ["alert-new"]
    assert outbox.aside == path.with_name("outbox.db.aside-1")
    assert outbox.aside.read_bytes() == before
    assert caplog.text.count("it stands now in") == 1
    with pytest.raises(OutboxError, match="in use by another process"):
        Outbox(path)


def test_another_programs_database_is_never_set_aside(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")

    with pytest.raises(OutboxError, match="another program's database"):
        Outbox(path, sets_aside=True)
    assert [each.name for each in path.parent.iterdir()] == ["outbox.db"]


def test_only_the_last_three_files_set_aside_are_kept(path):
    for number in range(5):
        path.write_bytes(b"damage %d " % number * 200)
        Outbox(path, sets_aside=True).close()

    kept = sorted(each.name for each in path.parent.glob("*.aside-*"))
    assert kept == ["outbox.db.aside-3", "outbox.db.aside-4", "outbox.db.aside-5"]
    assert path.with_name("outbox.db.aside-5").read_bytes().startswith(b"damage 4")


def test_a_file_that_goes_bad_while_in_use_is_set_aside_and_what_comes_is_kept(path):
    outbox = Outbox(path, sets_aside=True)
    outbox.apply(added=[letter(number, size=900) for number in range(50)])
    outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox._db.execute("PRAGMA cache_size = 0")
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192))

    outbox.apply(added=[letter("new")], removed=[1, 2])

    assert (ids(outbox), len(outbox), outbox.dropped_by["damaged"]) == (["alert-new"], 1, 50)
    assert path.with_name("outbox.db.aside-1").exists()
    outbox.apply(added=[letter("newer")])
    assert ids(outbox) == ["alert-new", "alert-newer"]


def test_what_leaves_is_counted_by_reason(path):
    now_us = [CLOCK_SET_US + 10**15]
    outbox = Outbox(path, bounds=Bounds(rows=3, size_bytes=100, age_s=60), clock_us=lambda: now_us[0])
    outbox.apply(added=[letter(0), letter(1)])
    outbox.apply(unsendable=[1])
    now_us[0] += 60_000_001
    outbox.apply(added=[letter(number) for number in range(2, 6)])
    outbox.apply(added=[letter(6, size=90)])

    assert outbox.dropped_by == {"rows": 2, "bytes": 1, "age": 1, "unsendable": 1, "damaged": 0}
    assert outbox.dropped == 5


def test_a_letter_of_a_time_when_the_clock_was_not_set_does_not_grow_old(path):
    now_us = [CLOCK_SET_US + 10**15]
    outbox = Outbox(path, bounds=Bounds(age_s=60), clock_us=lambda: now_us[0])
    outbox.apply(added=[letter(0)._replace(is_timed=False), letter(1)])

    now_us[0] += 10**13
    outbox.apply()

    assert ids(outbox) == ["alert-0"]


def test_how_long_the_oldest_waits_is_known_without_asking_the_disk(path):
    now_us = [CLOCK_SET_US + 10**15]
    outbox = Outbox(path, clock_us=lambda: now_us[0])
    assert outbox.oldest_us is None
    for _ in range(2):
        outbox.apply(added=[letter(0)])
        now_us[0] += 5

    first = outbox.oldest_us
    outbox.apply(removed=[1])
    second = outbox.oldest_us
    outbox.apply(removed=[2])

    assert (first, second, outbox.oldest_us) == (CLOCK_SET_US + 10**15, CLOCK_SET_US + 10**15 + 5, None)
