"""Bundles kept on the gateway: copies nobody changes under a running agent, and which of them was good.

A bundle enters by `stage`, checked and vouched for (DESIGN D20), and is checked again whenever it is loaded: a disk
forgets bits. The one inside the package needs no copy and is the last resort. The agent alone writes `state.json`;
`penstock model` leaves its wish in `wanted.json`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.state.saved import StateFile
from agent.state.state_file import save_state
from contracts.bundle import MANIFEST, SIGNATURE, Bundle, default_bundle, load_bundle
from contracts.errors import BundleError, BundleUnreadable, OutputError
from contracts.pinned import DEFAULT_MANIFEST_SHA256
from contracts.terminal import complain

PACKAGE: Final = "package"
"""The name of the bundle inside the package."""
KEPT: Final = 4
MAX_TRIAL_STARTS: Final = 3
"""An agent that was started so often while a bundle was on trial, and never got through it, was ended by it."""
MAX_REFUSED: Final = 64
WANTED: Final = "wanted.json"
DRAFT: Final = ".draft-"


@dataclass
class Standing:
    """What the store remembers. Names are those of folders, or PACKAGE."""

    active: str = PACKAGE
    previous: str = PACKAGE
    trial_starts: int | None = None
    """Starts of the agent while the active one was on trial, None where it has passed."""
    rolled_back: bool = False
    """Whether the operator went back on purpose: then the package's newer release does not take over by itself."""
    refused: dict[str, str] = field(default_factory=dict)
    taken: dict[str, Any] | None = None
    """The wish that was taken up and has come to no end yet: an agent that is killed meanwhile takes it up again."""
    taken_starts: int = 0
    """Starts of the agent since it was taken up."""


@dataclass(frozen=True)
class Wish:
    """What the operator asked for."""

    name: str
    rollback: bool = False
    at_once: bool = False


class Store:
    """Bundles under a folder; with `path` None none are kept, and each is loaded from where it stands."""

    def __init__(self, path: Path | None, *, trust: Path) -> None:
        self.path = path
        self.trust = trust
        self._file = StateFile(None if path is None else path / "state.json")
        self.standing = _standing(self._file.read())
        self._left_over = self.standing.taken

    def stage(self, folder: Path, *, newest: int, rollback: bool = False) -> Bundle:
        """Return the bundle of a folder, checked, and kept here if anything is.

        Raises BundleError where it is not to be trusted, older than `newest` or cannot be run, OutputError where the
        store cannot be written.
        """
        bundle = load_bundle(folder, trust=self.trust, newest=newest, rollback=rollback)
        if self.path is None or bundle.manifest_sha256 == DEFAULT_MANIFEST_SHA256:
            return bundle
        name = name_of(bundle)
        if folder.resolve() == (self.path / name).resolve():
            return bundle
        try:
            return self.load(name)
        except BundleError:
            pass  # not here yet, or spoilt: it is copied anew
        try:
            self._copy(bundle, self.path / name)
        except OSError as exc:
            raise OutputError(f"models: {self.path / name} cannot be written: {exc.strerror or exc}") from exc
        return self.load(name)

    def load(self, name: str) -> Bundle:
        """Return a bundle that is kept here, or the package's. Raises BundleError."""
        if name == PACKAGE:
            return default_bundle()
        if self.path is None:
            raise BundleUnreadable(f"bundle: {name} is not kept: there is no state folder")
        return load_bundle(self.path / name, trust=self.trust)

    def last_good(self) -> Bundle:
        """Return what served last, or what served before it, or the package's; each reason for not is told.

        Raises BundleError where not even the package's can be run.
        """
        standing = self.standing
        if standing.trial_starts is not None:
            if standing.trial_starts >= MAX_TRIAL_STARTS:
                self.refuse(standing.active, f"the agent was started {standing.trial_starts} times under it")
                self._set(active=standing.previous, previous=PACKAGE, trial_starts=None)
            else:
                self._set(trial_starts=standing.trial_starts + 1)
        standing = self.standing
        package: Bundle | None = None
        for name in dict.fromkeys((standing.active, standing.previous)):
            if name == PACKAGE:
                continue
            try:
                kept = self.load(name)
                package = default_bundle()
            except BundleError as exc:
                complain(exc)
                continue
            if package.manifest.release <= kept.manifest.release or standing.rolled_back:
                return kept
        return package or default_bundle()

    def activated(self, bundle: Bundle, *, trial: bool, rollback: bool = False) -> None:
        """Remember that a bundle serves from now on; `trial`: it may yet be taken back."""
        name = name_of(bundle)
        previous = self.standing.previous if name == self.standing.active else self.standing.active
        refused = {each: reason for each, reason in self.standing.refused.items() if each != name}
        trial_starts = 0 if trial else None
        self._set(
            active=name, previous=previous, trial_starts=trial_starts, rolled_back=rollback, refused=refused, taken=None
        )
        self._prune()

    def confirmed(self) -> None:
        """Remember that the active bundle has passed its trial."""
        self._set(trial_starts=None)

    def taken_back(self, bundle: Bundle, *, reason: str, to: Bundle) -> None:
        """Remember that a bundle failed and another one serves in its place."""
        self.refuse(name_of(bundle), reason)
        self._set(active=name_of(to), previous=PACKAGE, trial_starts=None)

    def refuse(self, name: str, reason: str) -> None:
        """Remember why a bundle was turned away."""
        kept = list(self.standing.refused.items())[-(MAX_REFUSED - 1) :]
        taken = self.standing.taken
        is_wish = taken is not None and taken["name"] == name
        self._set(refused=dict(kept) | {name: reason}, taken=None if is_wish else taken)

    def names(self) -> list[str]:
        """Return the bundles kept, oldest release first."""
        if self.path is None or not self.path.is_dir():
            return []
        return sorted(each.name for each in self.path.iterdir() if each.is_dir() and not each.name.startswith("."))

    def wish(self) -> Wish | None:
        """Return what the operator asked for, once; or what an agent before this one took up and came to no end with.

        Until `activated`, `refuse` or `settled` it is the store's to remember.
        """
        left_over, self._left_over = self._left_over, None
        if self.path is None:
            return None
        if not (self.path / WANTED).exists():
            return None if left_over is None else self._again(_wish(left_over))
        wish = _wish(StateFile(self.path / WANTED).read())
        if wish is not None:
            self._set(taken=asdict(wish), taken_starts=0)
        (self.path / WANTED).unlink(missing_ok=True)
        return wish

    def settled(self) -> None:
        """Remember that the wish that was taken up came to an end."""
        if self.standing.taken is not None:
            self._set(taken=None)

    def want(self, wish: Wish) -> None:
        """Ask the agent, running or not, to take a bundle that is kept here. Raises OutputError."""
        assert self.path is not None
        save_state(self.path / WANTED, {"format": 1, **asdict(wish)})

    # -- inside -------------------------------------------------------------------------------------------------

    def _again(self, wish: Wish | None) -> Wish | None:
        """Return a wish of before this start, None where one start too many met its end under it."""
        if wish is None:
            self._set(taken=None)
        elif self.standing.taken_starts >= MAX_TRIAL_STARTS:
            self.refuse(wish.name, f"the agent was started {self.standing.taken_starts} times while it was tried")
        else:
            self._set(taken_starts=self.standing.taken_starts + 1)
            return wish
        return None

    def _set(self, **changes: Any) -> None:
        self.standing = Standing(**(self.standing.__dict__ | changes))
        content = dict(self.standing.__dict__)
        if self.standing.taken is None:  # as a version before this one knows it
            del content["taken"], content["taken_starts"]
        self._file.write(content)

    def _copy(self, bundle: Bundle, target: Path) -> None:
        """Copy a bundle's files under a name of its own first, so that the target is there whole or not at all."""
        assert self.path is not None
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path / f"{DRAFT}{target.name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        for name in _file_names(bundle):
            _write(draft / name, (bundle.path / name).read_bytes())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
        for folder in (target, self.path):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fsync(descriptor)
            os.close(descriptor)

    def _prune(self) -> None:
        """Keep the active one, the one before it, and the newest others."""
        assert self.path is None or self.path.is_absolute()
        needed = {self.standing.active, self.standing.previous}
        spare = [name for name in self.names() if name not in needed]
        for name in spare[: max(0, len(spare) - (KEPT - 2))]:
            if self.path is not None:
                shutil.rmtree(self.path / name, ignore_errors=True)


def name_of(bundle: Bundle) -> str:
    """Return the name a bundle is kept under: names in order of release are in order of text."""
    if bundle.manifest_sha256 == DEFAULT_MANIFEST_SHA256:
        return PACKAGE
    return f"{bundle.manifest.release:019d}-{bundle.manifest_sha256[:16]}"


def _wish(content: dict[str, Any] | None) -> Wish | None:
    if content is None or not isinstance(content.get("name"), str):
        return None
    return Wish(content["name"], bool(content.get("rollback")), bool(content.get("at_once")))


def _write(path: Path, octets: bytes) -> None:
    with open(path, "xb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())


def _file_names(bundle: Bundle) -> Iterator[str]:
    yield from bundle.manifest.files
    yield MANIFEST
    if (bundle.path / SIGNATURE).exists():
        yield SIGNATURE


def _standing(content: dict[str, Any] | None) -> Standing:
    """Return what was remembered; a memory of another shape counts as none."""
    if content is None:
        return Standing()
    try:
        standing = Standing(**content)
    except TypeError:
        return Standing()
    names = (standing.active, standing.previous)
    is_good = all(isinstance(each, str) and "/" not in each and each not in ("", ".", "..") for each in names)
    is_good &= isinstance(standing.refused, dict)
    is_good &= standing.trial_starts is None or isinstance(standing.trial_starts, int)
    is_good &= isinstance(standing.taken_starts, int)
    taken = standing.taken
    is_good &= taken is None or (isinstance(taken, dict) and _wish(taken) is not None)
    return standing if is_good else Standing()
