"""Federation as the service knows it: who looks on while windows are judged, what is heard, what is done beside it.

The pipeline's thread only looks on and hands over; files are written, carried and verified in threads of their own. An
early run of the trainer is asked for where a round opened or went on, an operator judged, or the site drifted: by a
file that a path unit of systemd watches, since nothing here starts programs. Who asks too often would have systemd give
the unit up, and nobody asks for it any more: between two wishes lie WISHES_APART_S, and what came meanwhile is one. An
agent that was killed meanwhile leaves it to the next, which asks so long after its start for what lies there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from agent.bundles.store import PACKAGE, Store, name_of
from agent.config import AgentConfig
from agent.delivery.inbox import Incoming, Subscription
from agent.learning.carrying import Carrier, Post
from agent.learning.keeping import Keeper
from agent.learning.rollout import Rollout
from agent.learning.sampler import Sampler
from agent.live.chores import Aside
from agent.monitoring.federation import FederationFacts
from contracts.agent_card import CARD_FILE, FOLDER, TAKEN_FILE, WANTED_FILE, AgentCard, want_run, write_card
from contracts.bundle import Bundle
from contracts.errors import OutputError
from contracts.rollout import MAX_ARCHIVE_BYTES

MOST_WAITING: Final = 64  # messages
MOST_WAITING_BYTES: Final = 2 * MAX_ARCHIVE_BYTES  # of them: a disk that is slow must not cost memory
END_S: Final = 1.0
RETRY_TURNS: Final = 60
WISHES_APART_S: Final = 30.0  # penstock-finetune.service allows 50 starts in 600 s


class Judged(Protocol):
    """What is asked of who judges (agent.live.judging)."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def verdicts(self) -> Mapping[str, str]: ...

    @property
    def is_drifting(self) -> bool: ...


class Learning:
    """A context manager. Without `[federation] enabled`, or without a state folder, all of it does nothing."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        state_dir: Path | None,
        post: Post,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._clock_s = clock_s
        self._next_wish_s = float("-inf")
        self._left_over_s = clock_s() + WISHES_APART_S
        self._state_dir = state_dir
        self._is_on = config.federation.enabled and state_dir is not None
        self._open = ExitStack()
        self._aside = Aside("penstock-federation")
        self._incoming: deque[Incoming] = deque()
        self._left_out = 0
        self._reasons: set[str] = set()
        self._asking = threading.Lock()
        self._card: AgentCard | None = None
        self._written: AgentCard | None = None
        self._bundle: Bundle | None = None
        self._verdicts: frozenset[tuple[str, str]] | None = None
        self._was_drifting = False
        self._turns = 0
        self._wishes = 0
        self.keeper: Keeper | None = None
        if self._is_on and state_dir is not None:
            self._build(config, state_dir, post)

    def _build(self, config: AgentConfig, state_dir: Path, post: Post) -> None:
        federation, gateway = config.federation, config.gateway.id
        fleet = str(federation.fleet)
        self._sampler = Sampler(state_dir, most_bytes=federation.max_samples_bytes)
        self.keeper = Keeper(self._sampler.put, self._sampler.let_go)
        self._carrier = Carrier(
            state_dir, gateway=gateway, fleet=fleet, post=post, is_private_only=federation.private_only
        )
        self._rollout = Rollout(
            state_dir,
            gateway=gateway,
            fleet=fleet,
            aggregators=federation.aggregators_dir,
            store=lambda: Store(state_dir / "models", trust=config.scoring.trust_dir),
            serving=self._serving,
        )

    @property
    def subscriptions(self) -> list[Subscription]:
        """Return what is to be heard from the broker."""
        return [*self._carrier.subscriptions, *self._rollout.subscriptions] if self._is_on else []

    def __enter__(self) -> Learning:
        if self._is_on:
            self._open.enter_context(self._sampler)
        elif self._state_dir is not None:
            for name in (WANTED_FILE, TAKEN_FILE, CARD_FILE):  # those of before: nobody is to answer rounds any more
                with contextlib.suppress(OSError):
                    (self._state_dir / FOLDER / name).unlink()
        return self

    def __exit__(self, *_: object) -> None:
        if self.keeper is not None:
            self.keeper.finish()
        self._aside.wait(END_S)
        self._open.close()

    def take(self, message: Incoming) -> None:
        """Take what came from the broker by these subscriptions, while there is room; called by one thread."""
        waiting = tuple(self._incoming)
        if len(waiting) < MOST_WAITING and sum(each.size_bytes for each in (*waiting, message)) <= MOST_WAITING_BYTES:
            self._incoming.append(message)
        else:
            self._left_out += 1

    def turn(self, judged: Judged, *, now_us: int) -> None:
        """Do what is due about once a second; returns at once."""
        if self.keeper is None:
            return
        self.keeper.advance(now_us)
        self._bundle = judged.bundle
        self._card = self._card_of(judged.bundle)
        self._look(judged)
        self._turns += 1
        self._aside.do(self._beside)

    def facts(self) -> FederationFacts:
        """Return what was kept, carried and taken so far."""
        if self.keeper is None:
            return FederationFacts()
        sampler, rollout = self._sampler, self._rollout
        skipped = sampler.skipped | {"devices": self.keeper.left_out}
        # Copies: the other thread may be counting, and a new reason would be a new key.
        messages = Counter(dict(self._carrier.counts)) + Counter(dict(rollout.counts))
        messages += Counter({"in full": self._left_out})
        return FederationFacts(
            is_enabled=True,
            kept=sampler.kept,
            pinned=sampler.pinned,
            let_go=sampler.let_go_again,
            skipped=tuple(sorted(skipped.items())),
            failed=sampler.failed,
            samples=sampler.book_windows,
            samples_bytes=sampler.book_bytes,
            messages=tuple(sorted(messages.items())),
            wishes=self._wishes,
            order=rollout.number,
            outcome=rollout.outcome,
            refused=tuple(rollout.refused),
            trouble=sampler.trouble or self._carrier.trouble,
        )

    # -- inside -------------------------------------------------------------------------------------------------

    def _look(self, judged: Judged) -> None:
        """Ask for an early run where the operator judged, or the site drifts."""
        verdicts = frozenset(judged.verdicts.items())
        if self._verdicts is not None and verdicts - self._verdicts:
            self._want({"verdicts"})
        self._verdicts = verdicts
        if judged.is_drifting and not self._was_drifting:
            self._want({"drift"})
        self._was_drifting = judged.is_drifting

    def _want(self, reasons: set[str]) -> None:
        with self._asking:
            self._reasons |= reasons

    def _card_of(self, bundle: Bundle) -> AgentCard:
        config = self._config
        return AgentCard(
            gateway=config.gateway.id,
            fleet=str(config.federation.fleet),
            bundle=None if name_of(bundle) == PACKAGE else str(bundle.path),
            bundle_sha256=bundle.manifest_sha256,
            trust=str(config.scoring.trust_dir),
            aggregators=str(config.federation.aggregators_dir),
            private_only=config.federation.private_only,
        )

    def _serving(self) -> Bundle:
        assert self._bundle is not None  # set before anything runs beside
        return self._bundle

    def _beside(self) -> None:
        """What touches the disk, in a thread of its own."""
        assert self._state_dir is not None
        messages = [self._incoming.popleft() for _ in range(len(self._incoming))]
        self._want(self._carrier.lay(messages))
        for message in messages:
            self._rollout.take(message)
        self._carrier.turn()
        if self._turns % RETRY_TURNS == 0:
            self._rollout.turn()
        try:
            if self._card is not None and self._card != self._written:
                write_card(self._state_dir, self._card)
                self._written = self._card
            self._ask()
        except OutputError as exc:
            self._carrier.trouble = str(exc)

    def _ask(self) -> None:
        assert self._state_dir is not None
        now_s = self._clock_s()
        if now_s < self._next_wish_s:
            return
        if now_s >= self._left_over_s:  # nothing was asked for since the start: one before may have been about to
            self._want(self._carrier.lying())
            self._left_over_s = float("inf")
        with self._asking:
            reasons, self._reasons = self._reasons, set()
        if not reasons:
            return
        try:
            want_run(self._state_dir, reasons)
        except OutputError:
            self._want(reasons)
            raise
        self._next_wish_s = self._clock_s() + WISHES_APART_S
        self._left_over_s = float("inf")
        self._wishes += 1
