"""Where `penstock-finetune` and the agent meet: `federation/{in,out}` in the state folder, and what was sent last.

The agent lays calls it received into `in/` and sends what it finds in `out/`; it opens neither. What was sent stands in
`learnt.json` with its octets *before* it goes to `out/`, so whatever moment the power goes, the same round is answered
with the same octets or not at all: an update that arrives twice is one. A call of a round before the last answered one,
or another call for it, is refused: a broker that keeps old messages cannot make a gateway learn twice from one base.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.anchors import MAX_ANCHORS_BYTES, Anchors, read_anchors
from contracts.signed import MessageRefused
from contracts.update import MAX_CALL_BYTES, MAX_PARAMETERS, MAX_UPDATE_BYTES, UPDATE_MAGIC, Call, Sha256, read_call
from contracts.whole_file import read_bounded, write_whole
from detection.state import StateRefused, StrictState, TimeUs, checked

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FOLDER: Final = "federation"
LEARNT_FILE: Final = "learnt.json"
MAX_CALLS: Final = 16
MAX_LEARNT_BYTES: Final = 64 * 1024
UNREADABLE: Final = "unreadable"


class Learnt(StrictState):
    """learnt.json: the last round this gateway answered, and what it kept back of it."""

    format: Literal[1] = 1
    round: Annotated[int, Field(ge=0, le=1 << 31)] = 0
    call_sha256: Sha256 | None = None
    bundle_sha256: Sha256 | None = None
    residual: Annotated[str, Field(max_length=8 * MAX_PARAMETERS)] = ""
    update: Annotated[str, Field(max_length=2 * MAX_UPDATE_BYTES)] = ""
    is_handed: bool = True
    verdicts: Annotated[int, Field(ge=0)] = 0
    learnt_us: TimeUs = 0


@dataclass(frozen=True)
class Calls:
    """What lay in `in/`: the call to answer, if any, and why others were not it."""

    call: Call | None = None
    message: bytes = b""
    refused: list[str] = field(default_factory=list)


class Desk:
    """The federation's folder of one gateway. `counts` are of what was refused, by reason."""

    def __init__(self, state_dir: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.folder = state_dir / FOLDER
        self.inbox, self.outbox = self.folder / "in", self.folder / "out"

    def learnt(self) -> Learnt:
        """Return what was sent last; nothing where nothing was. Raises StateRefused where the file is broken."""
        path = self.folder / LEARNT_FILE
        try:
            state = json.loads(read_bounded(path, most_bytes=MAX_LEARNT_BYTES))
        except FileNotFoundError:
            return Learnt()
        except (OSError, ValueError, RecursionError) as exc:
            raise StateRefused(f"{path}: cannot be read: {exc}") from exc
        return checked(Learnt, state, what=str(path))

    def newest_call(
        self,
        keys: Iterable[Ed25519PublicKey],
        *,
        fleet: str,
        bundle_sha256: str,
        parameters: int,
        learnt: Learnt,
        now_us: int,
        is_private_only: bool = False,
    ) -> Calls:
        """Return the open call of the highest round that this gateway may answer; its head has so many parameters."""
        trusted, refused, found = list(keys), [], Calls()
        for path in sorted(self.inbox.glob("*.call"))[-MAX_CALLS:]:
            try:
                message = read_bounded(path, most_bytes=MAX_CALL_BYTES)
                call = read_call(message, trusted)
                _check_mode(call, is_private_only=is_private_only)
                _check(call, fleet=fleet, learnt=learnt, now_us=now_us)
                _check_head(call, bundle_sha256=bundle_sha256, parameters=parameters)
            except MessageRefused as exc:
                self.counts[exc.reason] += 1
                refused.append(f"{path.name}: {exc}")
                continue
            except OSError as exc:
                self.counts[UNREADABLE] += 1
                refused.append(f"{path.name}: {exc.strerror or exc}")
                continue
            if found.call is None or call.header.round > found.call.header.round:
                found = Calls(call, message)
        return Calls(found.call, found.message, refused)

    def anchors(
        self, keys: Iterable[Ed25519PublicKey], *, fleet: str, bundle_sha256: str, embedding: int
    ) -> tuple[Anchors | None, list[str]]:
        """Return the anchors of this bundle, and why files of them were refused."""
        trusted, refused = list(keys), []
        for path in sorted(self.inbox.glob("*.anchors"))[-MAX_CALLS:]:
            try:
                raw = read_bounded(path, most_bytes=MAX_ANCHORS_BYTES)
                told = read_anchors(raw, trusted, fleet=fleet, bundle_sha256=bundle_sha256, embedding=embedding)
            except (MessageRefused, OSError) as exc:
                self.counts[exc.reason if isinstance(exc, MessageRefused) else UNREADABLE] += 1
                refused.append(f"{path.name}: {exc}")
                continue
            return told, refused
        return None, refused

    def hand_over(self, learnt: Learnt) -> Path:
        """Put the update where the agent finds it, whatever happens in between. Raises OutputError."""
        write_whole(self.folder / LEARNT_FILE, _told(learnt.model_copy(update={"is_handed": False})))
        path = self._deliver(learnt)
        write_whole(self.folder / LEARNT_FILE, _told(learnt.model_copy(update={"is_handed": True})))
        return path

    def remember(self, learnt: Learnt) -> None:
        """Let a round count as answered. Raises OutputError."""
        write_whole(self.folder / LEARNT_FILE, _told(learnt))

    def catch_up(self, learnt: Learnt) -> Path | None:
        """Hand over an update that the power kept from it; the same octets."""
        return None if learnt.is_handed else self.hand_over(learnt)

    def withhold(self, learnt: Learnt) -> tuple[Learnt, list[str]]:
        """Delete unmasked updates that have not left yet; return what to remember, and what was deleted.

        Raises OutputError.
        """
        told = []
        if not learnt.is_handed:
            learnt = learnt.model_copy(update={"is_handed": True, "update": ""})
            self.remember(learnt)
            told.append(f"learnt.json: an unmasked update of round {learnt.round} deleted")
        for path in sorted(self.outbox.glob("*.update")):
            with contextlib.suppress(OSError):
                if read_bounded(path, most_bytes=MAX_UPDATE_BYTES)[: len(UPDATE_MAGIC)] == UPDATE_MAGIC:
                    path.unlink()
                    told.append(f"{path.name}: an unmasked update deleted")
        self.counts.update({"unmasked": len(told)} if told else {})
        return learnt, told

    def _deliver(self, learnt: Learnt) -> Path:
        path = self.outbox / f"{learnt.round:010d}.update"
        try:
            content = base64.b64decode(learnt.update, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise StateRefused(f"{self.folder / LEARNT_FILE}: its update is no base64") from exc
        write_whole(path, content)
        return path


def residual_of(learnt: Learnt, call: Call) -> NDArray[np.float32] | None:
    """Return what was kept back under the same network; None where there is nothing, or of another one."""
    if learnt.bundle_sha256 != call.header.bundle_sha256 or not learnt.residual:
        return None
    try:
        values = np.frombuffer(base64.b64decode(learnt.residual, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        return None
    return values if values.shape == (call.header.parameters,) and np.isfinite(values).all() else None


def _check_head(call: Call, *, bundle_sha256: str, parameters: int) -> None:
    if call.header.bundle_sha256 != bundle_sha256:
        raise MessageRefused("base", "for another bundle than the one in use here")
    if call.header.parameters != parameters:
        raise MessageRefused("base", f"a head of {call.header.parameters} numbers, the bundle's has {parameters}")


def _check(call: Call, *, fleet: str, learnt: Learnt, now_us: int) -> None:
    header = call.header
    if header.fleet != fleet:
        raise MessageRefused("fleet", f"of fleet {header.fleet}, wanted {fleet}")
    if header.round < learnt.round or (header.round == learnt.round and call.sha256 != learnt.call_sha256):
        raise MessageRefused("expired round", f"round {header.round}, answered {learnt.round} already")
    if now_us >= header.deadline_us:
        raise MessageRefused("expired round", f"round {header.round} is over")


def _check_mode(call: Call, *, is_private_only: bool) -> None:
    if is_private_only and call.header.mode != "private":
        raise MessageRefused("mode", f"of mode {call.header.mode}, which shows what one gateway learnt")


def _told(learnt: Learnt) -> bytes:
    return json.dumps(learnt.model_dump(mode="json"), separators=(",", ":")).encode() + b"\n"
