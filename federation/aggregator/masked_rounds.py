"""A round of mode `private`, as a state machine on disk beside that of `rounds`.

    keys     gateways say that they take part; then the roster goes out
    shares   members send sealed shares; then each gets those sealed for it
    masked   members send their steps under masks; then the list of survivors goes out, to those
    consent  survivors sign what they were told; then the signatures of enough of them go out, to those
    unmask   these give one share of every secret that is wanted; then
    sum      the sum of the survivors' steps stands, and nothing else: to be closed as any round
    void     too few went on; nothing was learnt of anybody

A state ends when all asked have answered (of keys: when a cohort is full), or at its time. A message is checked as in
`rounds`, besides: mode, state, membership, the roster it is bound to. What is refused changes nothing but counters and
log. Steps that come late are refused unread: their sender's mask key may be known by then. Trap: an update cannot be
judged before it is summed, so a hostile member can spoil a round (its mean is too long, or the gate says no), no more.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from contracts.head import head_of
from contracts.masks import (
    LEAST_COHORT,
    MAX_COHORT,
    KeysHeader,
    Member,
    MemberHeader,
    Roster,
    RosterHeader,
    bits,
    pack_relay,
    pack_roster,
    places_of,
    read_header,
    read_keys,
    read_masked,
    read_roster,
    read_shares,
    threshold,
)
from contracts.signed import MessageRefused
from contracts.unmasking import CohortHeader, Told, pack_consents, pack_survivors, read_consent, read_unmask
from contracts.update import INT8_MAX, longest
from federation.aggregator.masked_standing import Standing
from federation.aggregator.masked_sum import Found, Gathered, found_in, relayed
from federation.aggregator.release import HoldOut
from federation.aggregator.rounds import Closed, Rounds

# Percent of a round's time at whose end a state ends; `keys` ends as `rounds.KEYS_SHARE` says.
ENDS: Final = {"shares": 55, "masked": 70, "consent": 85, "unmask": 100}
OVER: Final = ("sum", "void")
_HELD: Final = "SELECT sha256 FROM private WHERE round = ? AND kind = ? AND gateway = ?"
_SENT: Final = "SELECT round, count(*) FROM private WHERE round = ? GROUP BY round"  # more come, until all go


class MaskedRounds:
    """The private rounds of a fleet, in the file of its rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds, self._ledger = rounds, rounds.ledger
        self._least = max(LEAST_COHORT, rounds.settings.quorum)
        self._trusted = [rounds.key.public_key()]
        self._found: Found | None = None

    def submit(self, message: bytes, *, sender: str, now_us: int) -> str:
        """Take a message that came from a gateway's own topics; return `accepted` or `repeated`.

        Raises MessageRefused, after counting and logging; nothing else has changed then.
        """
        try:
            with self._ledger.change() as ledger:
                kind, number, digest = self._checked(message, sender=sender, now_us=now_us)
                if ledger.row(_HELD, number, kind, sender) is not None:
                    ledger.count("repeated")
                    return "repeated"
                added = "INSERT INTO private VALUES (?, ?, ?, ?, ?, ?)"
                ledger.run(added, number, kind, sender, digest, message, now_us)
                ledger.count(f"accepted {kind}")
                ledger.log("accepted", at_us=now_us, round=number, gateway=sender, kind=kind, sha256=digest)
        except MessageRefused as exc:
            self._rounds.refused(exc, sender=sender, now_us=now_us)
            raise
        return "accepted"

    def advance(self, *, now_us: int) -> str | None:
        """Move the open round on as far as it goes; return its state, None where no private round is open."""
        while True:
            self._found = self._sum_of_all(now_us=now_us)
            with self._ledger.change():
                at = self._standing()
                if at is None or at.state in OVER or not self._is_over(at, now_us=now_us):
                    return None if at is None else at.state
                steps = {
                    "keys": self._after_keys,
                    "shares": self._after_shares,
                    "masked": self._after_masked,
                    "consent": self._after_consent,
                    "unmask": self._after_unmask,
                }
                steps[at.state](at, now_us)

    def outgoing(self) -> list[tuple[str, bytes]]:
        """Return what the present state tells to whom: gateway and message; the same octets every time.

        Who answered is not told again.
        """
        at = self._standing()
        if at is None or at.roster is None or at.state in OVER:
            return []
        answered = set(self._messages(at, at.state))
        return [(name, message) for name, message in self._told(at, at.roster) if name not in answered]

    def _told(self, at: Standing, roster: Roster) -> list[tuple[str, bytes]]:
        names, bound = [member.name for member in roster.members], at.bound
        if at.state == "shares":
            row = self._ledger.row("SELECT roster FROM private_rounds WHERE number = ?", at.call.header.round)
            return [(name, bytes(row[0])) for name in names] if row is not None else []
        if at.state == "masked":
            shares = self._gathered(at).shares
            return [
                (
                    names[own],
                    pack_relay(
                        MemberHeader(gateway=names[own], **bound), relayed(shares, own=own),
                        own=own, members=at.count, key=self._rounds.key,
                    ),
                )
                for own in sorted(at.senders)
            ]  # fmt: skip
        header, key = CohortHeader(**bound), self._rounds.key
        if at.state == "consent":
            told = pack_survivors(header, at.survivors, members=at.count, key=key)
            return [(names[place], told) for place in sorted(at.survivors)]
        consents = self._consents(at)
        enough = dict(sorted(consents.items())[: threshold(at.count)])  # what more would prove nothing more
        told = pack_consents(header, enough, members=at.count, key=key)
        return [(names[place], told) for place in sorted(consents)]

    def is_due(self) -> bool:
        """Return whether the open round is to be closed: its sum stands, or it is void."""
        at = self._standing()
        return at is not None and at.state in OVER

    def close(self, *, now_us: int, hold_out: HoldOut, teaching: HoldOut | None = None) -> Closed | None:
        """Adopt the head that the sum says, or not. None where no private round is due."""
        with self._ledger.change() as ledger:
            at, opened = self._standing(), self._rounds.opened()
            if at is None or opened is None or at.state not in OVER:
                return None
            number, base = at.call.header.round, opened[1]
            row = ledger.row("SELECT total, why FROM private_rounds WHERE number = ?", number)
            assert row is not None
            head = None
            if at.state == "sum":
                delta = np.frombuffer(row[0], "<i4") * (at.call.header.scale / len(at.survivors))
                moved = base.flat.astype(np.float64)
                moved[at.call.places] += delta
                head = head_of(moved.astype(np.float32))
            closed = self._rounds.conclude(
                number, base=base, head=head, updates=len(at.survivors), why=str(row[1]), now_us=now_us,
                hold_out=hold_out, teaching=teaching,
            )  # fmt: skip
            ledger.run("DELETE FROM private WHERE round = ?", number)  # masked steps and shares are of no more use
        return closed

    # -- one message ------------------------------------------------------------------------------------------------

    def _checked(self, message: bytes, *, sender: str, now_us: int) -> tuple[str, int, str]:
        """Return kind, round and sha256 of a message that may be taken, or was. Raises MessageRefused."""
        kind, header, parts = read_header(message)
        if header.gateway != sender:
            raise MessageRefused("wrong gateway", f"says it is by {header.gateway}, came from {sender[:64]}")
        self._rounds.check_signer(header.gateway, parts)
        if header.fleet != self._rounds.fleet:
            raise MessageRefused("fleet", f"of fleet {header.fleet}, wanted {self._rounds.fleet}")
        held = self._ledger.row("SELECT state FROM rounds WHERE number = ?", header.round)
        if held is None:
            raise MessageRefused("no such round", f"round {header.round} was never opened")
        if held[0] != "open":
            raise MessageRefused("expired round", f"round {header.round} is over")
        at = self._standing()
        if at is None:
            raise MessageRefused("mode", f"round {header.round} is not of mode private")
        digest = hashlib.sha256(message).hexdigest()
        known = self._ledger.row(_HELD, header.round, kind, sender)
        if known is not None and known[0] != digest:
            raise MessageRefused("second answer", f"{sender} sent other {kind} to round {header.round}")
        if known is None:
            if at.state != kind or now_us >= at.until_us:
                raise MessageRefused("stage", f"{kind} came while round {header.round} waits for {at.state}")
            self._check(kind, header, message, at)
        return kind, header.round, digest

    def _check(self, kind: str, header: KeysHeader | MemberHeader, message: bytes, at: Standing) -> None:
        """Raise MessageRefused unless a message of the state's kind is one that this round asks for."""
        if isinstance(header, KeysHeader):
            self._check_keys(message, at)
            return
        roster = at.roster
        assert roster is not None
        place = roster.place(header.gateway)
        if header.roster_sha256 != roster.sha256:
            raise MessageRefused("base", f"bound to another roster than that of round {header.round}")
        if kind == "shares":
            read_shares(message, members=at.count)
            return
        if kind == "masked":
            if place not in at.senders:
                raise MessageRefused("not a member", f"{header.gateway} sent no shares")
            if read_masked(message, members=at.count, count=at.call.header.kept).senders != at.senders:
                raise MessageRefused("base", "masked with others than sent shares")
            return
        if kind == "consent":
            if place not in at.survivors:
                raise MessageRefused("not a member", f"{header.gateway} is not among the survivors")
            if read_consent(message, members=at.count).told != Told(at.senders, at.survivors):
                raise MessageRefused("base", "a consent to other senders or survivors")
            return
        if place not in self._consents(at):
            raise MessageRefused("not a member", f"{header.gateway} consented to no survivors")
        unmask = read_unmask(message, members=at.count)
        if unmask.survivors != at.survivors or not set(unmask.shares) <= at.senders:
            raise MessageRefused("base", "answers another list of survivors")

    def _check_keys(self, message: bytes, at: Standing) -> None:
        keys = read_keys(message)
        if keys.header.call_sha256 != at.call.sha256:
            raise MessageRefused("base", f"answers another call than that of round {keys.header.round}")
        others = [read_keys(raw) for raw in self._messages(at, "keys").values()]
        used = {key for each in others for key in (each.mask_key, each.share_key)}
        if keys.mask_key == keys.share_key or used & {keys.mask_key, keys.share_key}:
            raise MessageRefused("payload", "a key that came before")
        for key in (keys.mask_key, keys.share_key):
            try:
                X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
            except ValueError as exc:
                raise MessageRefused("payload", "a key that no secret can be agreed with") from exc

    # -- from state to state ----------------------------------------------------------------------------------------

    def _is_over(self, at: Standing, *, now_us: int) -> bool:
        """Return whether a state is: all that are asked have answered, a cohort is full, or its time is up."""
        if now_us >= at.until_us:
            return True
        gone, sent = self._revoked(), set(self._messages(at, at.state))
        if at.state == "keys":
            if not self._least <= len(sent - gone) < MAX_COHORT:  # more may be enrolled yet; or the others wait for
                return len(sent - gone) >= MAX_COHORT  # another round
            asked = {str(name) for (name,) in self._ledger.rows("SELECT name FROM gateways")}
        else:
            everybody = frozenset(range(at.count))
            places = {"shares": everybody, "masked": at.senders, "consent": at.survivors}.get(at.state)
            asked = {at.name(place) for place in (self._consents(at) if places is None else places)}
        return asked - gone <= sent

    def _after_keys(self, at: Standing, now_us: int) -> None:
        gone, header = self._revoked(), at.call.header
        known = {str(name): bytes(key) for name, key in self._ledger.rows("SELECT name, key FROM gateways")}
        found = [read_keys(raw) for name, raw in self._messages(at, "keys").items() if name not in gone][:MAX_COHORT]
        if len(found) < self._least:
            self._void(at, f"{len(found)} gateways, wanted {self._least}", now_us)
            return
        members = [
            Member(name := each.header.gateway, known[name], each.mask_key, each.share_key, each.parts.signature)
            for each in found
        ]
        told = RosterHeader(fleet=header.fleet, round=header.round, call_sha256=at.call.sha256, members=len(members))
        self._move(at, "shares", now_us, roster=pack_roster(told, members, self._rounds.key))

    def _after_shares(self, at: Standing, now_us: int) -> None:
        senders = self._places(at, "shares")
        if not self._is_enough(at, senders, "sent shares", now_us):
            return
        self._move(at, "masked", now_us, senders=bits(senders, members=at.count))

    def _after_masked(self, at: Standing, now_us: int) -> None:
        survivors = self._places(at, "masked")
        if not self._is_enough(at, survivors, "sent masked steps", now_us):
            return
        self._move(at, "consent", now_us, survivors=bits(survivors, members=at.count))

    def _after_consent(self, at: Standing, now_us: int) -> None:
        if not self._is_revoked(at, now_us) and self._is_enough(at, self._places(at, "consent"), "consented", now_us):
            self._move(at, "unmask", now_us)

    def _after_unmask(self, at: Standing, now_us: int) -> None:
        if self._is_revoked(at, now_us) or not self._is_enough(at, self._places(at, "unmask"), "gave shares", now_us):
            return
        if self._found is None or self._found.of != self._ledger.row(_SENT, at.call.header.round):
            return  # another message came while we summed: once more
        total, wrong = self._found.total, self._found.wrong
        if total is None:
            self._void(at, self._found.why, now_us)
            return
        if wrong:
            self._ledger.log("wrong shares", at_us=now_us, round=at.call.header.round, gateways=wrong)
        header, survivors = at.call.header, len(at.survivors)
        norm, bound = float(np.linalg.norm(total)) * header.scale / survivors, longest(header)
        if np.abs(total).max() > INT8_MAX * survivors or not norm <= bound:
            self._void(at, f"a mean of norm {norm:.4g}, wanted at most {bound:.4g}: a member lied", now_us)
            return
        self._move(at, "sum", now_us, total=total.astype("<i4").tobytes())

    def _is_revoked(self, at: Standing, now_us: int) -> bool:
        """Return whether a survivor was revoked, and the round is void for it."""
        if gone := sorted(self._revoked() & {at.name(place) for place in at.survivors}):
            self._void(at, f"{', '.join(gone)} was revoked when its steps could no longer be left out", now_us)
        return bool(gone)

    def _is_enough(self, at: Standing, places: frozenset[int], what: str, now_us: int) -> bool:
        wanted = max(threshold(at.count), self._rounds.settings.quorum)
        if len(places) < wanted:
            self._void(at, f"{len(places)} of {at.count} {what}, wanted {wanted}", now_us)
        return len(places) >= wanted

    def _move(self, at: Standing, state: str, now_us: int, **content: bytes) -> None:
        header, number = at.call.header, at.call.header.round
        lasts_us = header.deadline_us - header.opened_us
        until_us = header.opened_us + lasts_us * ENDS.get(state, 100) // 100
        for name, value in content.items():
            self._ledger.run(f"UPDATE private_rounds SET {name} = ? WHERE number = ?", value, number)
        self._ledger.run("UPDATE private_rounds SET state = ?, until_us = ? WHERE number = ?", state, until_us, number)
        self._ledger.count(f"private {state}")
        self._ledger.log("private", at_us=now_us, round=number, state=state, members=at.count or None)

    def _void(self, at: Standing, why: str, now_us: int) -> None:
        self._ledger.run("UPDATE private_rounds SET why = ? WHERE number = ?", why, at.call.header.round)
        self._move(at, "void", now_us)

    # -- the file ---------------------------------------------------------------------------------------------------

    def _standing(self) -> Standing | None:
        opened = self._rounds.opened()
        if opened is None:
            return None
        call = opened[0]
        row = self._ledger.row(
            "SELECT state, until_us, roster, senders, survivors FROM private_rounds WHERE number = ?", call.header.round
        )
        if row is None:
            return None
        roster = None if row[2] is None else read_roster(bytes(row[2]), self._trusted)
        count = 0 if roster is None else len(roster.members)
        senders, survivors = (
            frozenset() if raw is None else places_of(bytes(raw), members=count) for raw in (row[3], row[4])
        )
        return Standing(call, str(row[0]), int(row[1]), roster, senders, survivors)

    def _gathered(self, at: Standing) -> Gathered:
        assert at.roster is not None
        roster, count = at.roster, at.count
        shares, masked, given = (
            {roster.place(name): raw for name, raw in self._messages(at, kind).items()}
            for kind in ("shares", "masked", "unmask")
        )
        return Gathered(
            roster,
            at.call.sha256,
            {place: read_shares(raw, members=count) for place, raw in shares.items() if place in at.senders},
            {
                place: read_masked(raw, members=count, count=at.call.header.kept).values
                for place, raw in masked.items()
                if place in at.survivors
            },
            {place: read_unmask(raw, members=count).shares for place, raw in given.items()},
        )

    def _consents(self, at: Standing) -> dict[int, bytes]:
        """Return the signatures of the survivors that consented, by place; no more come once the state is over."""
        assert at.roster is not None
        return {
            at.roster.place(name): read_consent(raw, members=at.count).parts.signature
            for name, raw in self._messages(at, "consent").items()
        }

    def _messages(self, at: Standing, kind: str) -> dict[str, bytes]:
        """Return the messages of a kind by gateway, first come first."""
        asked = "SELECT gateway, message FROM private WHERE round = ? AND kind = ? ORDER BY received_us, gateway"
        return {str(name): bytes(raw) for name, raw in self._ledger.rows(asked, at.call.header.round, kind)}

    def _places(self, at: Standing, kind: str) -> frozenset[int]:
        """Return who sent a message of a kind and is not revoked."""
        assert at.roster is not None
        return frozenset(at.roster.place(name) for name in set(self._messages(at, kind)) - self._revoked())

    def _revoked(self) -> set[str]:
        return {str(name) for (name,) in self._ledger.rows("SELECT name FROM gateways WHERE revoked_us IS NOT NULL")}

    def _sum_of_all(self, *, now_us: int) -> Found | None:
        """Return the sum of a round whose last state is over, else None. It may take seconds: nobody waits for it."""
        with self._ledger.snapshot():
            at = self._standing()
            if at is None or at.state != "unmask" or not self._is_over(at, now_us=now_us):
                return None
            sent, gathered = self._ledger.row(_SENT, at.call.header.round), self._gathered(at)
        return found_in(gathered, of=sent)
