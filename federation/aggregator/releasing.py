"""From an adopted head to a bundle that may go out: built by the exporter, gated twice, signed, kept.

The release gate looks once more, at the head as the bundle stores it (rounded to int8), then the exporter's gate at the
whole bundle. Thresholds stay those of the base: the head was set to its level before it was adopted. Trap: several
workers may build the same release at once; the ledger takes one, and the folders are named by what is in them.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contracts.bundle import Bundle, Figures, Source, load_bundle
from contracts.errors import BundleError
from contracts.head import Head, read_head, with_head
from contracts.rollout import unpack_archive
from contracts.terminal import complain
from exporter.gate import Measured
from exporter.rehead import NewHead, rehead
from federation.aggregator.release import ATTACKS, HoldOut, refusals
from federation.aggregator.rollout import DAY_US, Release, Rollouts
from federation.aggregator.windows import ServerWindows
from training.errors import GateRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BUNDLES: Final = "bundles"
SOURCE: Final = "federation"


@dataclass(frozen=True, kw_only=True)
class Press:
    """What bundles are made with. `base` is the one the line began with."""

    base: Bundle
    windows: ServerWindows
    key: Ed25519PrivateKey
    state_dir: Path
    fleet: str

    def build(self, replaced: Bundle, head: Head, *, release: int, now_us: int) -> tuple[Bundle, Measured]:
        """Return a bundle with a head, in a folder of its own. Raises GateRefused or OutputError."""
        stored = read_head(with_head(replaced.model, head))
        judging = self.windows.judging
        broken = list(
            refusals(judging, before=read_head(replaced.model), after=stored, shipped=read_head(self.base.model))
        )
        if broken:
            raise GateRefused(f"release gate: {'; '.join(broken)}")
        draft = self.state_dir / BUNDLES / f"draft-{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        made = rehead(replaced, draft, self._new(head, stored, release=release, now_us=now_us), key=self.key)
        return load_bundle(_named(draft, made.manifest_sha256)), made.measured

    def _new(self, head: Head, stored: Head, *, release: int, now_us: int) -> NewHead:
        day = datetime.datetime.fromtimestamp(now_us / 1e6, tz=datetime.timezone.utc).date()
        return NewHead(
            head=head,
            release=release,
            source=Source(name=SOURCE, terms=f"updates by gateways of {self.fleet}", captures=0, windows=0),
            windows=self.windows.values,
            mask=self.windows.mask,
            label=self.windows.label,
            captures=self.windows.captures,
            figures={SOURCE: _figures(self.windows.judging, stored, self.base)},
            created=day,
        )


def kept(state_dir: Path, base: Bundle, rollouts: Rollouts, release: Release | None) -> Bundle:
    """Return a release's bundle, unpacked from the ledger where it is not at hand or damaged; of None the base."""
    if release is None:
        return base
    folder = state_dir / BUNDLES / release.bundle_sha256
    if folder.is_dir():
        try:
            return load_bundle(folder)
        except BundleError as exc:  # a power cut may leave a folder of empty files
            complain(f"{exc}; unpacked once more")
            shutil.rmtree(folder)
    draft = state_dir / BUNDLES / f"draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    unpack_archive(rollouts.archive(release.number), draft)
    return load_bundle(_named(draft, release.bundle_sha256))


def sweep(state_dir: Path, *, kept: Collection[str], now_us: int) -> None:
    """Delete the folders of other bundles than those of some sha256s, and drafts that a kill left behind.

    None younger than a day: another worker may be about to begin it.
    """
    for folder in (state_dir / BUNDLES).glob("*"):
        with contextlib.suppress(OSError):  # another worker was quicker
            if folder.name not in kept and now_us - folder.stat().st_mtime_ns // 1000 > DAY_US:
                shutil.rmtree(folder)


def _named(draft: Path, sha256: str) -> Path:
    """Give a folder its name, unless another worker was quicker; return where the bundle stands."""
    folder = draft.with_name(sha256)
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _figures(judging: HoldOut, head: Head, base: Bundle) -> Figures:
    new, old = judging.found(head), judging.found(read_head(base.model))
    told: dict[str, Any] = {}
    for name, (over, windows) in sorted(new.items()):
        told[f"{name}_windows"], told[f"{name}_over"], told[f"{name}_over_base"] = windows, over, old[name][0]
    split = f"windows of the aggregator that judge; {ATTACKS}: all classes of them"
    return Figures(split=split, values=told)
