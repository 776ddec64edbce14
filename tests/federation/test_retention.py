"""What an aggregator's store lets go of: it grows with its fleet and not with the years, and counts as it did."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from contracts.rollout import read_archive
from contracts.signed import MessageRefused
from contracts.update import read_call
from federation.aggregator import ledger as ledgers
from federation.aggregator import rounds
from federation.aggregator.doctor import _store_as_seen
from federation.aggregator.ledger import Ledger, LedgerError
from federation.aggregator.moving import copy
from federation.aggregator.office import SAID_OF, Office
from federation.aggregator.post import MAX_REFUSED, Post
from federation.aggregator.program import _log
from federation.aggregator.releasing import BUNDLES, sweep
from federation.aggregator.retention import KEPT_ROUNDS
from federation.aggregator.settings import BrokerSection
from tests.federation.homes import NOW_US, hold_out, store_of
from tests.federation.private_fleet import PrivateFleet
from tests.federation.test_aggregator_program import config as config  # noqa: PLC0414  (fixtures for a test here)
from tests.federation.test_aggregator_program import office as office  # noqa: PLC0414
from tests.federation.test_masked_rounds import to_state
from tests.federation.test_rollout import DAY_US
from tests.federation.test_rollout import Fleet as Releases
from tests.federation.test_rounds import KEY, LATER_US, NAMES, Fleet


@pytest.fixture
def fleet(folder: Path) -> Fleet:
    return Fleet(folder)


def close(fleet: Fleet, *, who: tuple[str, ...] = NAMES) -> str:
    for name in who:
        fleet.submit(name)
    return fleet.rounds.close(now_us=LATER_US, hold_out=hold_out()).state


def open_next(fleet: Fleet) -> None:
    fleet.message = fleet.rounds.open(now_us=NOW_US)
    fleet.call = read_call(fleet.message, [KEY.public_key()])


def octets(ledger: Ledger) -> dict[str, int]:
    """Return how much is held of rounds, by what it is."""
    asked = {
        "updates": "SELECT count(*), sum(length(message)) FROM updates",
        "calls": "SELECT 0, sum(length(call) + length(base) + coalesce(length(head), 0)) FROM rounds",
        "private": "SELECT count(*), sum(length(message)) FROM private",
        "rosters": "SELECT count(roster), sum(length(roster)) FROM private_rounds",
        "sums": "SELECT count(total), sum(length(total)) FROM private_rounds",
    }
    return {what: sum(each or 0 for each in ledger.row(question)) for what, question in asked.items()}


def test_of_a_round_that_is_over_stays_who_sent_what_and_no_update(fleet: Fleet):
    sent = {name: fleet.update(name) for name in NAMES}
    fleet.submit("attic")
    assert fleet.ledger.row("SELECT length(message) FROM updates") == (len(sent["attic"]),)

    assert close(fleet) == "adopted"

    rows = fleet.ledger.rows("SELECT gateway, length(message) FROM updates ORDER BY gateway")
    assert rows == [(name, 0) for name in NAMES]
    logged = {each["gateway"]: each["sha256"] for each in fleet.ledger.audit() if each["what"] == "accepted"}
    assert logged == dict(fleet.ledger.rows("SELECT gateway, sha256 FROM updates"))


def test_a_round_without_a_quorum_and_one_that_a_way_back_ends_let_their_updates_go_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    releases = Releases(folder)
    releases.promote(10)
    for number in (1, 2):
        releases.rounds.open(now_us=NOW_US)
        releases.ledger.run("INSERT INTO updates VALUES (?, 'gateway0', 'a', ?, ?)", number, b"update", NOW_US)
        if number == 1:
            releases.rollouts.roll_back(why="by hand", now_us=LATER_US)
        else:
            monkeypatch.setattr(rounds, "read_update", lambda _: None)
            releases.rounds.close(now_us=NOW_US + DAY_US, hold_out=hold_out())
        assert releases.ledger.row("SELECT sum(length(message)) FROM updates") == (0,)

    assert releases.ledger.rows("SELECT state FROM rounds") == [("void",)] * 2


def test_what_comes_late_or_again_is_refused_and_counted_once_whatever_was_let_go(fleet: Fleet):
    first = {name: fleet.update(name) for name in NAMES}
    for number in range(2, KEPT_ROUNDS + 4):
        close(fleet)
        open_next(fleet)
        assert fleet.call.header.round == number
    before = fleet.ledger.digest()

    for name in NAMES:
        with pytest.raises(MessageRefused, match="round 1 is over"):
            fleet.rounds.submit(first[name], sender=name, now_us=LATER_US)

    assert fleet.ledger.digest() == before
    assert fleet.ledger.counters()["refused: expired round"] == len(NAMES)
    assert fleet.ledger.counters()["accepted"] == len(NAMES) * (KEPT_ROUNDS + 2)


def test_a_store_holds_as_much_after_many_rounds_as_after_some(fleet: Fleet):
    held = []
    for number in range(1, 3 * KEPT_ROUNDS):
        with pytest.raises(MessageRefused):
            fleet.rounds.submit(b"noise", sender="attic", now_us=LATER_US)
        close(fleet)
        open_next(fleet)
        if number > KEPT_ROUNDS:
            held.append((octets(fleet.ledger), len(fleet.ledger.counters())))

    assert held == [held[0]] * len(held)
    assert held[0][0]["updates"] == len(NAMES) * KEPT_ROUNDS  # rows, and no octets
    rows = fleet.ledger.rows("SELECT state FROM rounds")
    assert len(rows) == 3 * KEPT_ROUNDS  # a line each


def test_what_a_version_before_had_kept_goes_with_the_next_round(fleet: Fleet):
    close(fleet)
    fleet.ledger.run("UPDATE updates SET message = ?", b"all of it")

    open_next(fleet)

    assert fleet.ledger.row("SELECT sum(length(message)) FROM updates") == (0,)


def test_of_a_private_round_nothing_but_its_line_stays_once_the_next_opens(folder: Path):
    fleet = PrivateFleet(folder)
    to_state(fleet, "sum")
    assert fleet.masked.close(now_us=LATER_US, hold_out=hold_out()).state == "adopted"
    assert octets(fleet.ledger)["rosters"] > 1

    fleet.rounds.open(now_us=LATER_US)

    told = octets(fleet.ledger)
    assert (told["private"], told["rosters"], told["sums"]) == (0, 0, 0)
    assert fleet.ledger.rows("SELECT number, state FROM private_rounds") == [(1, "sum"), (2, "keys")]


class Cut(Exception):
    """Stands for a power cut in the middle of a change."""


@pytest.mark.parametrize("at", range(1, 9))
def test_cut_off_anywhere_while_a_round_opens_a_store_is_as_it_was(fleet: Fleet, at: int, monkeypatch):
    close(fleet)
    before, left, run = (fleet.ledger.digest(), fleet.ledger.audit()), at, Ledger.run

    def dying(self: Ledger, statement: str, *values: object) -> int:
        nonlocal left
        left -= 1
        if not left:
            raise Cut
        return run(self, statement, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "run", dying)
        if at < 8:
            with pytest.raises(Cut):
                fleet.rounds.open(now_us=NOW_US)
            assert (fleet.ledger.digest(), fleet.ledger.audit()) == before
        else:
            fleet.rounds.open(now_us=NOW_US)

    open_next(fleet)
    assert fleet.call.header.round == 2
    assert close(fleet) == "adopted"


# -- the audit log ----------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an audit log hold forty entries, and ten more until the oldest go."""
    for name, value in (("MAX_ENTRIES", 40), ("CUT", 10), ("PAGE", 7)):
        monkeypatch.setattr(ledgers, name, value)


def fill(ledger: Ledger, entries: int) -> None:
    for number in range(entries):
        with ledger.change():
            ledger.log("told", at_us=NOW_US + number, number=number)


@pytest.mark.usefixtures("short")
def test_of_an_audit_log_the_oldest_entries_go_and_its_chain_goes_on(fleet: Fleet):
    lengths = set()
    for _ in range(30):
        fill(fleet.ledger, 10)
        lengths.add(len(fleet.ledger.audit()))

    entries = fleet.ledger.audit()
    assert max(lengths) <= 51
    assert len(entries) >= 40
    assert entries[-1]["what"] in ("told", "cut")
    (first,) = fleet.ledger.row("SELECT min(number) FROM audit")
    assert [each["entries"] for each in entries if each["what"] == "cut"][-1] == first - 1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit WHERE number = (SELECT min(number) FROM audit)",
        "DELETE FROM audit WHERE number = (SELECT min(number) + 20 FROM audit)",
        "UPDATE audit SET entry = replace(entry, 'at_us', 'at_uz') WHERE number = (SELECT min(number) FROM audit)",
        "UPDATE audit SET entry = 'noise' WHERE number = (SELECT min(number) FROM audit)",
        "UPDATE audit SET entry = 'noise' WHERE number = (SELECT min(number) + 20 FROM audit)",
        "DELETE FROM audit WHERE number >= (SELECT max(number) FROM audit WHERE entry LIKE '%cut%')",
    ],
)
def test_an_audit_log_whose_oldest_went_says_so_where_it_was_changed(fleet: Fleet, change: str):
    fill(fleet.ledger, 95)
    fleet.ledger.audit()

    fleet.ledger.run(change)

    with pytest.raises(LedgerError, match="audit log was changed"):
        fleet.ledger.audit()


@pytest.mark.usefixtures("short")
def test_a_store_whose_oldest_entries_went_is_copied_and_goes_on(fleet: Fleet, tmp_path: Path):
    fill(fleet.ledger, 95)
    target = Ledger(tmp_path / "copy.db")

    copy(fleet.ledger, target, now_us=LATER_US)

    assert target.audit() == fleet.ledger.audit()
    fill(target, 60)
    assert len(target.audit()) <= 51


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("read", [lambda reader: len(_log(reader, None)), lambda reader: _store_as_seen(reader.ledger)])
def test_an_audit_log_that_is_cut_while_it_is_read_is_whole(folder: Path, read, monkeypatch: pytest.MonkeyPatch):
    fleet, reader, rows = Fleet(folder), Ledger(store_of(folder)), Ledger.rows
    fill(fleet.ledger, 45 - len(fleet.ledger.audit()))
    cuts = iter([60])

    def cut(self: Ledger, question: str, *values: object) -> list[tuple[object, ...]]:
        found = rows(self, question, *values)
        if self is reader and "FROM audit" in question:
            fill(fleet.ledger, next(cuts, 0))
        return found

    monkeypatch.setattr(Ledger, "rows", cut)

    told = read(SimpleNamespace(ledger=reader))

    reader.close()
    assert told == 45 or "audit log whole (45 entries)" in told.seen
    assert fleet.ledger.row("SELECT min(number) FROM audit")[0] > 7


@pytest.mark.usefixtures("short")
def test_a_change_that_is_taken_back_cuts_nothing(fleet: Fleet):
    fill(fleet.ledger, 43)
    before = fleet.ledger.audit()

    def taken_back() -> None:
        with fleet.ledger.change():
            for number in range(30):
                fleet.ledger.log("told", at_us=NOW_US, number=number)
            raise Cut

    with pytest.raises(Cut):
        taken_back()

    assert fleet.ledger.audit() == before


# -- releases ---------------------------------------------------------------------------------------------------------


def test_archives_stay_of_releases_that_may_be_ordered_alone(folder: Path):
    releases = Releases(folder)
    for number in range(10, 16):
        releases.promote(number, now_us=NOW_US + 2 * number * DAY_US)

    assert releases.rollouts.archived() == {14, 15}
    assert [each.number for each in releases.rollouts.releases()] == [15, 14, 13, 12, 11, 10]
    releases.rollouts.roll_back(why="by hand", now_us=NOW_US + 40 * DAY_US)
    assert {each.release for each in releases.orders().values()} == {14}
    assert "manifest.json" in read_archive(releases.rollouts.archive(14))
    releases.begin(16, now_us=NOW_US + 41 * DAY_US)
    assert releases.rollouts.archived() == {14, 16}
    assert releases.rollouts.roll_back(why="by hand", now_us=NOW_US + 42 * DAY_US) == 16
    assert {each.release for each in releases.orders().values()} == {14}


def test_what_is_on_offer_has_an_archive_whatever_old_orders_name(folder: Path):
    releases = Releases(folder)
    releases.promote(10)
    releases.rounds.revoke("gateway0", now_us=NOW_US)  # its order names release 10 for ever
    for number in range(11, 15):
        releases.promote(number, now_us=NOW_US + 2 * number * DAY_US)

    assert [each.number for each in releases.rollouts.offered()] == [14]
    assert all(releases.rollouts.archive(each.number) for each in releases.rollouts.offered())


def test_what_the_fleet_runs_is_on_offer_whatever_a_revoked_canary_was_ordered_last(folder: Path):
    releases = Releases(folder)
    releases.promote(10)
    releases.begin(11, now_us=NOW_US + 2 * DAY_US)
    canary, *_ = releases.rollouts.ordered(releases.rollouts.releases()[0])
    releases.rounds.revoke(canary, now_us=NOW_US + 2 * DAY_US)
    releases.rollouts.roll_back(why="by hand", now_us=NOW_US + 2 * DAY_US)

    releases.begin(12, now_us=NOW_US + 3 * DAY_US)

    assert [each.number for each in releases.rollouts.offered()] == [12, 10]
    assert releases.rollouts.archived() == {12, 10}


def test_what_is_on_offer_is_said_however_many_releases_were_taken_back_since(office: Office):
    for number in range(10, 10 + 2 * SAID_OF):
        state, archive = ("fleet", b"archive") if number == 10 else ("rolled back", b"")
        row = number, state, f"{number:064d}", "c" * 64, archive, NOW_US
        office.ledger.run("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, '')", *row)
    office.rounds.enrol("attic", KEY.public_key(), now_us=NOW_US)
    office.ledger.run("INSERT INTO orders VALUES ('attic', 1, 10, ?, ?)", b"order", NOW_US)

    said = {each.topic.rpartition("/")[2]: each.name for each in office.sayings(now_us=NOW_US)}

    assert said[f"{10:064d}"] == b"offered"
    assert f"{11:064d}" not in said


def test_of_releases_withdrawn_long_ago_no_topic_is_said(office: Office):
    for number in range(10, 10 + 2 * SAID_OF):
        row = number, f"{number:064d}", "c" * 64, b"", NOW_US
        office.ledger.run("INSERT INTO releases VALUES (?, 'rolled back', ?, ?, ?, ?, '')", *row)

    topics = [each.topic for each in office.sayings(now_us=NOW_US)]

    assert len(topics) == 2 * SAID_OF
    assert all(topic.endswith(f"{number:064d}") for topic, number in zip(topics[::2], range(41, 25, -1), strict=True))


def test_folders_of_bundles_that_no_release_has_any_more_go_after_a_day(tmp_path: Path):
    folder = tmp_path / BUNDLES
    for name in ("kept", "old", "draft-1", "new"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text("{}")
        os.utime(folder / name, (1, NOW_US / 1e6 if name == "new" else NOW_US / 1e6 - 90_000))

    sweep(tmp_path, kept={"kept"}, now_us=NOW_US)

    assert {each.name for each in folder.iterdir()} == {"kept", "new"}


def test_a_session_holds_nothing_of_topics_that_are_said_no_more_and_few_refusals():
    post = Post(BrokerSection(url="mqtt://127.0.0.1:1"), client_id="one", filters={})
    post._said = {f"down/{number}": b"" for number in range(5)}

    post.forget(but={"down/4"})
    for number in range(2 * MAX_REFUSED):
        post._count(f"down/{number}")

    assert list(post._said) == ["down/4"]
    assert len(post.refused) == MAX_REFUSED + 1
    assert sum(post.refused.values()) == 2 * MAX_REFUSED
