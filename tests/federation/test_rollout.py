"""A bundle's way to a fleet: canaries, everybody, halted, back; who says what against it; several workers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.bundle import Bundle, default_bundle, load_bundle, write_manifest
from contracts.head import head_of, read_head
from contracts.rollout import OrderHeader, read_archive, read_order
from federation.aggregator.rollout import MAX_REPORT_BYTES, Rollouts, RolloutSettings
from tests.federation.homes import FLEET, NOW_US, rounds_at

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NAMES = [f"gateway{place}" for place in range(10)]
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


class Fleet:
    """Ten gateways that say what they are told to."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.ledger, self.rounds = rounds_at(folder / "aggregator.db", KEY)
        for place, name in enumerate(NAMES):
            key = Ed25519PrivateKey.from_private_bytes(bytes([place + 1]) * 32)
            self.rounds.enrol(name, key.public_key(), now_us=NOW_US)
        told = {"canary_share": 0.2, "canary_us": DAY_US, "every_us": DAY_US, **settings}
        self.settings = RolloutSettings(**told)
        self.rollouts = self.worker()

    def worker(self) -> Rollouts:
        return Rollouts(self.ledger, default_bundle(), fleet=FLEET, key=KEY, settings=self.settings)

    def bundle(self, release: int) -> Bundle:
        folder = self.folder / f"release-{release}"
        shutil.copytree(default_bundle().path, folder)
        write_manifest(folder, default_bundle().manifest.model_copy(update={"release": release}))
        return load_bundle(folder)

    def begin(self, release: int, *, now_us: int = NOW_US) -> bool:
        return self.rollouts.begin(self.bundle(release), head_sha256="c" * 64, now_us=now_us)

    def orders(self) -> dict[str, OrderHeader]:
        keys = [KEY.public_key()]
        return {
            name: read_order(message, keys, fleet=FLEET, gateway=name).header
            for name, message in self.rollouts.orders().items()
        }

    def say(self, name: str, *, release: int, calibration: str = "calibrated", **bundle: object) -> bool:
        told = {"bundle": {"name": "gru", "release": release, **bundle}, "calibration": calibration}
        return self.rollouts.report(name, json.dumps(told).encode(), now_us=NOW_US)

    def promote(self, release: int, *, now_us: int = NOW_US) -> None:
        self.begin(release, now_us=now_us)
        for name in self.orders():
            self.say(name, release=release)
        assert self.rollouts.step(now_us=now_us + DAY_US) == "fleet"


@pytest.fixture
def fleet(folder: Path) -> Fleet:
    return Fleet(folder)


def test_a_new_bundle_goes_to_a_share_of_the_gateways_first(fleet: Fleet):
    assert fleet.begin(3)

    orders = fleet.orders()
    assert len(orders) == 2
    assert {(each.release, each.number, each.is_rollback) for each in orders.values()} == {(3, 1, False)}
    assert {each.bundle_sha256 for each in orders.values()} == {fleet.rollouts.releases()[0].bundle_sha256}
    assert fleet.rollouts.current() is None


def test_each_release_has_its_own_canaries(folder: Path):
    fleet = Fleet(folder, canary_share=0.3)
    chosen = set()
    for release in (3, 4, 5):
        fleet.begin(release)
        chosen.add(tuple(fleet.rollouts.ordered(fleet.rollouts.releases()[0])))
        fleet.rollouts.roll_back(why="", now_us=NOW_US)

    assert len(chosen) > 1


def test_it_goes_on_once_half_of_the_canaries_run_it_and_time_has_passed(fleet: Fleet):
    fleet.begin(3)
    first, _ = fleet.orders()

    assert fleet.rollouts.step(now_us=NOW_US + DAY_US) == "canary"  # nobody runs it
    fleet.say(first, release=3)
    assert fleet.rollouts.step(now_us=NOW_US + DAY_US - 1) == "canary"
    assert fleet.rollouts.step(now_us=NOW_US + DAY_US) == "fleet"

    assert {each.release for each in fleet.orders().values()} == {3}
    assert len(fleet.orders()) == 10
    assert fleet.rollouts.current().number == 3


def test_one_canary_of_two_that_drifts_takes_it_back_from_both(fleet: Fleet):
    fleet.begin(3)
    first, second = fleet.orders()
    fleet.say(first, release=3, calibration="drift")
    fleet.say(second, release=3)

    assert fleet.rollouts.step(now_us=NOW_US + DAY_US) == "rolled back"

    orders = fleet.orders()
    assert sorted(orders) == sorted([first, second])
    base = default_bundle()
    assert {(each.release, each.bundle_sha256, each.is_rollback, each.number) for each in orders.values()} == {
        (base.manifest.release, base.manifest_sha256, True, 2)
    }
    assert fleet.rollouts.releases()[0].why == "1 of 2 gateways: drift"


def test_drift_under_the_bundle_before_says_nothing_against_the_new_one(fleet: Fleet):
    fleet.begin(3)
    for name in fleet.orders():
        fleet.say(name, release=2, calibration="drift")

    assert fleet.rollouts.step(now_us=NOW_US) == "canary"


def test_a_bundle_turned_away_by_a_gateway_goes_back(fleet: Fleet):
    fleet.begin(3)
    first, _ = fleet.orders()
    sha256 = fleet.rollouts.releases()[0].bundle_sha256
    fleet.say(first, release=2, refused=[f"{3:019d}-{sha256[:16]}"])

    assert fleet.rollouts.step(now_us=NOW_US) == "rolled back"
    assert fleet.rollouts.releases()[0].why == "1 of 2 gateways: turned away or taken back"


def test_in_the_whole_fleet_one_gateway_s_word_alone_takes_nothing_back(fleet: Fleet):
    fleet.promote(3)
    fleet.say(NAMES[0], release=3, calibration="drift")
    assert fleet.rollouts.step(now_us=NOW_US + DAY_US) == "fleet"
    fleet.say(NAMES[1], release=3, calibration="drift")

    assert fleet.rollouts.step(now_us=NOW_US + DAY_US) == "rolled back"
    assert all(each.is_rollback for each in fleet.orders().values())


def test_a_way_back_from_the_second_release_leads_to_the_first_one(fleet: Fleet):
    fleet.promote(3)
    fleet.begin(4, now_us=NOW_US + 2 * DAY_US)
    fleet.rollouts.roll_back(why="by hand", now_us=NOW_US + 2 * DAY_US)

    back = [each for each in fleet.orders().values() if each.is_rollback]
    assert len(back) == 2
    assert {each.release for each in back} == {3}
    assert fleet.rollouts.current().number == 3


def test_what_did_harm_is_not_learnt_on_from(fleet: Fleet):
    fleet.begin(3)
    moved = head_of(read_head(default_bundle().model).flat + 1)
    with fleet.ledger.change() as ledger:
        ledger.run("UPDATE fleet SET head = ?", moved.flat.astype("<f4").tobytes())
    fleet.rounds.open(now_us=NOW_US)

    fleet.rollouts.roll_back(why="by hand", now_us=NOW_US)

    assert fleet.rounds.head.sha256 == read_head(default_bundle().model).sha256
    assert fleet.ledger.rows("SELECT state, why FROM rounds") == [("void", "by hand")]


def test_a_halted_roll_out_stays_with_its_canaries(fleet: Fleet):
    fleet.begin(3)
    assert fleet.rollouts.halt(why="by hand", now_us=NOW_US) == 3
    for name in fleet.orders():
        fleet.say(name, release=3)

    assert fleet.rollouts.step(now_us=NOW_US + 9 * DAY_US) == "halted"
    assert len(fleet.orders()) == 2
    with pytest.raises(ValueError, match="nothing to halt"):
        fleet.rollouts.halt(why="", now_us=NOW_US)
    assert fleet.rollouts.roll_back(why="", now_us=NOW_US) == 3
    with pytest.raises(ValueError, match="nothing to roll back"):
        fleet.rollouts.roll_back(why="", now_us=NOW_US)


def test_a_gateway_enrolled_later_is_ordered_what_the_fleet_runs(fleet: Fleet):
    fleet.promote(3)
    fleet.rounds.enrol("late", Ed25519PrivateKey.generate().public_key(), now_us=NOW_US)
    fleet.rollouts.step(now_us=NOW_US + DAY_US)

    assert fleet.orders()["late"].release == 3


def test_a_revoked_gateway_is_told_nothing(fleet: Fleet):
    fleet.promote(3)
    fleet.rounds.revoke(NAMES[0], now_us=NOW_US)

    assert NAMES[0] not in fleet.rollouts.orders()


def test_a_revoked_gateway_s_word_counts_no_more(fleet: Fleet):
    fleet.begin(3)
    first, _ = fleet.orders()
    fleet.say(first, release=3, calibration="drift")
    fleet.rounds.revoke(first, now_us=NOW_US)

    assert fleet.rollouts.step(now_us=NOW_US) == "canary"


def test_there_is_a_release_a_day_at_most_and_one_in_canary(fleet: Fleet):
    assert fleet.rollouts.is_due(now_us=NOW_US)
    first = fleet.rollouts.next_number()
    fleet.begin(first)
    assert not fleet.rollouts.is_due(now_us=NOW_US + 9 * DAY_US)
    assert not fleet.begin(first + 1)
    for name in fleet.orders():
        fleet.say(name, release=first)
    fleet.rollouts.step(now_us=NOW_US + DAY_US)

    assert not fleet.rollouts.is_due(now_us=NOW_US + 2 * DAY_US - 1)
    assert fleet.rollouts.is_due(now_us=NOW_US + 2 * DAY_US)
    assert fleet.rollouts.next_number() == first + 1


def test_the_second_of_two_workers_finds_everything_done(fleet: Fleet):
    other, bundle = fleet.worker(), fleet.bundle(3)

    assert fleet.rollouts.begin(bundle, head_sha256="c" * 64, now_us=NOW_US)
    assert not other.begin(bundle, head_sha256="c" * 64, now_us=NOW_US)
    for name in fleet.orders():
        fleet.say(name, release=3)
    assert [each.step(now_us=NOW_US + DAY_US) for each in (fleet.rollouts, other)] == ["fleet", "fleet"]
    assert fleet.ledger.counters()["orders"] == 10  # two canaries, then eight others
    assert [each["what"] for each in fleet.ledger.audit()].count("fleet") == 1


def test_the_newest_two_releases_are_offered_and_their_archives_are_bundles(fleet: Fleet):
    fleet.promote(3)
    fleet.begin(4, now_us=NOW_US + 2 * DAY_US)

    assert [each.number for each in fleet.rollouts.offered()] == [4, 3]
    order = next(each for each in fleet.orders().values() if each.release == 4)
    archive = fleet.rollouts.archive(4)
    assert (len(archive), "manifest.json" in read_archive(archive)) == (order.archive_bytes, True)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b" " * (MAX_REPORT_BYTES + 1),
        b'{"bundle":{"release":"3"},"calibration":"drift"}',
        b'{"bundle":{"release":-3},"calibration":"drift"}',
        b'{"bundle":{"release":9223372036854775808},"calibration":"drift"}',
        b'{"bundle":{"release":3,"sha256":[]},"calibration":"drift"}',
        b'{"bundle":{"release":3,"refused":"all"},"calibration":"drift"}',
        b'{"bundle":{"release":3},"calibration":null}',
        b'{"bundle":[],"calibration":"drift"}',
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_status_is_left_alone(fleet: Fleet, payload: bytes):
    assert not fleet.rollouts.report(NAMES[0], payload, now_us=NOW_US)
    assert fleet.rollouts.reports() == {}


def test_a_status_by_nobody_we_know_is_left_alone(fleet: Fleet):
    assert not fleet.say("stranger", release=3)


def test_another_bundle_of_the_same_number_is_not_the_one_that_was_ordered(fleet: Fleet):
    fleet.begin(3)
    for name in fleet.orders():
        fleet.say(name, release=3, sha256="0" * 64, calibration="drift")

    assert fleet.rollouts.step(now_us=NOW_US + DAY_US) == "canary"


@pytest.mark.parametrize("what", ["sha256", "calibration", "refused"])
@pytest.mark.parametrize("letter", ["\ud800", "\0"])
def test_half_a_letter_or_none_in_a_status_stops_no_worker(folder: Path, what: str, letter: str):
    """JSON can say half a surrogate pair, and NUL; a status is retained: a worker that ends of one would end again."""
    fleet = Fleet(folder)
    said = {what: [letter] if what == "refused" else letter}

    assert fleet.say(NAMES[0], release=1, **said) is (what == "refused")
    assert not fleet.rollouts.report(letter, b'{"bundle": {"release": 1}, "calibration": "x"}', now_us=NOW_US)

    fleet.rollouts.step(now_us=NOW_US)


def test_what_one_gateway_says_is_taken_without_reading_what_all_others_said(fleet: Fleet, monkeypatch):
    for name in NAMES:
        fleet.say(name, release=3)
    read = []
    rows = fleet.ledger.rows
    monkeypatch.setattr(fleet.ledger, "rows", lambda *asked: read.append(found := rows(*asked)) or found)

    assert fleet.say(NAMES[0], release=4)
    assert fleet.say(NAMES[0], release=4)

    assert max(map(len, read)) == 1
    assert fleet.rollouts.reports()[NAMES[0]].release == 4
    assert len(fleet.rollouts.reports()) == len(NAMES)


def test_a_gateway_that_refused_many_bundles_is_still_heard_on_the_newest(folder: Path):
    fleet = Fleet(folder)
    fleet.begin(7)
    (release,) = fleet.rollouts.releases()
    newest = f"{7:019d}-{release.bundle_sha256[:16]}"
    before = [f"{n:019d}-{'a' * 16}" for n in range(15)]

    for name in fleet.rollouts.ordered(release):
        fleet.say(name, release=3, refused=[*before, newest])

    assert fleet.rollouts.step(now_us=NOW_US) == "rolled back"
