"""A ledger in PostgreSQL: workers that race, a server that goes and comes back, kills, what a URL may say and hide."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from contracts.errors import ConfigError, MissingExtra
from federation.aggregator.ledger import TABLES, Ledger, LedgerError
from federation.aggregator.moving import copy
from federation.aggregator.postgres import _defaults
from federation.aggregator.rounds import Rounds, RoundSettings
from federation.aggregator.stores import NO_PASSWORD, masked
from tests.delivery.certificates import Authority
from tests.federation.conftest import NewFolder
from tests.federation.homes import NOW_US, STORE, bundle, hold_out, store_of
from tests.federation.postgres import DATABASE, PASSWORD, Cluster
from tests.federation.test_rounds import HOUR_US, KEY, LATER_US, NAMES, Fleet

psycopg = pytest.importorskip("psycopg", reason="no psycopg: pip install 'penstock[postgres]'")

ROOT = Path(__file__).resolve().parents[2]


def in_child(script: str, *words: str) -> subprocess.Popen[str]:
    """Run a script in another process that can import what we can."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *words], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def fleet_at(folder: Path, store: str) -> Fleet:
    folder.mkdir(exist_ok=True)
    (folder / STORE).write_text(store)
    return Fleet(folder)


def ended(child: subprocess.Popen[str]) -> str:
    told, complaint = child.communicate(timeout=120)
    assert child.returncode == 0, complaint
    return told


# -- several at once --------------------------------------------------------------------------------------------------

RACER = """
    import sys
    from pathlib import Path
    from tests.federation.test_rounds import NAMES, Fleet

    fleet = Fleet(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(5):
        for name in NAMES:
            print(fleet.submit(name))
"""


def test_two_workers_that_race_on_the_same_updates_count_none_twice(cluster: Cluster, tmp_path: Path):
    fleet = fleet_at(tmp_path, cluster.new_store())
    workers = [in_child(RACER, str(tmp_path)) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"

    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [line for worker in workers for line in ended(worker).splitlines()]

    assert sorted(said) == ["accepted"] * 5 + ["repeated"] * 45
    assert fleet.ledger.counters() == {"accepted": 5, "repeated": 45}
    assert [entry["what"] for entry in fleet.ledger.audit()].count("accepted") == 5
    assert fleet.ledger.row("SELECT count(*) FROM updates") == (5,)


MAKER = """
    import sys
    from federation.aggregator.ledger import Ledger

    print("ready", flush=True)
    sys.stdin.readline()
    print(Ledger(sys.argv[1]).digest())
"""


def test_tables_are_made_once_by_those_that_find_none_at_the_same_time(cluster: Cluster):
    store = cluster.new_store()
    workers = [in_child(MAKER, store) for _ in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"

    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    digests = {ended(worker).strip() for worker in workers}

    assert len(digests) == 1
    with cluster.connect(store) as db:
        assert db.execute("SELECT count(*) FROM penstock_ledger").fetchone() == (1,)


def test_a_change_waits_for_another_one_s_and_reads_what_it_left(cluster: Cluster, tmp_path: Path):
    """Without the lock both would read the same last entry of the audit log, and one would end in an error."""
    store = cluster.new_store()
    fleet = fleet_at(tmp_path, store)
    first, second = Ledger(store), in_child(RACER, str(tmp_path))
    assert second.stdout.readline() == "ready\n"
    with first.change() as ledger:
        ledger.log("first", at_us=1)
        second.stdin.write("go\n")
        second.stdin.flush()
        waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: ledger.row(waits) is not None)

    assert ended(second).splitlines()[0] == "accepted"
    told = [entry["what"] for entry in fleet.ledger.audit()]
    assert told.index("first") < told.index("accepted")


def test_a_snapshot_stays_as_it_was_and_keeps_nobody_waiting(new_folder: NewFolder):
    where = store_of(new_folder("here"))
    looking, writing = Ledger(where), Ledger(where)

    with looking.snapshot():
        assert looking.counters() == {}
        counted(writing, "meanwhile")
        assert looking.counters() == {}

    assert looking.counters() == {"meanwhile": 1}


def wait_for(is_so) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_who_waits_too_long_for_the_lock_says_so_and_nothing_is_changed(cluster: Cluster):
    store = cluster.new_store()
    first, second = Ledger(store), Ledger(store)
    second._store.execute("SET lock_timeout = '50ms'")

    with first.change(), pytest.raises(LedgerError, match="cannot be written: canceling statement due to lock timeout"):
        counted(second, "never")

    counted(second, "now")
    assert second.counters() == {"now": 1}


def counted(ledger: Ledger, what: str) -> None:
    with ledger.change():
        ledger.count(what)


# -- a server that goes, a worker that is killed ----------------------------------------------------------------------


def test_a_server_that_crashes_in_the_middle_of_a_round_loses_nothing_and_nobody_starts_anew(
    own_cluster: Cluster, tmp_path: Path
):
    wanted = whole_round(fleet_at(tmp_path / "whole", own_cluster.new_store()))
    fleet = fleet_at(tmp_path / "crashed", own_cluster.new_store())
    fleet.submit("attic")
    before = fleet.ledger.digest()
    own_cluster.crash()

    with pytest.raises(LedgerError, match="cannot be written: ") as caught:
        fleet.submit("barn")
    with pytest.raises(LedgerError, match="cannot be read: "):
        fleet.ledger.counters()
    own_cluster.start()

    assert "\n" not in str(caught.value)
    assert fleet.ledger.digest() == before
    assert fleet.submit("attic") == "repeated"
    assert whole_round(fleet) == wanted
    assert fleet.ledger.counters()["accepted"] == 5
    assert fleet.ledger.audit()[-1]["what"] == "adopted"


def whole_round(fleet: Fleet) -> str:
    for name in NAMES:
        fleet.submit(name)
    assert fleet.rounds.close(now_us=LATER_US, hold_out=hold_out()).state == "adopted"
    return fleet.rounds.head.sha256


def test_a_server_that_was_restarted_between_two_messages_is_not_noticed(own_cluster: Cluster, tmp_path: Path):
    fleet = fleet_at(tmp_path, own_cluster.new_store())
    fleet.submit("attic")
    own_cluster.restart()

    assert fleet.submit("barn") == "accepted"
    own_cluster.restart()
    assert fleet.ledger.counters()["accepted"] == 2


def test_a_connection_lost_in_a_transaction_leaves_nothing_of_it(cluster: Cluster, tmp_path: Path):
    fleet = fleet_at(tmp_path, cluster.new_store())
    before = fleet.ledger.digest(), fleet.ledger.counters(), fleet.ledger.audit()

    with pytest.raises(LedgerError, match="cannot be written: terminating connection due to administrator command"):
        half_done(fleet.ledger, cluster)

    assert (fleet.ledger.digest(), fleet.ledger.counters(), fleet.ledger.audit()) == before
    assert fleet.submit("attic") == "accepted"


def half_done(ledger: Ledger, cluster: Cluster) -> None:
    with ledger.change():
        ledger.run("UPDATE rounds SET state = 'void'")
        (pid,) = ledger.row("SELECT pg_backend_pid()")
        with cluster.connect() as db:
            db.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        ledger.count("half")


def test_a_commit_whose_answer_is_lost_is_asked_again_and_counted_once(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fleet = fleet_at(tmp_path, cluster.new_store())
    store = fleet.ledger._store
    committed = store.commit

    def lost() -> None:
        committed()
        store._db.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", lost)
        with pytest.raises(LedgerError, match="closed the connection"):
            fleet.submit("attic")

    assert fleet.submit("attic") == "repeated"
    assert fleet.ledger.counters() == {"accepted": 1, "repeated": 1}


DYING = """
    import os, signal, sys
    from federation.aggregator.ledger import Ledger

    ledger = Ledger(sys.argv[1])
    with ledger.change():
        ledger.run("UPDATE rounds SET state = 'void'")
        ledger.count("half")
        print("in it", flush=True)
        sys.stdin.readline()
"""


def test_a_worker_killed_in_a_transaction_frees_the_others_and_leaves_nothing(cluster: Cluster, tmp_path: Path):
    store = cluster.new_store()
    fleet = fleet_at(tmp_path, store)
    before = fleet.ledger.digest()
    dying = in_child(DYING, store)
    assert dying.stdout.readline() == "in it\n"

    dying.send_signal(signal.SIGKILL)
    dying.communicate(timeout=120)

    assert fleet.submit("attic") == "accepted"
    fleet.rounds.revoke("attic", now_us=NOW_US + 2 * HOUR_US)
    assert fleet.ledger.counters() == {"accepted": 1}
    assert dying.returncode == -signal.SIGKILL
    assert fleet.ledger.row("SELECT state FROM rounds") == ("open",)
    assert fleet.ledger.digest() != before


def test_both_stores_hold_the_same_state_to_the_bit(cluster: Cluster, tmp_path: Path):
    digests = []
    for place, store in (("one", str(tmp_path / "one" / "aggregator.db")), ("two", cluster.new_store())):
        fleet = fleet_at(tmp_path / place, store)
        whole_round(fleet)
        digests.append((fleet.ledger.digest(), fleet.ledger.counters(), fleet.ledger.audit()))

    assert digests[0] == digests[1]


def test_a_commit_after_a_failed_statement_is_not_taken_for_one(cluster: Cluster):
    ledger = Ledger(cluster.new_store())

    with pytest.raises(LedgerError, match="a statement of the transaction had failed"):
        failing_unseen(ledger)

    assert ledger.counters() == {}


def failing_unseen(ledger: Ledger) -> None:
    with ledger.change():
        ledger.count("half")
        with pytest.raises(LedgerError, match="no_such_table"):
            ledger.row("SELECT 1 FROM no_such_table")


def test_another_fleet_s_database_a_foreign_one_and_one_of_another_format_are_refused(cluster: Cluster, tmp_path: Path):
    fleet = fleet_at(tmp_path, cluster.new_store())
    with pytest.raises(LedgerError, match="of fleet homes, wanted others"):
        Rounds(fleet.ledger, bundle(), fleet="others", key=KEY, settings=RoundSettings())
    foreign = cluster.new_store()
    with cluster.connect(foreign) as db:
        db.execute("CREATE TABLE rounds (who TEXT)")
    with pytest.raises(LedgerError, match='relation "rounds" already exists'):
        Ledger(foreign)
    later = cluster.new_store()
    Ledger(later).close()
    with cluster.connect(later) as db:
        db.execute("UPDATE penstock_ledger SET format = 2")
    with pytest.raises(LedgerError, match="not an aggregator's database of this format"):
        Ledger(later)


def test_a_database_that_is_not_utf8_is_refused(cluster: Cluster):
    with cluster.connect() as db:
        db.execute("CREATE DATABASE narrow ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")

    with pytest.raises(LedgerError, match="its encoding is LATIN1, wanted UTF8"):
        Ledger(cluster.url().replace("/postgres?", "/narrow?"))


def test_a_commit_is_on_disk_whatever_the_server_does_by_default(own_cluster: Cluster):
    with own_cluster.connect() as db:
        db.execute("ALTER SYSTEM SET synchronous_commit = off")
        db.execute("ALTER SYSTEM SET default_transaction_isolation = 'serializable'")
        db.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    own_cluster.restart()

    ledger = Ledger(own_cluster.url())
    with ledger.change():
        ledger.count("one")

    assert ledger.row("SHOW synchronous_commit") == ("on",)
    assert ledger.counters() == {"one": 1}


def test_a_worker_that_vanishes_in_a_change_is_thrown_out_in_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """How long a server waits for a machine without power is what it says itself."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    store = cluster.url(over_tcp=True)
    ledger, stopped = Ledger(store), Ledger(store)
    told = {name: ledger.row(f"SHOW {name}")[0] for name in ("idle_in_transaction_session_timeout", "lock_timeout")}
    told |= {name: ledger.row(f"SHOW tcp_keepalives_{name}")[0] for name in ("idle", "interval", "count")}
    stopped._store.begin()
    stopped._store.execute("SET idle_in_transaction_session_timeout = '100ms'")  # from when it has the lock on

    counted(ledger, "after it")

    assert list(told.values()) == ["5min", "10s", "10", "5", "3"]
    with pytest.raises(LedgerError, match="idle-in-transaction timeout"):
        stopped.row("SELECT 1")
    stopped._store.rollback()
    assert stopped.counters() == {"after it": 1}


# -- what a URL says, and what nobody may read ------------------------------------------------------------------------


def test_a_password_comes_from_a_file_or_the_environment_and_is_in_no_log(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{cluster.port}:*:{DATABASE}:{PASSWORD}\n")
    file.chmod(0o600)
    url = cluster.url(over_tcp=True)

    with pytest.raises(LedgerError, match="no password supplied"):
        Ledger(url)
    Ledger(cluster.url(f"passfile={file}", over_tcp=True)).close()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    Ledger(url).close()
    monkeypatch.setenv("PGPASSWORD", "another secret")
    with pytest.raises(LedgerError, match="password authentication failed") as caught:
        Ledger(url)

    assert "another secret" not in str(caught.value)
    assert PASSWORD not in cluster.log()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hush@db/penstock",
        "postgres://ann:hush%40hush@db,other/penstock",
        "postgresql://ann@db/penstock?password=hush",
        "postgresql://ann@db/penstock?sslmode=require&sslpassword=hush",
        "postgresql://ann@db/penstock?%70assword=hush",
        "postgresql://ann@db/penstock?passwort=hush&x=password=hush",
        "postgresql://:hush@",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(url: str):
    with pytest.raises(ConfigError) as caught:
        Ledger(url)

    assert "hush" not in str(caught.value)
    assert NO_PASSWORD in str(caught.value) or "passwort" in str(caught.value)


def test_a_url_in_a_text_is_shown_without_its_password():
    told = 'could not: "postgres://ann:a@b:c/d@db:5432/x" and postgresql://db/x?password=hush&sslmode=require'

    assert masked(told) == 'could not: "postgres://***@db:5432/x" and postgresql://db/x?password=***&sslmode=require'


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://db.example/penstock", "verify-full"),
        ("postgresql://127.0.0.1,192.0.2.7/penstock", "verify-full"),
        ("postgresql://db.example/penstock?sslmode=disable", None),
        ("postgresql://db.example/penstock?service=fleet", None),
        ("postgresql:///penstock?host=/run/postgresql", None),
        ("postgresql:///penstock", None),
        ("postgresql://localhost/penstock", None),
        ("postgresql://[::1]:5433/penstock", None),
    ],
)
def test_beyond_this_machine_a_server_must_show_a_certificate_unless_a_url_says_otherwise(
    url: str, mode: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("PGSSLMODE", "PGSERVICE", "PGHOST"):
        monkeypatch.delenv(name, raising=False)

    assert _defaults(url, psycopg).get("sslmode") == mode


def test_parameters_of_tls_pass_through_the_url(tmp_path: Path, own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    own_cluster.with_certificate(*authority.issue("db"))
    told = ["sslmode=verify-full", f"sslrootcert={authority.ca}"]

    ledger = Ledger(own_cluster.url(*told, over_tcp=True))

    assert ledger.row("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == (True,)
    with pytest.raises(LedgerError, match="certificate verify failed"):
        Ledger(own_cluster.url(told[0], f"sslrootcert={other.ca}", over_tcp=True))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (
            "postgresql://db/penstock?sslmod=require",
            r'^store: invalid URI query parameter: "sslmod"$',
        ),
        ("postgresql://[::1/penstock", "store: "),
    ],
)
def test_a_url_that_is_none_is_a_setting_that_cannot_work(url: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        Ledger(url)


def test_without_the_extra_a_url_is_answered_by_the_line_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(MissingExtra, match=re.escape("psycopg is not installed: pip install 'penstock[postgres]'")):
        Ledger("postgresql:///penstock")


def test_who_keeps_to_sqlite_loads_no_psycopg(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from federation.aggregator import office, ledger;"
        "ledger.Ledger(Path(sys.argv[1]) / 'a.db').close(); print('psycopg' in sys.modules)"
    )

    assert ended(in_child(script, str(tmp_path))) == "False\n"


def test_a_server_that_is_away_is_named_with_code_74(tmp_path: Path):
    with pytest.raises(LedgerError, match=r"cannot be used: .*No such file or directory") as caught:
        Ledger(f"postgresql:///penstock?host={tmp_path}")

    assert caught.value.exit_code == 74
    assert "\n" not in str(caught.value)


# -- from one to the other --------------------------------------------------------------------------------------------


def test_a_ledger_moves_to_the_other_store_and_back_and_goes_on_there(cluster: Cluster, tmp_path: Path):
    fleet = fleet_at(tmp_path / "old", str(tmp_path / "old" / "aggregator.db"))
    for name in NAMES[:3]:
        fleet.submit(name)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / STORE).write_text(cluster.new_store())
    target = Ledger(store_of(tmp_path / "new"))

    rows = copy(fleet.ledger, target, now_us=LATER_US)

    assert target.digest() == fleet.ledger.digest()
    assert target.audit()[-1] == {"what": "copied", "at_us": LATER_US, "to": target.name}
    assert rows == 1 + 5 + 1 + 3 + 1 + len(target.audit())  # fleet, gateways, round, updates, a counter, the log
    moved = Fleet(tmp_path / "new")
    assert [moved.submit(name) for name in NAMES] == ["repeated"] * 3 + ["accepted"] * 2
    assert moved.rounds.close(now_us=LATER_US, hold_out=hold_out()).state == "adopted"
    back = Ledger(tmp_path / "back.db")
    copy(moved.ledger, back, now_us=LATER_US)
    assert back.digest() == moved.ledger.digest()
    assert back.rows("SELECT state FROM rounds") == [("adopted",)]


def test_nothing_is_copied_into_a_store_that_holds_a_fleet_or_from_one_whose_log_was_changed(
    cluster: Cluster, tmp_path: Path
):
    fleet = fleet_at(tmp_path / "one", cluster.new_store())
    held = fleet_at(tmp_path / "two", str(tmp_path / "two" / "aggregator.db"))
    before = held.ledger.digest(), held.ledger.audit(), fleet.ledger.audit()

    with pytest.raises(ValueError, match=r"aggregator\.db: holds a fleet already"):
        copy(fleet.ledger, held.ledger, now_us=LATER_US)
    assert (held.ledger.digest(), held.ledger.audit(), fleet.ledger.audit()) == before
    fleet.ledger.run("DELETE FROM audit WHERE number = 2")
    empty = Ledger(tmp_path / "empty.db")
    with pytest.raises(LedgerError, match="the audit log was changed at entry 2"):
        copy(fleet.ledger, empty, now_us=LATER_US)

    assert [table for table in TABLES if empty.rows(f"SELECT * FROM {table}")] == []


def test_every_table_is_copied(tmp_path: Path):
    ledger = Ledger(tmp_path / "aggregator.db")

    assert {name for (name,) in ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table'")} == set(TABLES)
