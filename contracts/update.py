"""What crosses the network in a round: the aggregator's *call* down, a gateway's *update* up; nothing else does.

A call opens a round: the head to begin from (float32[P]), how deltas are clipped, thinned and rounded, until when. An
update is one gateway's delta under that call: int8[k], the numbers at the places that the call's seed chooses, at the
call's scale, so that updates of all gateways add up place by place. Both are `contracts.signed` messages.
Checked here: form, schema, length, finite numbers, signature. Whether the round is open, the gateway enrolled and the
update its first is the aggregator's business. Trap: a head rounded to int8 would round away what a round adds to it,
so heads travel in float32, in mode private in float16; they have some hundred numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.head import Head, head_of
from contracts.signed import Header, MessageRefused, Parts, header_of, opened, pack, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_UPDATE_BYTES: Final = 5 * 1024
MAX_CALL_BYTES: Final = 5 * 1024
MAX_PARAMETERS: Final = 1024  # of a head: 4 KB in a call; the shipped one has 539
MAX_EXAMPLES: Final = 1 << 20
UPDATE_MAGIC: Final = b"PSU1"
CALL_MAGIC: Final = b"PSC1"
INT8_MAX: Final = 127
# A private round has more messages. What rounding takes off a head there is not forgotten: the aggregator adds the
# mean delta to its own float32, and gateways only begin a little beside it.
HEAD_AS: Final = {"robust": "<f4", "private": "<f2"}

REASONS: Final = (
    "oversize", "truncated", "foreign", "schema", "payload", "signature", "unknown gateway", "revoked", "wrong gateway",
    "fleet", "no such round", "expired round", "early", "base", "scale", "norm", "second update",
    "mode", "stage", "not a member", "second answer", "shares",
)  # fmt: skip
"""Why a message is refused, for counters and audit."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TimeUs = Annotated[int, Field(ge=0, le=253_402_300_799_000_000)]
RoundNumber = Annotated[int, Field(ge=1, le=1 << 31)]


class CallHeader(Header):
    """The header of a call. `scale` is what one step of an int8 is worth; `seed` chooses the places."""

    format: Literal[1] = 1
    fleet: Name
    round: RoundNumber
    mode: Literal["robust", "private"]
    bundle_sha256: Sha256 = Field(description="of the manifest whose network the head belongs to")
    schema_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    parameters: Annotated[int, Field(ge=1, le=MAX_PARAMETERS)]
    kept: Annotated[int, Field(ge=1, le=MAX_PARAMETERS, description="how many numbers an update holds")]
    seed: Sha256
    clip_norm: Annotated[float, Field(gt=0.0, le=1e6)]
    scale: Annotated[float, Field(gt=0.0, le=1e6)]
    opened_us: TimeUs
    deadline_us: TimeUs


class UpdateHeader(Header):
    """The header of an update. `call_sha256` names the call it answers, and so the head it began from."""

    format: Literal[1] = 1
    fleet: Name
    round: RoundNumber
    gateway: Name
    call_sha256: Sha256
    examples: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
    made_us: TimeUs


@dataclass(frozen=True, eq=False)
class Call:
    """A call that was checked. `sha256` names its octets."""

    header: CallHeader
    head: Head
    sha256: str

    @property
    def places(self) -> NDArray[np.int64]:
        """Return which numbers of a delta an update of this round holds, in rising order."""
        return places(self.header.seed, parameters=self.header.parameters, kept=self.header.kept)


@dataclass(frozen=True, eq=False)
class Update:
    """An update whose form was checked, and its signature where a key was given. `steps` int8[k]."""

    header: UpdateHeader
    steps: NDArray[np.int8]
    sha256: str
    parts: Parts


def pack_call(header: CallHeader, head: Head, key: Ed25519PrivateKey) -> bytes:
    """Return the octets of a call. Raises ValueError for a head of another size than the header says."""
    flat = head.flat
    if flat.size != header.parameters or header.kept > header.parameters or not np.isfinite(flat).all():
        raise ValueError(f"a head of {flat.size} numbers in a call for {header.parameters}, {header.kept} kept")
    with np.errstate(over="ignore"):
        numbers = flat.astype(HEAD_AS[header.mode])
    if not np.isfinite(numbers).all():
        raise ValueError(f"a head with numbers of {np.abs(flat).max():.4g}, which {HEAD_AS[header.mode]} does not hold")
    return pack(CALL_MAGIC, header, numbers.tobytes(), key=key, most_bytes=MAX_CALL_BYTES)


def read_call(message: bytes, keys: Iterable[Ed25519PublicKey]) -> Call:
    """Return a call that one of the keys signed. Raises MessageRefused."""
    parts = opened(CALL_MAGIC, message, most_bytes=MAX_CALL_BYTES)
    if not any(verify(parts, key) for key in keys):
        raise MessageRefused("signature", "a call by no aggregator that is trusted here")
    header = header_of(CallHeader, parts.header)
    held_as = np.dtype(HEAD_AS[header.mode])
    if len(parts.payload) != held_as.itemsize * header.parameters or header.kept > header.parameters:
        raise MessageRefused("payload", f"{len(parts.payload)} bytes for {header.parameters} numbers")
    if header.deadline_us <= header.opened_us:
        raise MessageRefused("schema", "a round that ends before it begins")
    flat = np.frombuffer(parts.payload, held_as).astype(np.float32)
    if not np.isfinite(flat).all():
        raise MessageRefused("payload", "its head holds what is no number")
    try:
        head = head_of(flat)
    except ValueError as exc:
        raise MessageRefused("payload", str(exc)) from exc
    return Call(header, head, hashlib.sha256(message).hexdigest())


def pack_update(header: UpdateHeader, steps: NDArray[np.int8], key: Ed25519PrivateKey) -> bytes:
    """Return the octets of an update."""
    return pack(UPDATE_MAGIC, header, steps.astype("i1").tobytes(), key=key, most_bytes=MAX_UPDATE_BYTES)


def read_update(message: bytes) -> Update:
    """Return an update whose form is right; `verify(update.parts, key)` says whether a gateway signed it.

    Raises MessageRefused.
    """
    parts = opened(UPDATE_MAGIC, message, most_bytes=MAX_UPDATE_BYTES)
    header = header_of(UpdateHeader, parts.header)
    if not 1 <= len(parts.payload) <= MAX_PARAMETERS:
        raise MessageRefused("payload", f"{len(parts.payload)} numbers, wanted 1 to {MAX_PARAMETERS}")
    steps = np.frombuffer(parts.payload, "i1")
    if steps.min() < -INT8_MAX:
        raise MessageRefused("payload", "holds -128, wanted -127 to 127")
    return Update(header, steps, hashlib.sha256(message).hexdigest(), parts)


def check_answers(update: Update, call: Call) -> None:
    """Raise MessageRefused unless an update is one that this call asks for, by size, base and norm."""
    wanted = call.header
    if update.header.fleet != wanted.fleet:
        raise MessageRefused("fleet", f"of fleet {update.header.fleet}, wanted {wanted.fleet}")
    if update.header.call_sha256 != call.sha256 or update.header.round != wanted.round:
        raise MessageRefused("base", f"answers another call than that of round {wanted.round}")
    if len(update.steps) != wanted.kept:
        raise MessageRefused("payload", f"{len(update.steps)} numbers, wanted {wanted.kept}")
    norm, most = norm_of(update.steps, scale=wanted.scale), longest(wanted)
    if not norm <= most:
        raise MessageRefused("norm", f"norm {norm:.4g}, wanted at most {most:.4g}")


def longest(header: CallHeader) -> float:
    """Return the L2 norm that a clipped delta may have: rounding may add half a step to each number."""
    return header.clip_norm + 0.5 * header.scale * math.sqrt(header.kept)


def norm_of(steps: NDArray[np.int8], *, scale: float) -> float:
    """Return the L2 norm of what the steps say."""
    return float(np.linalg.norm(steps.astype(np.float64)) * scale)


def places(seed: str, *, parameters: int, kept: int) -> NDArray[np.int64]:
    """Return `kept` of `parameters` places in rising order, the same for everybody who knows the seed.

    By the sha256 of seed and place, not by a generator of random numbers: those may change with numpy's version.

    >>> places("0" * 64, parameters=5, kept=5).tolist()
    [0, 1, 2, 3, 4]
    """
    raw = bytes.fromhex(seed)
    drawn = sorted(range(parameters), key=lambda place: hashlib.sha256(raw + place.to_bytes(4, "big")).digest())
    return np.array(sorted(drawn[:kept]), np.int64)
