"""Bringing a new bundle to a fleet: canaries first, then everybody, and back again where gateways say it does harm.

    canary       a share of the gateways is ordered to take it, and watched
    fleet        enough canaries run it and nothing was said against it: everybody is ordered to
    halted       an operator stopped it while in canary: who has it keeps it, nobody else gets it
    rolled back  gateways that had it reported drift, or turned it away; or an operator went back: all are ordered back

Orders are signed once and kept, one a gateway, the newest; publishing them again and again is harmless. What a gateway
says of itself comes from its own status topic. Trap: a gateway can lie there, and stop a roll-out; it can never start
one. Below HALT_SHARE of those ordered nobody's word alone counts, where more than a few are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contracts.bundle import MODEL, Bundle
from contracts.head import read_head
from contracts.rollout import OrderHeader, pack_archive, pack_order, read_archive
from federation.aggregator.ledger import Ledger
from federation.aggregator.retention import forget_archives, void_open

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CANARY, FLEET, HALTED, ROLLED_BACK = "canary", "fleet", "halted", "rolled back"
HALT_SHARE: Final = 0.2  # of the gateways ordered to take a bundle, whose trouble takes it back; at least one
MAX_REPORT_BYTES: Final = 16 * 1024
MAX_REFUSED: Final = 16  # as many as an agent says, the newest last
DAY_US: Final = 86_400_000_000
DRIFT: Final = "drift"
NOTHING: Final = "[]"  # refused, as it is kept
_REPORTED: Final = """INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET
    release = excluded.release, bundle_sha256 = excluded.bundle_sha256, calibration = excluded.calibration,
    refused = excluded.refused, seen_us = excluded.seen_us"""
_ORDERED: Final = """INSERT INTO orders VALUES (?, ?, ?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET
    number = excluded.number, release = excluded.release, message = excluded.message, issued_us = excluded.issued_us"""


@dataclass(frozen=True, kw_only=True)
class RolloutSettings:
    """How a bundle reaches the fleet: how many first, how long they are watched, how often at most there is one."""

    canary_share: float = 0.1
    canary_us: int = DAY_US
    every_us: int = DAY_US


@dataclass(frozen=True)
class Release:
    """A release as the ledger knows it."""

    number: int
    state: str
    bundle_sha256: str
    head_sha256: str
    since_us: int
    why: str


@dataclass(frozen=True)
class Report:
    """What a gateway says of itself: the release it runs, whether its thresholds drift, what it turned away."""

    release: int
    bundle_sha256: str
    calibration: str
    refused: tuple[str, ...]

    def trouble_with(self, release: Release) -> str:
        """Return what speaks against a release here, empty where nothing does."""
        if f"{release.number:019d}-{release.bundle_sha256[:16]}" in self.refused:
            return "turned away or taken back"
        if self.calibration == DRIFT and self.runs(release):
            return DRIFT
        return ""

    def runs(self, release: Release) -> bool:
        """Return whether the gateway runs a release; one that says no sha256 is believed its number."""
        return self.release == release.number and self.bundle_sha256 in ("", release.bundle_sha256)


class Rollouts:
    """The releases of one fleet, in the aggregator's store. `base` is the bundle the line began with."""

    def __init__(
        self, ledger: Ledger, base: Bundle, *, fleet: str, key: Ed25519PrivateKey, settings: RolloutSettings
    ) -> None:
        self.settings = settings
        self._ledger, self._base, self._fleet, self._key = ledger, base, fleet, key

    def releases(self) -> list[Release]:
        """Return all releases, the newest first."""
        rows = self._ledger.rows(
            "SELECT number, state, bundle_sha256, head_sha256, since_us, why FROM releases ORDER BY number DESC"
        )
        return [Release(*row) for row in rows]

    def current(self) -> Release | None:
        """Return the release that the fleet runs, None where that is the base."""
        return next((each for each in self.releases() if each.state == FLEET), None)

    def archive(self, number: int) -> bytes:
        """Return a release's archive."""
        row = self._ledger.row("SELECT archive FROM releases WHERE number = ?", number)
        assert row is not None
        return bytes(row[0])

    def next_number(self) -> int:
        """Return the number of the next release."""
        return 1 + max([self._base.manifest.release, *(each.number for each in self.releases())])

    def is_due(self, *, now_us: int) -> bool:
        """Return whether there may be another release: none is in canary, and the last is old enough."""
        last = next(iter(self.releases()), None)
        return last is None or (last.state != CANARY and now_us - last.since_us >= self.settings.every_us)

    def begin(self, bundle: Bundle, *, head_sha256: str, now_us: int) -> bool:
        """Order a new bundle to canaries; return whether no other worker began one first.

        Raises ValueError for a bundle too large to travel.
        """
        archive, number = pack_archive(bundle), bundle.manifest.release
        with self._ledger.change() as ledger:
            newest = ledger.row("SELECT number, state FROM releases ORDER BY number DESC LIMIT 1")
            if newest is not None and (newest[0] >= number or newest[1] == CANARY):
                return False
            row = number, CANARY, bundle.manifest_sha256, head_sha256, archive, now_us
            ledger.run("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, '')", *row)
            release = self.releases()[0]
            chosen = self._canaries(release)
            self._order(chosen, release, is_rollback=False, now_us=now_us)
            forget_archives(ledger, kept=self._wanted())
            ledger.log("canary", at_us=now_us, release=number, bundle=bundle.manifest_sha256, gateways=chosen)
        return True

    def report(self, gateway: str, payload: bytes, *, now_us: int) -> bool:
        """Keep what an enrolled gateway said last; False for what is no status, or by nobody we know."""
        told = _report(payload)
        if told is None or not gateway.isprintable() or not self._is_enrolled(gateway):
            return False
        if self._reports("WHERE gateway = ?", gateway).get(gateway) == told:
            return True
        row = gateway, told.release, told.bundle_sha256, told.calibration, json.dumps(told.refused), now_us
        with self._ledger.change() as ledger:
            ledger.run(_REPORTED, *row)
        return True

    def reports(self) -> dict[str, Report]:
        """Return what each gateway said last."""
        return self._reports()

    def _reports(self, which: str = "", *values: str) -> dict[str, Report]:
        asked = f"SELECT gateway, release, bundle_sha256, calibration, refused FROM reports {which}"
        rows = self._ledger.rows(asked, *values)
        return {
            str(name): Report(release, sha256, calibration, () if refused == NOTHING else tuple(json.loads(refused)))
            for name, release, sha256, calibration, refused in rows
        }

    def step(self, *, now_us: int) -> str:
        """Go on with the newest release as far as may be; return its state, empty where there is none."""
        with self._ledger.change():
            releases = self.releases()
            if not releases:
                return ""
            newest, current = releases[0], self.current()
            if newest.state in (CANARY, FLEET):
                if (why := self._against(newest)) is not None:
                    self._back(newest, why=why, now_us=now_us)
                    return ROLLED_BACK
                if newest.state == CANARY and self._is_proven(newest, now_us=now_us):
                    self._set(newest, FLEET, why="", now_us=now_us)
                    current = newest
            if current is not None:
                self._order_rest(current, but=set(self.ordered(newest)) if newest != current else (), now_us=now_us)
            return self.releases()[0].state

    def halt(self, *, why: str, now_us: int) -> int:
        """Stop a roll-out in canary where it is; return its number. Raises ValueError where there is none."""
        with self._ledger.change():
            newest = next(iter(self.releases()), None)
            if newest is None or newest.state != CANARY:
                raise ValueError("no roll-out is in canary: nothing to halt")
            self._set(newest, HALTED, why=why, now_us=now_us)
            return newest.number

    def roll_back(self, *, why: str, now_us: int) -> int:
        """Order everybody back from the newest release; return its number. Raises ValueError where there is none."""
        with self._ledger.change():
            newest = next(iter(self.releases()), None)
            if newest is None or newest.state == ROLLED_BACK:
                raise ValueError("no release is out: nothing to roll back")
            self._back(newest, why=why, now_us=now_us)
            return newest.number

    def orders(self) -> dict[str, bytes]:
        """Return the newest order to each gateway that is not revoked."""
        rows = self._ledger.rows(
            "SELECT gateway, message FROM orders JOIN gateways ON name = gateway WHERE revoked_us IS NULL"
        )
        return {str(name): bytes(message) for name, message in rows}

    def ordered(self, release: Release) -> list[str]:
        """Return the gateways, less revoked ones, whose newest order names a release."""
        rows = self._ledger.rows(
            "SELECT gateway FROM orders JOIN gateways ON name = gateway WHERE release = ? AND revoked_us IS NULL "
            "ORDER BY gateway",
            release.number,
        )
        return [str(row[0]) for row in rows]

    def offered(self) -> list[Release]:
        """Return the releases that gateways, less revoked ones, are ordered to take now, the newest two."""
        asked = "SELECT DISTINCT release FROM orders JOIN gateways ON name = gateway WHERE revoked_us IS NULL"
        wanted = {row[0] for row in self._ledger.rows(asked)} & self.archived()
        return [each for each in self.releases() if each.number in wanted][:2]

    def archived(self) -> set[int]:
        """Return the numbers of the releases whose archives are kept."""
        return {int(row[0]) for row in self._ledger.rows("SELECT number FROM releases WHERE length(archive) > 0")}

    # -- inside -------------------------------------------------------------------------------------------------

    def _wanted(self) -> set[int]:
        """Return the releases that somebody may be ordered to take while the newest is in canary, or to go back to.

        And that whose bundle the open round is of.
        """
        releases, current = self.releases(), self.current()
        fleet = self._ledger.row("SELECT bundle_sha256 FROM fleet")
        wanted = [releases[0], *self.offered(), *([] if current is None else [current])]
        wanted += [each for each in releases if fleet is not None and each.bundle_sha256 == fleet[0]]
        return {each.number for each in wanted}

    def _is_enrolled(self, gateway: str) -> bool:
        return self._ledger.row("SELECT 1 FROM gateways WHERE name = ?", gateway) is not None

    def _gateways(self) -> list[str]:
        return [str(row[0]) for row in self._ledger.rows("SELECT name FROM gateways WHERE revoked_us IS NULL")]

    def _canaries(self, release: Release) -> list[str]:
        """Return who takes a release first: others every time, by the sha256 of the bundle and their name."""
        names = self._gateways()
        count = max(1, math.ceil(self.settings.canary_share * len(names)))
        return sorted(
            sorted(names, key=lambda name: hashlib.sha256(f"{release.bundle_sha256} {name}".encode()).digest())[:count]
        )

    def _against(self, release: Release) -> str | None:
        """Return why a release goes back, None where it does not."""
        ordered, reports = self.ordered(release), self._reports("WHERE calibration = ? OR refused <> ?", DRIFT, NOTHING)
        found = {
            name: trouble
            for name in ordered
            if (report := reports.get(name)) is not None and (trouble := report.trouble_with(release))
        }
        if len(found) < max(1, math.ceil(HALT_SHARE * len(ordered))):
            return None
        return f"{len(found)} of {len(ordered)} gateways: {', '.join(sorted(set(found.values())))}"

    def _is_proven(self, release: Release, *, now_us: int) -> bool:
        """Return whether half of the canaries run a release, and were watched for long enough."""
        ordered, reports = self.ordered(release), self.reports()
        running = sum(name in reports and reports[name].runs(release) for name in ordered)
        return now_us - release.since_us >= self.settings.canary_us and 0 < len(ordered) <= 2 * running

    def _order_rest(self, release: Release, *, but: Collection[str], now_us: int) -> None:
        """Order a release to whoever was not, or not since: gateways enrolled later, and those of an older one."""
        held = dict(self._ledger.rows("SELECT gateway, release FROM orders"))
        rest = [name for name in self._gateways() if name not in but and held.get(name) != release.number]
        if rest:
            self._order(rest, release, is_rollback=False, now_us=now_us)
            self._ledger.log("ordered", at_us=now_us, release=release.number, gateways=sorted(rest))

    def _back(self, release: Release, *, why: str, now_us: int) -> None:
        """Order everybody who was ordered to take a release back to what the fleet ran before."""
        ordered = self.ordered(release)
        self._set(release, ROLLED_BACK, why=why, now_us=now_us)
        before = self.current()
        self._order(ordered, before, is_rollback=True, now_us=now_us)
        # What did harm must not be learnt on from: the head goes back too, and a round that began from it is void.
        head = read_head(self._base.model if before is None else read_archive(self.archive(before.number))[MODEL])
        self._ledger.run("UPDATE fleet SET head = ? WHERE name = ?", head.flat.astype("<f4").tobytes(), self._fleet)
        void_open(self._ledger, why=why, now_us=now_us)

    def _set(self, release: Release, state: str, *, why: str, now_us: int) -> None:
        self._ledger.run(
            "UPDATE releases SET state = ?, since_us = ?, why = ? WHERE number = ?", state, now_us, why, release.number
        )
        self._ledger.log(state, at_us=now_us, release=release.number, why=why)

    def _order(self, gateways: Iterable[str], release: Release | None, *, is_rollback: bool, now_us: int) -> None:
        """Write gateways' next orders; a release of None is the base."""
        archive = pack_archive(self._base) if release is None else self.archive(release.number)
        archive_sha256 = hashlib.sha256(archive).hexdigest()
        number = self._base.manifest.release if release is None else release.number
        for gateway in gateways:
            last = self._ledger.row("SELECT number FROM orders WHERE gateway = ?", gateway) or (0,)
            header = OrderHeader(
                fleet=self._fleet,
                gateway=gateway,
                number=last[0] + 1,
                release=number,
                bundle_sha256=self._base.manifest_sha256 if release is None else release.bundle_sha256,
                archive_sha256=archive_sha256,
                archive_bytes=len(archive),
                is_rollback=is_rollback,
                issued_us=now_us,
            )
            message = pack_order(header, self._key)
            self._ledger.run(_ORDERED, gateway, header.number, number, message, now_us)
            self._ledger.count("rollback orders" if is_rollback else "orders")


def _report(payload: bytes) -> Report | None:
    """Return what an agent's status says of its bundle; None for what is no status."""
    if len(payload) > MAX_REPORT_BYTES:
        return None
    try:
        told: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    match told:
        case {"bundle": {"release": int(release), **bundle}, "calibration": str(calibration)} if 0 < release < 1 << 63:
            sha256, refused = bundle.get("sha256", ""), bundle.get("refused", [])
            if not isinstance(sha256, str) or not isinstance(refused, list):
                return None
            # Half a surrogate pair is text that no store takes, NUL one that PostgreSQL does not.
            if not all(each.isascii() and each.isprintable() for each in (sha256, calibration)):
                return None
            names = tuple(str(each)[:64] for each in refused[-MAX_REFUSED:])
            return Report(release, sha256[:64], calibration[:32], names)
        case _:
            return None
