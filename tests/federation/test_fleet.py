"""Six gateways and an aggregator, through files as the agent would carry them: one offline, one hostile, one late."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.anchors import pack_anchors
from contracts.samples import SAMPLES_FILE, SampleBook
from contracts.signed import MessageRefused
from contracts.update import UpdateHeader, pack_update, read_call
from federation.aggregator.anchors import choose
from federation.aggregator.ledger import Ledger
from federation.aggregator.release import HoldOut
from federation.aggregator.rounds import Rounds, RoundSettings
from federation.gateway.identity import own_key
from federation.gateway.labels import gather
from federation.gateway.learn import fine_tune
from federation.gateway.program import main
from tests.federation import homes
from tests.federation.homes import (
    FALSE_ALARM,
    FLEET,
    NOW_US,
    PARAMETERS,
    Windows,
    attacks,
    bundle,
    demo,
    fill,
    shipped_thresholds,
    trust,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HOUR_US = 3_600_000_000
NAMES = ("attic", "barn", "cellar", "dairy", "eaves", "forge")
OFFLINE, HOSTILE, LATE = "dairy", "eaves", "forge"


def half(which: int) -> Windows:
    """Return every other window of the demo: one half makes anchors, the other judges releases."""
    windows = demo().where(demo().label >= 0)
    return windows.where(np.arange(len(windows)) % 2 == which)


@dataclass
class Home:
    """A gateway's folders."""

    name: str
    state: Path

    def take(self, call: bytes, anchors: bytes) -> None:
        inbox = self.state / "federation" / "in"
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox / "open.call").write_bytes(call)
        (inbox / "first.anchors").write_bytes(anchors)

    def learn(self, aggregators: Path) -> None:
        places = ["--state-dir", str(self.state), "--aggregators", str(aggregators)]
        assert main([*places, "--fleet", FLEET, "--gateway", self.name, "--now"]) == 0

    def sent(self) -> list[bytes]:
        """Return what the agent would send, and take it away as it would after PUBACK."""
        found = [path.read_bytes() for path in sorted((self.state / "federation" / "out").glob("*.update"))]
        for path in (self.state / "federation" / "out").glob("*.update"):
            path.unlink()
        return found


class World:
    """Six homes, their aggregator, and a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = NOW_US
        monkeypatch.setattr("time.time_ns", lambda: self.now_us * 1000)
        self.aggregators = trust(folder / "aggregators", KEY)
        self.ledger = Ledger(folder / "aggregator.db")
        settings = RoundSettings(quorum=3, lasts_us=HOUR_US)
        self.rounds = Rounds(self.ledger, bundle(), fleet=FLEET, key=KEY, settings=settings)
        thresholds = shipped_thresholds()
        taught, judged = half(0), half(1)
        self.hold_out = HoldOut(judged.embedding, judged.label, thresholds)
        self.teaching = HoldOut(taught.embedding, taught.label, thresholds)
        chosen = choose(taught.embedding, taught.label, head=self.rounds.head, thresholds=thresholds)
        self.anchors = pack_anchors(chosen, fleet=FLEET, bundle_sha256=bundle().manifest_sha256, key=KEY)
        self.homes = {}
        for name in NAMES:
            state = fill(folder / name, alarm=attacks("flood"), called="flood")
            self.homes[name] = Home(name, state)
            self.rounds.enrol(name, own_key(state / "federation").public_key(), now_us=self.now_us)

    def judge(self, name: str, verdict: str) -> None:
        (self.homes[name].state / "rules.json").write_text(json.dumps({"verdicts": {FALSE_ALARM: verdict}}))

    def recall(self) -> int:
        return self.hold_out.found(self.rounds.head)["attacks"][0]

    def hold_round(self) -> str:
        """Hold a round to its end; return its state."""
        call = self.rounds.open(now_us=self.now_us)
        late = []
        for home in self.homes.values():
            if home.name == OFFLINE:
                continue
            home.take(call, self.anchors)
            if home.name == HOSTILE:
                self.attack(call)
                continue
            home.learn(self.aggregators)
            if home.name == LATE:
                late = home.sent()
                continue
            for message in home.sent():
                self.rounds.submit(message, sender=home.name, now_us=self.now_us)
                self.rounds.submit(message, sender=home.name, now_us=self.now_us)  # QoS 1 delivers twice
        self.now_us += HOUR_US
        closed = self.rounds.close(now_us=self.now_us, hold_out=self.hold_out, teaching=self.teaching)
        for message in late:
            with pytest.raises(MessageRefused, match="expired round"):
                self.rounds.submit(message, sender=LATE, now_us=self.now_us)
        return closed.state

    def attack(self, call: bytes) -> None:
        """Send the longest update there may be, against every attack; then more of it, which is refused."""
        asked = read_call(call, [KEY.public_key()])
        head = asked.head
        towards_benign = np.concatenate([np.zeros(head.weight.size), -np.ones(len(head.bias))])
        towards_benign[head.weight.size] = 1.0
        length = asked.header.clip_norm / np.linalg.norm(towards_benign)
        steps = np.rint(towards_benign * length / asked.header.scale).clip(-127, 127).astype(np.int8)
        key = own_key(self.homes[HOSTILE].state / "federation")
        header = UpdateHeader(
            fleet=FLEET, round=asked.header.round, gateway=HOSTILE, call_sha256=asked.sha256, examples=1 << 20,
            made_us=self.now_us,
        )  # fmt: skip
        self.rounds.submit(pack_update(header, steps, key), sender=HOSTILE, now_us=self.now_us)
        too_long = pack_update(header, np.full(PARAMETERS, 127, np.int8), key)
        with pytest.raises(MessageRefused, match="norm"):
            self.rounds.submit(too_long, sender=HOSTILE, now_us=self.now_us)


def unchecked(world: World, name: str) -> int:
    """Return the attacks found by the head that a home alone makes of its verdict, without anchors or any gate."""
    with SampleBook(world.homes[name].state / SAMPLES_FILE) as book:
        found = gather(book, {FALSE_ALARM: "benign"}, homes.engine(), window=16, now_us=NOW_US)
    learnt = found.is_learnt
    head, _ = fine_tune(world.rounds.head, found.embedding[learnt], found.label[learnt], found.weight[learnt])
    return world.hold_out.found(head)["attacks"][0]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_three_rounds_with_one_offline_one_hostile_and_one_late_lose_no_attack(world: World):
    for name in ("attic", "barn", "cellar", LATE):
        world.judge(name, "malicious")
    before, first = world.recall(), world.rounds.head.sha256

    states = [world.hold_round() for _ in range(3)]

    assert set(states) <= {"adopted", "refused"}
    assert "adopted" in states
    assert world.recall() >= before
    assert world.rounds.head.sha256 != first
    counters = world.ledger.counters()
    assert counters["accepted"] == 3 * 4  # attic, barn, cellar and the hostile one
    assert counters["repeated"] == 3 * 3
    assert counters["refused: norm"] == 3
    assert counters["refused: expired round"] == 3
    world.ledger.audit()


def test_one_stolen_verdict_on_a_real_attack_does_not_lower_recall(world: World):
    for name in ("attic", "barn", LATE):
        world.judge(name, "malicious")
    world.judge("cellar", "benign")  # the stolen account
    before = world.recall()
    assert unchecked(world, "cellar") < before - 50  # floods that it would have cost

    for _ in range(3):
        world.hold_round()

    assert world.recall() >= before


def test_the_windows_of_the_homes_are_those_of_the_demo():
    assert len(homes.demo()) == 2166
