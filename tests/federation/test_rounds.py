"""A fleet's rounds: states, hostile messages that change nothing, and a SIGKILL wherever it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.signed import MessageRefused
from contracts.update import UpdateHeader, pack_update, read_call
from federation.aggregator.ledger import Ledger, LedgerError
from federation.aggregator.rounds import Rounds, RoundSettings
from tests.federation.conftest import NewFolder
from tests.federation.homes import FLEET, NOW_US, bundle, hold_out, rounds_at, store_of
from tests.federation.killed import at_change

HOUR_US = 3_600_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NAMES = ("attic", "barn", "cellar", "dairy", "eaves")
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number, name in enumerate(NAMES)}


class Fleet:
    """A ledger, its rounds, five gateways enrolled, a round open."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.ledger, self.rounds = rounds_at(folder / "aggregator.db", KEY, lasts_us=24 * HOUR_US, **settings)
        enrolled = {row[0] for row in self.ledger.rows("SELECT name FROM gateways")}
        for name in NAMES:
            if name not in enrolled:
                self.rounds.enrol(name, KEYS[name].public_key(), now_us=NOW_US)
        self.message = self.rounds.open(now_us=NOW_US, seed="1" * 64)
        self.call = read_call(self.message, [KEY.public_key()])

    def update(self, name: str, value: int = 1, *, key: Ed25519PrivateKey | None = None, **changes: object) -> bytes:
        told: dict[str, object] = {
            "fleet": FLEET, "round": self.call.header.round, "gateway": name, "call_sha256": self.call.sha256,
            "examples": 500, "made_us": NOW_US,
        }  # fmt: skip
        steps = np.full(self.call.header.kept, value, np.int8)
        return pack_update(UpdateHeader(**{**told, **changes}), steps, key or KEYS.get(name, KEY))

    def submit(self, name: str, value: int = 1, *, now_us: int = NOW_US + HOUR_US) -> str:
        return self.rounds.submit(self.update(name, value), sender=name, now_us=now_us)


@pytest.fixture
def fleet(folder: Path) -> Fleet:
    return Fleet(folder)


def test_a_round_with_a_quorum_moves_the_head_by_what_was_sent(fleet: Fleet):
    before = fleet.rounds.head
    for name in NAMES:
        assert fleet.submit(name) == "accepted"
    assert fleet.rounds.is_due(now_us=NOW_US + HOUR_US)

    closed = fleet.rounds.close(now_us=NOW_US + HOUR_US, hold_out=hold_out())

    assert (closed.state, closed.updates, closed.why) == ("adopted", 5, "")
    moved = (fleet.rounds.head.flat - before.flat)[fleet.call.places]
    assert moved == pytest.approx(fleet.call.header.scale, rel=1e-3)
    following = read_call(fleet.rounds.open(now_us=NOW_US + 2 * HOUR_US), [KEY.public_key()])
    assert following.header.round == 2
    assert following.head.sha256 == fleet.rounds.head.sha256


def test_without_a_quorum_at_the_deadline_the_round_is_void_and_the_head_stays(fleet: Fleet):
    before = fleet.rounds.head.sha256
    fleet.submit("attic")
    fleet.submit("barn")
    assert not fleet.rounds.is_due(now_us=NOW_US + 24 * HOUR_US - 1)
    assert fleet.rounds.is_due(now_us=NOW_US + 24 * HOUR_US)

    closed = fleet.rounds.close(now_us=NOW_US + 24 * HOUR_US, hold_out=hold_out())

    assert (closed.state, closed.why) == ("void", "2 updates, wanted 3")
    assert fleet.rounds.head.sha256 == before
    assert fleet.rounds.close(now_us=NOW_US + 25 * HOUR_US, hold_out=hold_out()) is None


def test_a_round_that_another_key_called_is_void_and_the_next_one_is_ours(fleet: Fleet):
    fleet.submit("attic")
    fleet.rounds.give_up_foreign(now_us=NOW_US + HOUR_US)
    assert fleet.rounds.opened() is not None
    new = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))
    rounds = Rounds(fleet.ledger, bundle(), fleet=FLEET, key=new, settings=fleet.rounds.settings)

    rounds.give_up_foreign(now_us=NOW_US + HOUR_US)

    assert fleet.ledger.rows("SELECT number, state, why FROM rounds") == [(1, "void", "its call is by another key")]
    assert fleet.ledger.audit()[-1]["what"] == "void"
    assert read_call(rounds.open(now_us=NOW_US + HOUR_US), [new.public_key()]).header.round == 2


def test_the_same_update_twice_is_one(fleet: Fleet):
    assert [fleet.submit("attic"), fleet.submit("attic")] == ["accepted", "repeated"]

    assert fleet.ledger.counters()["accepted"] == 1
    assert fleet.ledger.row("SELECT count(*) FROM updates") == (1,)


def test_several_workers_on_one_store_count_no_update_twice(fleet: Fleet, folder: Path):
    said: list[str] = []

    def work() -> None:
        ledger, rounds = rounds_at(folder / "aggregator.db", KEY)
        for name in NAMES:
            said.append(rounds.submit(fleet.update(name), sender=name, now_us=NOW_US + HOUR_US))
        ledger.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert sorted(said) == ["accepted"] * 5 + ["repeated"] * 15
    assert fleet.ledger.counters() == {"accepted": 5, "repeated": 15}
    assert [entry["what"] for entry in fleet.ledger.audit()].count("accepted") == 5


Hostile = Callable[[Fleet], tuple[bytes, str, int]]
LATER_US = NOW_US + HOUR_US
HOSTILE: dict[str, tuple[str, Hostile]] = {
    "empty": ("truncated", lambda fleet: (b"", "attic", LATER_US)),
    "truncated": ("truncated", lambda fleet: (fleet.update("attic")[:60], "attic", LATER_US)),
    "oversize": ("oversize", lambda fleet: (fleet.update("attic") + bytes(5000), "attic", LATER_US)),
    "noise": ("foreign", lambda fleet: (bytes(range(256)) * 2, "attic", LATER_US)),
    "the call itself": ("foreign", lambda fleet: (fleet.message, "attic", LATER_US)),
    "another gateway's topic": ("wrong gateway", lambda fleet: (fleet.update("attic"), "barn", LATER_US)),
    "not enrolled": ("unknown gateway", lambda fleet: (fleet.update("stranger"), "stranger", LATER_US)),
    "another's key": ("signature", lambda fleet: (fleet.update("attic", key=KEYS["barn"]), "attic", LATER_US)),
    "another fleet": ("fleet", lambda fleet: (fleet.update("attic", fleet="others"), "attic", LATER_US)),
    "round to come": ("no such round", lambda fleet: (fleet.update("attic", round=2), "attic", LATER_US)),
    "after the deadline": (
        "expired round", lambda fleet: (fleet.update("attic"), "attic", NOW_US + 24 * HOUR_US),
    ),
    "of tomorrow": (
        "early", lambda fleet: (fleet.update("attic", made_us=NOW_US + 20 * HOUR_US), "attic", LATER_US),
    ),
    "another base": ("base", lambda fleet: (fleet.update("attic", call_sha256="0" * 64), "attic", LATER_US)),
    "too long": ("norm", lambda fleet: (fleet.update("attic", 127), "attic", LATER_US)),
    "a second, other one": ("second update", lambda fleet: (fleet.update("cellar", 2), "cellar", LATER_US)),
    "revoked": ("revoked", lambda fleet: (fleet.update("dairy"), "dairy", LATER_US)),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_message_is_refused_counted_and_logged_and_changes_nothing(fleet: Fleet, what: str):
    reason, made = HOSTILE[what]
    fleet.submit("cellar")
    fleet.rounds.revoke("dairy", now_us=NOW_US)
    before = fleet.ledger.digest()
    message, sender, now_us = made(fleet)

    with pytest.raises(MessageRefused) as caught:
        fleet.rounds.submit(message, sender=sender, now_us=now_us)

    assert caught.value.reason == reason
    assert fleet.ledger.digest() == before
    assert fleet.ledger.counters()[f"refused: {reason}"] == 1
    assert fleet.ledger.audit()[-1]["reason"] == reason


def test_an_update_of_a_round_before_is_refused(fleet: Fleet):
    for name in NAMES[:3]:
        fleet.submit(name)
    old = fleet.update("dairy")
    fleet.rounds.close(now_us=LATER_US, hold_out=hold_out())
    fleet.rounds.open(now_us=LATER_US)
    before = fleet.ledger.digest()

    with pytest.raises(MessageRefused, match="round 1 is over"):
        fleet.rounds.submit(old, sender="dairy", now_us=LATER_US)

    assert fleet.ledger.digest() == before


def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_log(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("federation.aggregator.rounds.MAX_LOGGED", 10)
    logged = len(fleet.ledger.audit())

    for _ in range(30):
        with pytest.raises(MessageRefused):
            fleet.rounds.submit(b"x" * 100, sender="attic", now_us=LATER_US)

    assert fleet.ledger.counters()["refused: foreign"] == 30
    assert len(fleet.ledger.audit()) == logged + 10


def test_a_revoked_gateway_s_update_leaves_the_open_round(fleet: Fleet):
    fleet.submit("attic")

    fleet.rounds.revoke("attic", now_us=LATER_US)

    assert fleet.ledger.row("SELECT count(*) FROM updates") == (0,)
    with pytest.raises(ValueError, match="revoked already"):
        fleet.rounds.revoke("attic", now_us=LATER_US)


def test_a_key_is_enrolled_once(fleet: Fleet):
    with pytest.raises(ValueError, match="is enrolled"):
        fleet.rounds.enrol("seventh", KEYS["attic"].public_key(), now_us=NOW_US)


def test_a_head_that_finds_fewer_attacks_is_not_adopted(fleet: Fleet):
    before = fleet.rounds.head
    towards_benign = np.zeros(before.flat.size)
    towards_benign[: before.embedding] = 0  # the weights stay
    towards_benign[-len(before.bias)] = 1  # the bias of benign rises
    steps = np.where(towards_benign[fleet.call.places] > 0, 127, 0).astype(np.int8)
    for name in NAMES:
        header = UpdateHeader(
            fleet=FLEET, round=1, gateway=name, call_sha256=fleet.call.sha256, examples=500, made_us=NOW_US
        )
        fleet.rounds.submit(pack_update(header, steps, KEYS[name]), sender=name, now_us=LATER_US)

    closed = fleet.rounds.close(now_us=LATER_US, hold_out=hold_out())

    assert closed.state == "refused"
    assert "windows of attacks found, before" in closed.why
    assert fleet.rounds.head.sha256 == before.sha256


def test_an_audit_log_that_was_changed_says_so(fleet: Fleet):
    fleet.submit("attic")
    assert len(fleet.ledger.audit()) == 7
    fleet.ledger.run("DELETE FROM audit WHERE number = 3")

    with pytest.raises(LedgerError, match="changed at entry 3"):
        fleet.ledger.audit()


def test_another_fleet_s_file_and_a_foreign_one_are_refused(fleet: Fleet, tmp_path: Path):
    with pytest.raises(LedgerError, match="of fleet homes, wanted others"):
        Rounds(fleet.ledger, bundle(), fleet="others", key=KEY, settings=RoundSettings())
    (tmp_path / "other.db").write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError, match=r"other\.db"):
        Ledger(tmp_path / "other.db")


def one_round(folder: Path) -> Fleet | None:
    """Go through round 1 from wherever it is; None where it is closed."""
    ledger = Ledger(store_of(folder))
    is_closed = ledger.row("SELECT 1 FROM rounds WHERE state <> 'open'") is not None
    ledger.close()
    if is_closed:
        return None
    fleet = Fleet(folder)
    for name in NAMES:
        fleet.submit(name)
    fleet.rounds.close(now_us=LATER_US, hold_out=hold_out())
    return fleet


@pytest.mark.parametrize("kill_at", [3, 14, 18, 29, 36, 38])  # enrolling, opening, updates, closing
def test_a_sigkill_at_any_change_loses_nothing_and_counts_nothing_twice(new_folder: NewFolder, kill_at: int):
    wanted = one_round(new_folder("whole")).rounds.head.sha256
    folder = new_folder("killed")

    at_change("tests.federation.test_rounds", folder, kill_at)
    one_round(folder)  # everybody sends again

    ledger, rounds = rounds_at(folder / "aggregator.db", KEY)
    assert rounds.head.sha256 == wanted
    assert ledger.counters()["accepted"] == 5
    assert ledger.row("SELECT count(*) FROM updates") == (5,)
    assert [row[0] for row in ledger.rows("SELECT state FROM rounds")] == ["adopted"]
    assert [entry["what"] for entry in ledger.audit()].count("accepted") == 5
