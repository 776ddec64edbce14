"""A round, as a state machine on disk: open -> adopted, refused or void.

    open      the call stands; updates of enrolled gateways are taken, one each, until the deadline
    adopted   quorum met, aggregate passed the release gate: its head is the next round's base
    refused   quorum met, and the gate said no: the base stays
    void      no quorum at the deadline: the base stays

A message is checked in the order of what a stranger can do: size and form, who sends it, enrolled, signature, fleet,
round, base, length, norm. What is refused is counted and logged and changes nothing else. The same update again (QoS 1
delivers twice) is `repeated`, counted once; another one by the same gateway is refused. Time is passed in.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from contracts.alert import is_gateway_id
from contracts.bundle import Bundle
from contracts.head import Head, head_of, read_head
from contracts.signed import MessageRefused, Parts, verify
from contracts.update import Call, CallHeader, Update, check_answers, norm_of, pack_call, read_call, read_update
from federation.aggregator import flower
from federation.aggregator.ledger import LOGGED, MAX_LOGGED, Ledger, LedgerError
from federation.aggregator.release import HoldOut
from federation.aggregator.retention import forget_rounds, forget_updates, void_open
from federation.aggregator.settle import furthest
from federation.aggregator.strategies import DEFAULT, STRATEGIES, likeness, merge, unusual
from federation.privacy.protect import restored

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_GATEWAYS: Final = 10_000
KEYS_SHARE: Final = 40  # percent of a private round in which gateways may learn and say that they take part
EARLY_US: Final = 300_000_000  # how far a gateway's clock may be ahead


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How rounds are held. `kept_share` of a head's numbers travel; `scale` of an int8 step follows from the clip."""

    mode: Literal["robust", "private"] = "robust"
    strategy: str = DEFAULT
    quorum: int = 3
    lasts_us: int = 24 * 3_600_000_000
    clip_norm: float = 2.0
    kept_share: float = 1.0
    largest_share: float = 0.5  # of the clip norm that one number may take; the rest waits in the residual

    def __post_init__(self) -> None:
        if self.mode not in ("robust", "private"):
            raise ValueError(f"no mode {self.mode!r}, wanted robust or private")
        if self.strategy not in flower.NAMES:
            raise ValueError(f"no strategy {self.strategy!r}, wanted one of {', '.join(flower.NAMES)}")
        if self.strategy not in STRATEGIES:
            flower.need()
        if self.quorum < 1 or not 0.0 < self.kept_share <= 1.0 or not self.clip_norm > 0.0:
            raise ValueError(f"need quorum >= 1, 0 < kept_share <= 1 and clip_norm > 0, got {self}")


@dataclass(frozen=True)
class Closed:
    """What became of a round."""

    number: int
    state: str
    updates: int
    why: str


class Rounds:
    """The rounds of one fleet. Raises LedgerError for a store of another fleet, or of another bundle's open round.

    `shipped` is the head that releases are held against; the bundle's own where none is given. A bundle that was made
    here of an adopted head must be given the one its line began with, or small losses would add up over releases.
    """

    def __init__(
        self,
        ledger: Ledger,
        bundle: Bundle,
        *,
        fleet: str,
        key: Ed25519PrivateKey,
        settings: RoundSettings,
        shipped: Head | None = None,
    ) -> None:
        self.settings = settings
        self._ledger, self._bundle, self._fleet, self._key = ledger, bundle, fleet, key
        self._shipped = read_head(bundle.model) if shipped is None else shipped
        with ledger.change():
            self._settle_fleet()

    @property
    def head(self) -> Head:
        """Return the head that the next round begins from."""
        row = self._ledger.row("SELECT head FROM fleet WHERE name = ?", self._fleet)
        assert row is not None
        return _head(row[0])

    @property
    def ledger(self) -> Ledger:
        """Return the store."""
        return self._ledger

    @property
    def fleet(self) -> str:
        """Return whose rounds these are."""
        return self._fleet

    @property
    def key(self) -> Ed25519PrivateKey:
        """Return what calls are signed with."""
        return self._key

    def enrol(self, name: str, key: Ed25519PublicKey, *, now_us: int) -> None:
        """Let a gateway take part, with its public key. Raises ValueError for no name, and where either is known."""
        if not is_gateway_id(name):  # no message could be to it, and no topic of it
            raise ValueError(f"gateway {name[:64]!r}: wanted up to 64 letters of ASCII, digits, dots, _ and -")
        with self._ledger.change() as ledger:
            row = ledger.row(
                "SELECT count(*), count(CASE WHEN name = ? OR key = ? THEN 1 END) FROM gateways", name, _raw(key)
            )
            if row is None or row[0] >= MAX_GATEWAYS or row[1]:
                raise ValueError(f"gateway {name} or its key is enrolled, or {MAX_GATEWAYS} are")
            ledger.run("INSERT INTO gateways VALUES (?, ?, ?, NULL)", name, _raw(key), now_us)
            ledger.log("enrolled", at_us=now_us, gateway=name, key=_raw(key).hex())

    def revoke(self, name: str, *, now_us: int) -> None:
        """Take no update by a gateway from now on, and leave out the one it sent to an open round."""
        with self._ledger.change() as ledger:
            if not ledger.run("UPDATE gateways SET revoked_us = ? WHERE name = ? AND revoked_us IS NULL", now_us, name):
                raise ValueError(f"gateway {name} is not enrolled, or revoked already")
            open_rounds = "SELECT number FROM rounds WHERE state = 'open'"
            left_out = ledger.run(f"DELETE FROM updates WHERE gateway = ? AND round IN ({open_rounds})", name)
            ledger.log("revoked", at_us=now_us, gateway=name, updates_left_out=left_out)

    def open(self, *, now_us: int, seed: str | None = None) -> bytes:
        """Return the call of the open round, opened now where none is."""
        with self._ledger.change() as ledger:
            if (row := ledger.row("SELECT call FROM rounds WHERE state = 'open'")) is not None:
                return bytes(row[0])
            last = ledger.row("SELECT coalesce(max(number), 0) FROM rounds") or (0,)
            head, settings = self.head, self.settings
            if ledger.row("SELECT 1 FROM fleet WHERE bundle_sha256 = ?", self._bundle.manifest_sha256) is None:
                raise LedgerError(f"{ledger.name}: the fleet went on to another bundle")
            header = CallHeader(
                fleet=self._fleet,
                round=last[0] + 1,
                mode=settings.mode,
                bundle_sha256=self._bundle.manifest_sha256,
                schema_id=self._bundle.manifest.schema_id,
                parameters=head.flat.size,
                kept=max(1, round(settings.kept_share * head.flat.size)),
                seed=seed or secrets.token_hex(32),
                clip_norm=settings.clip_norm,
                scale=settings.clip_norm * settings.largest_share / 127,
                opened_us=now_us,
                deadline_us=now_us + settings.lasts_us,
            )
            call = pack_call(header, head, self._key)
            forget_rounds(ledger, number=header.round)
            ledger.run(
                "INSERT INTO rounds VALUES (?, 'open', ?, ?, ?, ?, NULL, NULL, NULL)",
                header.round, call, _octets(head), now_us, header.deadline_us,
            )  # fmt: skip
            if settings.mode == "private":
                until_us = now_us + settings.lasts_us * KEYS_SHARE // 100
                begun = "INSERT INTO private_rounds VALUES (?, 'keys', ?, NULL, NULL, NULL, NULL, '')"
                ledger.run(begun, header.round, until_us)
            ledger.log(
                "opened", at_us=now_us, round=header.round, base=head.sha256, quorum=settings.quorum, mode=settings.mode
            )
        return call

    def submit(self, message: bytes, *, sender: str, now_us: int) -> str:
        """Take an update that came from a gateway's own topic; return `accepted` or `repeated`.

        Raises MessageRefused, after counting and logging; nothing else has changed then.
        """
        try:
            with self._ledger.change() as ledger:
                update = self._checked(message, sender=sender, now_us=now_us)
                number, name = update.header.round, update.header.gateway
                if self._is_held(update):
                    ledger.count("repeated")
                    return "repeated"
                ledger.run("INSERT INTO updates VALUES (?, ?, ?, ?, ?)", number, name, update.sha256, message, now_us)
                ledger.count("accepted")
                ledger.log("accepted", at_us=now_us, round=number, gateway=name, sha256=update.sha256)
        except MessageRefused as exc:
            self.refused(exc, sender=sender, now_us=now_us)
            raise
        return "accepted"

    def is_due(self, *, now_us: int) -> bool:
        """Return whether the open round is to be closed: everybody answered, or it is over."""
        row = self._ledger.row("SELECT number, deadline_us FROM rounds WHERE state = 'open'")
        if row is None:
            return False
        asked = self._ledger.row("SELECT count(*) FROM gateways WHERE revoked_us IS NULL") or (0,)
        seen = self._ledger.row("SELECT count(*) FROM updates WHERE round = ?", row[0]) or (0,)
        return bool(now_us >= row[1] or (seen[0] >= asked[0] and seen[0] >= self.settings.quorum))

    def close(self, *, now_us: int, hold_out: HoldOut, teaching: HoldOut | None = None) -> Closed | None:
        """Aggregate the open round and adopt its head, or not; as one change. None where no round is open.

        `teaching` are windows that the head's level is set on, and must be others than those of the hold-out.
        """
        with self._ledger.change() as ledger:
            held = self.opened()
            if held is None:
                return None
            call, base = held
            number = call.header.round
            found = ledger.rows("SELECT gateway, message FROM updates WHERE round = ? ORDER BY gateway", number)
            updates = {str(name): read_update(bytes(message)) for name, message in found}
            head: Head | None = None
            memory: flower.Memory = {}
            if len(updates) >= self.settings.quorum:
                head, memory = self._aggregate(call, base, updates, now_us=now_us)
            void = "" if head is not None else f"{len(updates)} updates, wanted {self.settings.quorum}"
            closed = self.conclude(
                number, base=base, head=head, updates=len(updates), why=void, now_us=now_us, hold_out=hold_out,
                teaching=teaching,
            )  # fmt: skip
            for name, content in memory.items() if closed.state == "adopted" else ():
                kept = "INSERT INTO memory VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content = excluded.content"
                ledger.run(kept, name, content.astype("<f8").tobytes())
        return closed

    def opened(self) -> tuple[Call, Head] | None:
        """Return the open round's call and base; None where no round is open."""
        row = self._ledger.row("SELECT call, base FROM rounds WHERE state = 'open'")
        return None if row is None else (read_call(bytes(row[0]), [self._key.public_key()]), _head(row[1]))

    def give_up_foreign(self, *, now_us: int) -> None:
        """Void the open round where another key than ours signed its call: we could not tell what answers it."""
        if self._is_foreign():
            with self._ledger.change() as ledger:
                if self._is_foreign():  # still: another worker may have seen it, and opened one of ours
                    void_open(ledger, why="its call is by another key", now_us=now_us)

    def _is_foreign(self) -> bool:
        try:
            self.opened()
        except MessageRefused:
            return True
        return False

    def conclude(
        self, number: int, *, base: Head, head: Head | None, updates: int, why: str, now_us: int, hold_out: HoldOut,
        teaching: HoldOut | None,
    ) -> Closed:  # fmt: skip
        """Adopt a head that a round made, or not, within a change; void, for a reason, where it made none."""
        state = "void"
        share, kept = 0.0, None
        if head is not None:
            passed = furthest(base, head, hold_out=hold_out, teaching=teaching, shipped=self._shipped)
            state = "refused" if passed.head is None else "adopted"
            share, why = passed.share, passed.why
            kept = None if passed.head is None else _octets(passed.head)
        self._ledger.run(
            "UPDATE rounds SET state = ?, closed_us = ?, head = ?, why = ? WHERE number = ? AND state = 'open'",
            state, now_us, kept, why, number,
        )  # fmt: skip
        if kept is not None:
            self._ledger.run("UPDATE fleet SET head = ? WHERE name = ?", kept, self._fleet)
        forget_updates(self._ledger)
        self._ledger.count(state)
        self._ledger.log(state, at_us=now_us, round=number, updates=updates, why=why, share=share)
        return Closed(number, state, updates, why)

    def _aggregate(
        self, call: Call, base: Head, updates: dict[str, Update], *, now_us: int
    ) -> tuple[Head, flower.Memory]:
        """Return the base moved by what the strategy makes of the updates, and what it remembers of all numbers.

        Norms, cosines and who is unusual go into the log.
        """
        values = np.stack([restored(each.steps, call) for each in updates.values()])
        examples = np.array([each.header.examples for each in updates.values()], np.int64)
        number, strategy, places = call.header.round, self.settings.strategy, call.places
        whole = self._memory(strategy, base.flat.size)
        merged = merge(
            strategy, values, examples,
            round_number=number, memory={name: content[places] for name, content in whole.items()},
        )  # fmt: skip
        norms = {name: round(norm_of(each.steps, scale=call.header.scale), 4) for name, each in updates.items()}
        alike = dict(zip(updates, likeness(values, merged.delta), strict=True))
        self._ledger.log(
            "aggregated", at_us=now_us, round=number, strategy=strategy, by=merged.by, norms=norms, likeness=alike,
            unusual=unusual(norms, alike),
        )  # fmt: skip
        moved = base.flat.astype(np.float64)
        moved[places] += merged.delta
        remembered = {}
        for name, content in merged.memory.items():
            kept = whole.get(name, np.zeros(base.flat.size)).copy()
            kept[places] = content
            remembered[f"{strategy} {name}"] = kept
        return head_of(moved.astype(np.float32)), remembered

    def _memory(self, strategy: str, parameters: int) -> flower.Memory:
        """Return what a strategy remembers by name, float64[P] each; what is of another size is forgotten."""
        found = ((str(name).split(" ", 1), content) for name, content in self._ledger.rows("SELECT * FROM memory"))
        told = {name: np.frombuffer(content, "<f8") for (whose, name), content in found if whose == strategy}
        return {name: content for name, content in told.items() if content.size == parameters}

    def _checked(self, message: bytes, *, sender: str, now_us: int) -> Update:
        update = read_update(message)
        header = update.header
        if header.gateway != sender:
            raise MessageRefused("wrong gateway", f"says it is by {header.gateway}, came from {sender[:64]}")
        self.check_signer(header.gateway, update.parts)
        if header.fleet != self._fleet:
            raise MessageRefused("fleet", f"of fleet {header.fleet}, wanted {self._fleet}")
        held = self._ledger.row("SELECT state, call, deadline_us FROM rounds WHERE number = ?", header.round)
        if held is None:
            raise MessageRefused("no such round", f"round {header.round} was never opened")
        if held[0] != "open" or now_us >= held[2]:
            raise MessageRefused("expired round", f"round {header.round} is over")
        if header.made_us > now_us + EARLY_US:
            raise MessageRefused("early", f"made {(header.made_us - now_us) / 1e6:.0f} s from now")
        call = read_call(bytes(held[1]), [self._key.public_key()])
        if call.header.mode != "robust":
            raise MessageRefused("mode", f"round {header.round} is of mode {call.header.mode}")
        check_answers(update, call)
        return update

    def check_signer(self, name: str, parts: Parts) -> None:
        """Raise MessageRefused unless a gateway of that name is enrolled, not revoked, and signed the message."""
        row = self._ledger.row("SELECT key, revoked_us FROM gateways WHERE name = ?", name)
        if row is None:
            raise MessageRefused("unknown gateway", f"{name} is not enrolled")
        if row[1] is not None:
            raise MessageRefused("revoked", f"{name} is revoked")
        if not verify(parts, _public(row[0])):
            raise MessageRefused("signature", f"not signed by the key of {name}")

    def _is_held(self, update: Update) -> bool:
        """Return whether this very update was taken before. Raises MessageRefused where another one was."""
        number, name = update.header.round, update.header.gateway
        held = self._ledger.row("SELECT sha256 FROM updates WHERE round = ? AND gateway = ?", number, name)
        if held is not None and held[0] != update.sha256:
            raise MessageRefused("second update", f"{name} sent another one to round {number}")
        return held is not None

    def refused(self, error: MessageRefused, *, sender: str, now_us: int) -> None:
        """Count a message that was refused, and log it."""
        with self._ledger.change() as ledger:
            ledger.count(f"refused: {error.reason}")
            last = ledger.row("SELECT coalesce(max(number), 0) FROM rounds") or (0,)
            ledger.count(what := f"{LOGGED}{last[0]}")
            if ledger.counted(what) <= MAX_LOGGED:
                ledger.log("refused", at_us=now_us, sender=sender[:64], reason=error.reason, text=str(error)[:300])

    def _settle_fleet(self) -> None:
        """Begin a fleet, or go on with it; another bundle begins from its own head, once no round is open."""
        head, sha256 = read_head(self._bundle.model), self._bundle.manifest_sha256
        row = self._ledger.row("SELECT name, bundle_sha256 FROM fleet")
        if row is None:
            self._ledger.run("INSERT INTO fleet VALUES (?, ?, ?)", self._fleet, sha256, _octets(head))
        elif row[0] != self._fleet:
            raise LedgerError(f"{self._ledger.name}: of fleet {row[0]}, wanted {self._fleet}")
        elif row[1] != sha256:
            if self._ledger.row("SELECT 1 FROM rounds WHERE state = 'open'") is not None:
                raise LedgerError(f"{self._ledger.name}: a round of another bundle is open: close it first")
            # A bundle made of a head of this fleet, and back again: rounds go on from where they are.
            own = "SELECT 1 FROM releases WHERE bundle_sha256 IN (?, ?)"
            kept = self.head if self._ledger.row(own, sha256, row[1]) is not None else head
            self._ledger.run("UPDATE fleet SET bundle_sha256 = ?, head = ?", sha256, _octets(kept))


def _octets(head: Head) -> bytes:
    return head.flat.astype("<f4").tobytes()


def _head(octets: bytes) -> Head:
    flat: NDArray[np.float32] = np.frombuffer(octets, "<f4").astype(np.float32)
    return head_of(flat)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _public(raw: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(bytes(raw))
