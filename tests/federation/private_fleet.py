"""A fleet in mode private for tests: participants with their own seeds, and an aggregator's file between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.update import Call, read_call
from federation.aggregator.masked_rounds import MaskedRounds
from federation.privacy.masking import Participant, Seeds
from tests.federation.homes import NOW_US, rounds_at

HOUR_US = 3_600_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NAMES = ("attic", "barn", "cellar", "dairy", "eaves", "forge")
LATER_US = NOW_US + HOUR_US


def key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def participant(name: str, call: Call, steps: np.ndarray, **changes: object) -> Participant:
    seeds = Seeds(*(f"{part} {name}".encode().ljust(16, b".")[:16] for part in ("mask", "share", "own")))
    told = {"key": key_of(name), "seeds": seeds, "aggregators": (KEY.public_key(),), **changes}
    return Participant(name=name, call=call, steps=steps, **told)


class PrivateFleet:
    """An aggregator and its members; each `*_stage` lets those named answer."""

    def __init__(self, folder: Path, *, names: Iterable[str] = NAMES, seed: str = "1" * 64, **settings: object) -> None:
        self.names = tuple(names)
        path = folder / "aggregator.db"
        told = {"mode": "private", "lasts_us": 24 * HOUR_US, "clip_norm": 50.0, "kept_share": 0.1, **settings}
        self.ledger, self.rounds = rounds_at(path, KEY, **told)
        self.masked = MaskedRounds(self.rounds)
        enrolled = {row[0] for row in self.ledger.rows("SELECT name FROM gateways")}
        for name in self.names:
            if name not in enrolled:
                self.rounds.enrol(name, key_of(name).public_key(), now_us=NOW_US)
        self.message = self.rounds.open(now_us=NOW_US, seed=seed)
        self.call = read_call(self.message, [KEY.public_key()])
        rng = np.random.default_rng(7)
        steps = {name: rng.integers(-40, 41, self.call.header.kept).astype(np.int8) for name in self.names}
        self.members = {name: participant(name, self.call, steps[name]) for name in self.names}
        self.sent: dict[str, list[bytes]] = {name: [] for name in self.names}

    def submit(self, name: str, message: bytes, *, now_us: int = LATER_US) -> str:
        self.sent[name].append(message)
        return self.masked.submit(message, sender=name, now_us=now_us)

    def keys(self, who: Iterable[str]) -> None:
        for name in who:
            self.submit(name, self.members[name].keys())

    def answer(self, who: Iterable[str]) -> None:
        """Let those named answer what the aggregator tells them now, or told them before they answered."""
        told = self.told()
        for name in who:
            self.submit(name, self.members[name].answer(told[name]))

    def told(self) -> dict[str, bytes]:
        """Return what the present state tells, to those who answered too."""
        at = self.masked._standing()
        assert at is not None
        assert at.roster is not None
        return dict(self.masked._told(at, at.roster))

    def at_time_up(self) -> str | None:
        """Let the present state's time pass."""
        (until_us,) = self.ledger.row("SELECT max(until_us) FROM private_rounds WHERE state NOT IN ('sum', 'void')")
        return self.masked.advance(now_us=until_us)

    def stage(self, who: Iterable[str], *, everybody: bool = False) -> str | None:
        """Let those named answer, and move on when all have, or at the time."""
        (self.keys if self.state() == "keys" else self.answer)(tuple(who))
        state = self.state()
        moved = self.masked.advance(now_us=LATER_US)
        return moved if everybody or moved != state else self.at_time_up()

    def state(self) -> str:
        (state,) = self.ledger.row("SELECT state FROM private_rounds ORDER BY number DESC LIMIT 1")
        return state

    def total(self) -> np.ndarray:
        (total,) = self.ledger.row("SELECT total FROM private_rounds ORDER BY number DESC LIMIT 1")
        return np.frombuffer(total, "<i4")

    def plain(self, who: Iterable[str]) -> np.ndarray:
        return np.sum([self.members[name].steps.astype(np.int32) for name in who], axis=0)


Hostile = Callable[[PrivateFleet], tuple[str, bytes]]
