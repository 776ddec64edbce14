"""All of one fleet's aggregator but the network: what comes in is taken, what is due is done, what is to be said told.

Every worker has an `Office` on the same store. Each duty is one transaction that finds it done where another worker was
quicker, so they need no leader. Building a bundle takes seconds and happens outside of transactions; the ledger takes
one of several. Trap: a round belongs to one bundle; where the fleet went on to another, the next round waits until the
open one is closed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from contracts.anchors import pack_anchors
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.bundle_change import pack_change
from contracts.errors import OutputError
from contracts.head import read_head
from contracts.rollout import pack_archive
from contracts.signed import MessageRefused
from contracts.terminal import complain
from contracts.update import read_call
from detection.onnx_engine import OnnxEngine
from exporter.sign import load_key
from federation.aggregator.anchors import choose
from federation.aggregator.ledger import Ledger
from federation.aggregator.masked_rounds import MaskedRounds
from federation.aggregator.masked_standing import answered
from federation.aggregator.releasing import Press, kept, sweep
from federation.aggregator.rollout import Release, Rollouts, RolloutSettings
from federation.aggregator.rounds import Closed, Rounds, RoundSettings
from federation.aggregator.settings import AggregatorConfig
from federation.aggregator.windows import ServerWindows, server_windows
from training.errors import GateRefused

LEDGER: Final = "aggregator.db"
HOUR_US: Final = 3_600_000_000
AGAIN_US: Final = 180_000_000  # what is not retained is said again that often: a gateway may have been away
RELEASE_AGAIN_US: Final = 600_000_000  # after a disk did not take one: building it takes long
SAID_OF: Final = 16  # releases, the newest: those before were withdrawn long ago, where they are not offered
TOPICS: Final = "penstock/v1"
UPDATES: Final = f"{TOPICS}/+/update/+"
UPS: Final = f"{TOPICS}/+/federation/up/+"
STATUS: Final = f"{TOPICS}/+/status"


@dataclass(frozen=True)
class Saying:
    """What a topic should hold, or with `is_retained` false what is said there once more whenever `name` changes.

    `name` tells one content from another, `content` makes it.
    """

    topic: str
    name: bytes
    content: Callable[[], bytes]
    is_retained: bool = True


class Office:
    """The aggregator of one fleet. Raises ConfigError, KeyRefused, BundleError or LedgerError."""

    def __init__(self, config: AggregatorConfig) -> None:
        self.config = config
        self.fleet = config.fleet.name
        self.ledger = Ledger(store_of(config))
        self.base = first_bundle(config)
        self._key = load_key(config.keys.calls)
        rollout = config.rollout
        self.rollouts = Rollouts(
            self.ledger, self.base, fleet=self.fleet, key=self._key,
            settings=RolloutSettings(
                canary_share=rollout.canary_share,
                canary_us=round(rollout.canary_h * HOUR_US),
                every_us=round(rollout.every_h * HOUR_US),
            ),
        )  # fmt: skip
        self._refused_head = ""
        self._release_again_us = 0
        self.bundle = self._held()
        self.rounds = self._rounds()

    def close(self) -> None:
        """Close the store."""
        self.ledger.close()

    @cached_property
    def windows(self) -> ServerWindows:
        """Return our own windows, read and scored when first asked for."""
        told = self.config.windows
        cache = self.config.worker.state_dir / "windows"
        return server_windows(
            self.base, OnnxEngine(self.base), teaching=told.teaching, judging=told.judging, cache=cache
        )

    @property
    def press(self) -> Press:
        """Return what bundles are made with. Raises KeyRefused."""
        return Press(
            base=self.base, windows=self.windows, key=load_key(self.config.keys.bundles),
            state_dir=self.config.worker.state_dir, fleet=self.fleet,
        )  # fmt: skip

    def take(self, topic: str, payload: bytes, *, now_us: int) -> str:
        """Take a message by what it is; return what became of it, one word. Raises LedgerError: keep it then."""
        match topic.split("/")[2:]:
            case [sender, "update", _] | [sender, "federation", "up", _]:
                rounds = self.masked or self.rounds
                try:
                    return rounds.submit(payload, sender=sender, now_us=now_us)
                except MessageRefused:
                    return "refused"
            case [sender, "status"]:
                return "reported" if self.rollouts.report(sender, payload, now_us=now_us) else "foreign"
            case _:
                return "foreign"

    def tick(self, *, now_us: int) -> None:
        """Do what is due. Raises LedgerError."""
        self.rounds.give_up_foreign(now_us=now_us)
        closed = self._closed(now_us=now_us)
        if closed is not None:
            complain(f"round {closed.number} is {closed.state} with {closed.updates} updates{_why(closed.why)}")
        self.rollouts.step(now_us=now_us)
        self.follow()
        if self.config.rollout.is_automatic:
            self._release_if_due(now_us=now_us)
        if self.config.rounds.is_automatic and self._is_round_due(now_us=now_us):
            self.open_round(now_us=now_us)

    def _closed(self, *, now_us: int) -> Closed | None:
        judging, teaching = self.windows.judging, self.windows.teaching
        if (masked := self.masked) is not None:
            masked.advance(now_us=now_us)
            return masked.close(now_us=now_us, hold_out=judging, teaching=teaching) if masked.is_due() else None
        is_due = self.rounds.is_due(now_us=now_us)
        return self.rounds.close(now_us=now_us, hold_out=judging, teaching=teaching) if is_due else None

    def follow(self) -> None:
        """Go on to the bundle that the fleet runs now, once no round of another one is open."""
        current = self.rollouts.current()
        wanted = self.base.manifest_sha256 if current is None else current.bundle_sha256
        if wanted != self.bundle.manifest_sha256 and not self._open_round():
            self.bundle = self._held()
            self.rounds = self._rounds()

    def open_round(self, *, now_us: int) -> int:
        """Open a round, or find one open; return its number."""
        self.follow()
        self.rounds.give_up_foreign(now_us=now_us)
        return read_call(self.rounds.open(now_us=now_us), [self._key.public_key()]).header.round

    def release(self, *, now_us: int) -> Release:
        """Build a bundle of the fleet's head and begin to roll it out. Raises GateRefused, and what disks raise.

        Raises ValueError where there is nothing new, nobody to take it, or a roll-out in canary already.
        """
        head, number = self.rounds.head, self.rollouts.next_number()
        if head.sha256 in self._released():
            raise ValueError("the fleet's head is that of a release, or of the first bundle: nothing to release")
        if self.ledger.row("SELECT 1 FROM gateways WHERE revoked_us IS NULL") is None:
            raise ValueError("no gateway is enrolled: nobody to order a release to")
        bundle, _ = self.press.build(self.bundle, head, release=number, now_us=now_us)
        if not self.rollouts.begin(bundle, head_sha256=head.sha256, now_us=now_us):
            raise ValueError("a roll-out is in canary already: wait, halt it or roll it back")
        archived = self.rollouts.archived()
        held = {each.bundle_sha256 for each in self.rollouts.releases() if each.number in archived}
        sweep(self.config.worker.state_dir, kept=held, now_us=now_us)
        return self.rollouts.releases()[0]

    @property
    def masked(self) -> MaskedRounds | None:
        """Return what the open round goes through where it is a private one; None where it is robust."""
        opened = self.rounds.opened()
        return MaskedRounds(self.rounds) if opened is not None and opened[0].header.mode == "private" else None

    def sayings(self, *, now_us: int) -> Iterator[Saying]:
        """Give what topics should hold now."""
        fleet = f"{TOPICS}/fleet/{self.fleet}"
        row = self.ledger.row("SELECT call, number FROM rounds ORDER BY number DESC LIMIT 1")
        if row is not None:
            yield _saying(f"{fleet}/round", bytes(row[0]))
            yield Saying(f"{fleet}/anchors", self.bundle.manifest_sha256.encode(), self._anchors)
        releases, offered = self.rollouts.releases(), self.rollouts.offered()
        for release in releases[:SAID_OF] + [each for each in releases[SAID_OF:] if each in offered]:
            for kind, content in (("bundle", self._change), ("whole", self.rollouts.archive)):
                topic = f"{fleet}/{kind}/{release.bundle_sha256}"
                if release in offered:
                    yield Saying(topic, b"offered", partial(content, release.number))
                else:
                    yield Saying(topic, b"withdrawn", bytes)
        for gateway, order in self.rollouts.orders().items():
            yield _saying(f"{TOPICS}/{gateway}/manifest", order)
        if row is not None and (masked := self.masked) is not None:
            for gateway, message in masked.outgoing():
                name = hashlib.sha256(message).digest() + (now_us // AGAIN_US).to_bytes(8, "big")
                topic = f"{TOPICS}/{gateway}/federation/down/{row[1]}"
                yield Saying(topic, name, partial(bytes, message), is_retained=False)

    def facts(self, *, now_us: int) -> dict[str, Any]:
        """Return how things stand, as `status` tells and metrics count."""
        row = self.ledger.row(
            "SELECT number, state, opened_us, deadline_us, why FROM rounds ORDER BY number DESC LIMIT 1"
        )
        current, reports = self.rollouts.current(), self.rollouts.reports()
        newest = next(iter(self.rollouts.releases()), None)
        gateways = self.ledger.rows("SELECT name, revoked_us FROM gateways ORDER BY name")
        number = row[0] if row else 0
        private = answered(self.ledger, number, self._key.public_key())
        found = self.ledger.rows("SELECT gateway FROM updates WHERE round = ?", number)
        stage, sent = private or ("", {str(name) for (name,) in found})
        return {
            "fleet": self.fleet,
            "bundle": {"release": self.base.manifest.release if current is None else current.number},
            "head": self.rounds.head.sha256,
            "round": None if row is None else {
                "number": number, "state": row[1], "stage": stage, "updates": len(sent),
                "quorum": self.config.rounds.quorum,
                "left_s": max(0, (row[3] - now_us) // 1_000_000) if row[1] == "open" else 0, "why": row[4] or "",
            },
            "rollout": None if newest is None else {
                "release": newest.number, "state": newest.state, "why": newest.why,
                "ordered": len(self.rollouts.ordered(newest)),
                "running": sum(each.runs(newest) for each in reports.values()),
            },
            "gateways": [
                {
                    "name": name, "is_revoked": revoked_us is not None, "has_sent": name in sent,
                    "release": reports[name].release if name in reports else None,
                    "calibration": reports[name].calibration if name in reports else None,
                }
                for name, revoked_us in gateways
            ],
            "counters": self.ledger.counters(),
        }  # fmt: skip

    # -- inside -------------------------------------------------------------------------------------------------

    def _held(self) -> Bundle:
        """Return the bundle that rounds are held for: the one the fleet's open round, if any, belongs to."""
        current = self.rollouts.current()
        row = self.ledger.row("SELECT bundle_sha256 FROM fleet") if self._open_round() else None
        if row is not None:
            known = [each for each in self.rollouts.releases() if each.bundle_sha256 == row[0]]
            current = known[0] if known else None
        return kept(self.config.worker.state_dir, self.base, self.rollouts, current)

    def _rounds(self) -> Rounds:
        told = self.config.rounds
        settings = RoundSettings(
            mode=told.mode, strategy=told.strategy, quorum=told.quorum, lasts_us=round(told.lasts_h * HOUR_US),
            clip_norm=told.clip_norm, kept_share=told.kept_share,
        )  # fmt: skip
        shipped = read_head(self.base.model)
        return Rounds(self.ledger, self.bundle, fleet=self.fleet, key=self._key, settings=settings, shipped=shipped)

    def _change(self, number: int) -> bytes:
        """Return a release as a change to the first bundle, or whole where that is no shorter."""
        archive = self.rollouts.archive(number)
        try:
            base = pack_archive(self.base)
        except ValueError:  # larger than what travels
            return archive
        return min(pack_change(archive, base=base, base_sha256=self.base.manifest_sha256), archive, key=len)

    def _anchors(self) -> bytes:
        teaching, head = self.windows.teaching, read_head(self.bundle.model)
        chosen = choose(teaching.embedding, teaching.label, head=head, thresholds=teaching.thresholds)
        return pack_anchors(chosen, fleet=self.fleet, bundle_sha256=self.bundle.manifest_sha256, key=self._key)

    def _open_round(self) -> bool:
        return self.ledger.row("SELECT 1 FROM rounds WHERE state = 'open'") is not None

    def _is_round_due(self, *, now_us: int) -> bool:
        last = self.ledger.row("SELECT state, opened_us FROM rounds ORDER BY number DESC LIMIT 1")
        return last is None or (last[0] != "open" and now_us - last[1] >= self.config.rounds.every_h * HOUR_US)

    def _release_if_due(self, *, now_us: int) -> None:
        head = self.rounds.head.sha256
        is_new = head not in {self._refused_head, *self._released()}
        if not is_new or now_us < self._release_again_us or not self.rollouts.is_due(now_us=now_us):
            return
        try:
            released = self.release(now_us=now_us)
            complain(f"release {released.number} goes to canaries")
        except (OutputError, OSError) as exc:  # a full disk, say: rounds go on meanwhile
            self._release_again_us = now_us + RELEASE_AGAIN_US
            complain(exc)
        except (GateRefused, ValueError) as exc:
            self._refused_head = head
            complain(exc)
            with self.ledger.change() as ledger:
                ledger.count("releases refused")
                ledger.log("release refused", at_us=now_us, head=head, why=str(exc)[:300])

    def _released(self) -> set[str]:
        """Return the heads that a bundle was made of already, that of the base included."""
        found = {each.head_sha256 for each in self.rollouts.releases()}
        return found | {read_head(self.base.model).sha256, read_head(self.bundle.model).sha256}


def store_of(config: AggregatorConfig) -> Path | str:
    """Return what rounds and gateways are kept in."""
    return config.worker.store or config.worker.state_dir / LEDGER


def first_bundle(config: AggregatorConfig) -> Bundle:
    """Return the bundle that the gateways began with. Raises BundleError."""
    told = config.bundle
    return default_bundle() if told.path is None else load_bundle(told.path, trust=told.trust)


def _saying(topic: str, content: bytes) -> Saying:
    return Saying(topic, hashlib.sha256(content).digest(), lambda: content)


def _why(why: str) -> str:
    return f": {why}" if why else ""
