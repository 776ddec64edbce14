"""A bundle that a fleet rolls out: the order names it, the archive brings it, the store and the trial judge it.

    order (signed by an aggregator, to this gateway, of a higher number than the last)
      -> nothing to do | back to the one before | archive wanted -> staged -> wanted -> shadow, swap, trial

An order vouches for nothing: what it names must be signed by a key of trust.d and be no older than what serves, as any
bundle from outside, and goes through the same trial. A way back is taken only to what served before or the package's:
who holds an aggregator's key must not dig up any bundle ever signed. Archives come on a topic of the whole fleet, as a
change to a bundle that is here already, and are only put on disk, two at most, until an order names one by its sha256.
Where an order waits and no change makes what it names, the whole archive is subscribed to.

Runs in a thread of its own beside the pipeline; what serves changes there, by the wish left in the store.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent.bundles.store import PACKAGE, Store, Wish, name_of
from agent.delivery.inbox import Incoming, Subscription
from agent.state.saved import StateFile
from contracts.agent_card import FOLDER
from contracts.bundle import Bundle, default_bundle
from contracts.bundle_change import base_of, changed, is_change
from contracts.errors import BundleError, OutputError, PenstockError
from contracts.pinned import DEFAULT_MANIFEST_SHA256
from contracts.rollout import MAX_ARCHIVE_BYTES, MAX_ORDER_BYTES, Order, pack_archive, read_order, unpack_archive
from contracts.signed import MessageRefused
from contracts.trust import trusted_keys
from contracts.whole_file import read_bounded, write_whole

ORDERS_FILE: Final = "orders.json"
MOST_ARCHIVES: Final = 2  # the newest and the one before, as an aggregator keeps them retained
MOST_REFUSED: Final = 8
MAX_TOLD: Final = 200
PATIENCE_TURNS: Final = 2  # that an order waits for a change, before the whole archive is asked for
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Rollout:
    """Follow orders. `serving` gives the bundle that serves; `store` a view of the store as it stands now.

    `number`, `outcome` and `refused` say what came of the last orders; `counts` are by what came of a message.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        gateway: str,
        fleet: str,
        aggregators: Path,
        store: Callable[[], Store],
        serving: Callable[[], Bundle],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._folder = state_dir / FOLDER / "bundles"
        self._file = StateFile(state_dir / FOLDER / ORDERS_FILE)
        self._gateway, self._fleet = gateway, fleet
        self._aggregators = aggregators
        self._store, self._serving = store, serving
        self._order_topic = f"penstock/v1/{gateway}/manifest"
        self._bundle_topic = f"penstock/v1/fleet/{fleet}/bundle/"
        self._whole_topic = f"penstock/v1/fleet/{fleet}/whole/"
        self._waiting: Order | None = None
        self._waited_turns = 0
        self._again: Order | None = None
        self.number, self._sha256, self.outcome, self.refused = _remembered(self._file.read())

    @property
    def subscriptions(self) -> list[Subscription]:
        """Return what is to be heard."""
        heard = [
            Subscription(self._order_topic, MAX_ORDER_BYTES),
            Subscription(f"{self._bundle_topic}+", MAX_ARCHIVE_BYTES),
        ]
        order = self._waiting
        if order is not None and self._waited_turns >= PATIENCE_TURNS:
            heard.append(Subscription(f"{self._whole_topic}{order.header.bundle_sha256}", MAX_ARCHIVE_BYTES))
        return heard

    def take(self, message: Incoming) -> None:
        """Take an order or an archive; anything else is somebody else's, and an empty one clears what was retained."""
        if not message.payload:
            return
        try:
            if message.topic == self._order_topic:
                self._ordered(message.payload)
            elif message.topic.startswith(self._bundle_topic):
                self._arrived(message.topic.removeprefix(self._bundle_topic), message.payload)
            elif message.topic.startswith(self._whole_topic):
                self._arrived(message.topic.removeprefix(self._whole_topic), message.payload)
        except MessageRefused as exc:
            self.counts[f"refused {exc.reason}"] += 1
        except (PenstockError, OSError, ValueError) as exc:  # others may write keys, a full disk, too large a bundle
            self._fail(exc, is_order=message.topic == self._order_topic)

    def turn(self) -> None:
        """Try once more what a disk would not take, and wait no longer for a change than PATIENCE_TURNS."""
        if self._waiting is not None:
            self._waited_turns += 1
        order, self._again = self._again, None
        if order is not None:
            try:
                self._follow(order)
            except (PenstockError, OSError) as exc:
                self._again = order
                self._fail(exc)

    def _fail(self, exc: Exception, *, is_order: bool = True) -> None:
        """Count it. An archive says nothing of an order that ended, or that order would be followed once more."""
        self.counts["failed"] += 1
        if is_order or self._waiting is not None:
            self.outcome = _told(f"failed: {exc}")

    # -- orders -------------------------------------------------------------------------------------------------

    def _ordered(self, payload: bytes) -> None:
        keys = [key for _, key in trusted_keys(self._aggregators)]
        order = read_order(payload, keys, fleet=self._fleet, gateway=self._gateway)
        if order.sha256 == self._sha256:
            if self.outcome.startswith(("waiting", "failed")) and self._waiting is None:  # after a restart
                self._follow(order)
            return
        if order.header.number <= self.number:
            raise MessageRefused("expired round", f"order {order.header.number}, {self.number} was taken already")
        self.counts["orders"] += 1
        self.number, self._sha256, self._waiting = order.header.number, order.sha256, None
        try:
            self._follow(order)
        except (OutputError, OSError):
            self._again = order
            raise

    def _follow(self, order: Order) -> None:
        header = order.header
        if header.bundle_sha256 == self._serving().manifest_sha256:
            self._end("serves")
        elif header.is_rollback:
            self._go_back(order)
        elif (reason := self._store().standing.refused.get(_name(order))) is not None:
            self._turn_away(order, f"refused here before: {reason}")
        elif (archive := self._kept(order)) is not None:
            self._stage(order, archive)
        else:
            self._waiting, self._waited_turns = order, 0
            self._end("waiting")

    def _go_back(self, order: Order) -> None:
        store, wanted = self._store(), order.header.bundle_sha256
        for name in dict.fromkeys((store.standing.previous, PACKAGE)):
            if (wanted == DEFAULT_MANIFEST_SHA256) if name == PACKAGE else name == _name(order):
                store.want(Wish(name, rollback=True))
                self._end("wanted back")
                return
        self._turn_away(order, "a way back to what never served here")

    def _arrived(self, name: str, payload: bytes) -> None:
        if _SHA256.fullmatch(name) is None or len(payload) > MAX_ARCHIVE_BYTES:
            raise MessageRefused("schema", "an archive under no sha256")
        path = self._folder / f"{name}.archive"
        if is_change(payload):
            base = self._base_of(payload)
            if base is None:
                self.counts["changes to another bundle"] += 1
                return
            payload = changed(payload, base=base)
        if not _holds(path, payload):  # what is retained comes on every connection, and disks wear
            write_whole(path, payload)
        self.counts["archives"] += 1
        found = sorted(self._folder.glob("*.archive"), key=lambda each: each.lstat().st_mtime_ns, reverse=True)
        for old in found[MOST_ARCHIVES:]:
            old.unlink(missing_ok=True)
        if self._waiting is not None and self._kept(self._waiting) is not None:
            order, self._waiting = self._waiting, None
            self._again = order
            self.turn()

    def _base_of(self, change: bytes) -> bytes | None:
        """Return the archive that a change begins from: of what serves, or of the package's bundle."""
        wanted = base_of(change)
        serving = self._serving()
        if serving.manifest_sha256 == wanted:
            return pack_archive(serving)
        return pack_archive(default_bundle()) if wanted == DEFAULT_MANIFEST_SHA256 else None

    def _kept(self, order: Order) -> bytes | None:
        """Return the archive an order names, if it came; one of other octets is none."""
        try:
            path = self._folder / f"{order.header.bundle_sha256}.archive"
            archive = read_bounded(path, most_bytes=order.header.archive_bytes)
        except OSError:
            return None
        return archive if hashlib.sha256(archive).hexdigest() == order.header.archive_sha256 else None

    def _stage(self, order: Order, archive: bytes) -> None:
        """Put a bundle into the store and let the agent want it, as `penstock model stage` does."""
        draft = self._folder / ".unpacked"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            unpack_archive(archive, draft)
            store = self._store()
            bundle = store.stage(draft, newest=self._serving().manifest.release)
            seen = (bundle.manifest_sha256, bundle.manifest.release)
            if seen != (order.header.bundle_sha256, order.header.release):
                self._turn_away(order, "the archive holds another bundle than the order names")
                return
            store.want(Wish(name_of(bundle)))
        except BundleError as exc:
            self._turn_away(order, str(exc))
        else:
            self.counts["staged"] += 1
            self._end("staged")
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _turn_away(self, order: Order, reason: str) -> None:
        self.counts["refused bundle"] += 1
        self.refused = [*(each for each in self.refused if each != _name(order)), _name(order)][-MOST_REFUSED:]
        self._end(_told(f"refused: {reason}"))

    def _end(self, outcome: str) -> None:
        self.outcome = outcome
        self._file.write(
            {"number": self.number, "sha256": self._sha256, "outcome": outcome, "refused": list(self.refused)}
        )


def _name(order: Order) -> str:
    """Return the name an ordered bundle has in the store (`store.name_of`)."""
    return f"{order.header.release:019d}-{order.header.bundle_sha256[:16]}"


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_bounded(path, most_bytes=len(content)) == content
    except OSError:
        return False


def _told(text: str) -> str:
    return " ".join(text.split())[:MAX_TOLD]


def _remembered(content: dict[str, Any] | None) -> tuple[int, str, str, list[str]]:
    """Return what was remembered; a memory of another shape counts as none."""
    match content:
        case {"number": int(number), "sha256": str(sha256), "outcome": str(outcome), "refused": list(refused)}:
            return number, sha256, _told(outcome), [str(each)[:MAX_TOLD] for each in refused][-MOST_REFUSED:]
        case _:
            return 0, "", "", []
