"""A private round on a gateway's disk: `private.json` beside `learnt.json`, answers into `out/`, no seeds left behind.

Learning happens once, when the call comes; its steps wait here while the aggregator's messages (`in/N.down`, a later
one in place of an earlier) are answered one by one, which takes no learning: any run of `penstock-finetune` does it.
What is answered stands on disk before the answer goes out, so after a power cut the same octets go out, and never two
answers of one kind. After the last answer, the round's end, or the end of trust in who called it, the file is taken
away: nobody finds the seeds later.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.masks import MAX_MASK_BYTES
from contracts.signed import MessageRefused
from contracts.update import MAX_CALL_BYTES, MAX_PARAMETERS, Call, Name, read_call
from contracts.whole_file import read_bounded, write_whole
from detection.state import StateRefused, StrictState, checked
from federation.gateway.desk import Desk, Learnt
from federation.privacy.masking import Participant, Seeds

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_FILE: Final = "private.json"
MAX_PRIVATE_BYTES: Final = 128 * 1024
MAX_DOWN: Final = 16
KEYS: Final = "keys"
ANSWERS: Final = {"roster": "shares", "relay": "masked", "survivors": "consent", "consents": "unmask"}
_Seed = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Private(StrictState):
    """private.json: a round's call, this gateway's seeds and steps for it, what it answered, what it handed over.

    `learnt` is what learnt.json says from then on; a file of before that was kept here holds none.
    """

    format: Literal[1] = 1
    gateway: Name
    call: Annotated[str, Field(max_length=2 * MAX_CALL_BYTES)]
    seeds: tuple[_Seed, _Seed, _Seed]
    steps: Annotated[str, Field(max_length=2 * MAX_PARAMETERS)]
    taken: dict[
        Literal["roster", "relay", "survivors", "consents"], Annotated[str, Field(max_length=2 * MAX_MASK_BYTES)]
    ]
    handed: tuple[Literal["keys", "roster", "relay", "survivors", "consents"], ...]
    learnt: Learnt | None = None


class PrivateDesk:
    """The private round of one gateway, if it takes part in one. `told` is filled with what was sent, a phrase each."""

    def __init__(
        self,
        desk: Desk,
        *,
        key: Ed25519PrivateKey,
        aggregators: Iterable[Ed25519PublicKey],
        peers: Mapping[str, Ed25519PublicKey] | None = None,
    ) -> None:
        self._desk, self._key, self._aggregators = desk, key, tuple(aggregators)
        self._peers = peers
        self._path = desk.folder / PRIVATE_FILE
        self.told: list[str] = []
        self.refused: list[str] = []

    def begin(self, call: Call, message: bytes, steps: NDArray[np.int8], learnt: Learnt, *, gateway: str) -> int:
        """Take part in a round with these steps; return the octets of the keys. Raises OutputError.

        All of it is one file first: a power cut behind it goes on from there, one before it has begun nothing.
        """
        seeds = Seeds.drawn()
        state = Private(
            gateway=gateway,
            call=_text(message),
            seeds=(seeds.mask.hex(), seeds.share.hex(), seeds.own.hex()),
            steps=_text(steps.astype("i1").tobytes()),
            taken={},
            handed=(),
            learnt=learnt,
        )
        self._write(state)
        self._desk.remember(learnt)
        return self._hand(state, self._participant(state, call), KEYS)

    def go_on(self, *, now_us: int) -> None:
        """Answer what came. Raises StateRefused where the file is broken, OutputError."""
        state = self._read()
        if state is None:
            return
        try:
            call = read_call(_octets(state.call), self._aggregators)
        except MessageRefused as exc:
            if exc.reason != "signature":
                raise StateRefused(f"{self._path}: its call: {exc}") from exc
            self._give_up(exc)
            return
        if now_us >= call.header.deadline_us:
            self._path.unlink(missing_ok=True)
            return
        if state.learnt is not None and self._desk.learnt().round < call.header.round:
            self._desk.remember(state.learnt)  # the power kept it from being
        participant = self._participant(state, call)
        for kind in [KEYS, *state.taken]:
            if kind not in state.handed:  # the power kept it from being handed over
                try:
                    self._hand(state, participant, kind)
                except MessageRefused as exc:
                    self._give_up(exc)
                    return
                state = self._read() or state
        for message in self._came(call.header.round):
            state = self._answered(state, participant, message)
        if "consents" in state.handed:
            self._path.unlink(missing_ok=True)

    def _give_up(self, exc: MessageRefused) -> None:
        """Take no part any more: an operator trusts others now than when the round began, or knows other peers."""
        self._desk.counts[exc.reason] += 1
        self.refused.append(f"a private round that was begun is given up: {exc}")
        self._path.unlink(missing_ok=True)

    def _answered(self, state: Private, participant: Participant, message: bytes) -> Private:
        before = set(participant.taken)
        try:
            participant.answer(message)
        except MessageRefused as exc:
            self._desk.counts[exc.reason] += 1
            self.refused.append(str(exc))
            return state
        new = set(participant.taken) - before
        if not new:
            return state
        (kind,) = new
        told = {name: _text(raw) for name, raw in participant.taken.items()}
        state = Private.model_validate({**state.model_dump(), "taken": told})
        self._write(state)
        self._hand(state, participant, kind)
        return self._read() or state

    def _hand(self, state: Private, participant: Participant, kind: str) -> int:
        message = participant.keys() if kind == KEYS else participant.answer(participant.taken[kind])
        suffix = "update" if kind == "relay" else "up"
        number = participant.call.header.round
        write_whole(self._desk.outbox / f"{number:010d}.{suffix}", message)
        self._write(Private.model_validate({**state.model_dump(), "handed": (*state.handed, kind)}))
        self.told.append(f"round {number}: {ANSWERS.get(kind, KEYS)} of {len(message)} bytes")
        return len(message)

    def _participant(self, state: Private, call: Call) -> Participant:
        return Participant(
            name=state.gateway,
            key=self._key,
            call=call,
            seeds=Seeds(*(bytes.fromhex(each) for each in state.seeds)),
            steps=np.frombuffer(_octets(state.steps), "i1"),
            aggregators=self._aggregators,
            peers=self._peers,
            taken={kind: _octets(raw) for kind, raw in state.taken.items()},
        )

    def _came(self, number: int) -> list[bytes]:
        """Return the messages of this round that lie in `in/`."""
        found = []
        for path in sorted(self._desk.inbox.glob("*.down"))[-MAX_DOWN:]:
            if path.stem.isdecimal() and int(path.stem) == number:
                with contextlib.suppress(OSError):
                    found.append(read_bounded(path, most_bytes=MAX_MASK_BYTES))
        return found

    def _read(self) -> Private | None:
        try:
            state = json.loads(read_bounded(self._path, most_bytes=MAX_PRIVATE_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as exc:
            raise StateRefused(f"{self._path}: cannot be read: {exc}") from exc
        for name in ("seeds", "handed"):
            if isinstance(state, dict) and isinstance(state.get(name), list):
                state[name] = tuple(state[name])
        return checked(Private, state, what=str(self._path))

    def _write(self, state: Private) -> None:
        told = json.dumps(state.model_dump(mode="json"), separators=(",", ":"))
        write_whole(self._path, told.encode() + b"\n")


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise StateRefused(f"{PRIVATE_FILE}: holds what is no base64") from exc


def known_peers(folder: Path) -> dict[str, Ed25519PublicKey] | None:
    """Return the keys of the other gateways in a folder by name; None where it holds none. Raises BundleUntrusted."""
    from contracts.trust import trusted_keys

    return dict(trusted_keys(folder)) or None
