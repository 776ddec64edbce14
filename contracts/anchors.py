"""Anchors: embeddings of attacks and benign traffic of the laboratory, so that a gateway does not unlearn attacks.

A gateway sees benign windows nearly alone. Fine-tuned on those and a false alarm, the shipped head lost 149 of 154
windows of password guessing (decision 0032); with anchors among its examples, the local gate sees what is unlearnt.
An aggregator makes them from its own captures and signs them once per bundle, a `contracts.signed` message:
int8[N, E] (an embedding lies in [-1, 1]) and uint8[N], the classes. Nothing in them is of a gateway. Trap: they mean
something beside the bundle that made them alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.classes import HEAD_NAMES
from contracts.head import MAX_EMBEDDING
from contracts.signed import Header, MessageRefused, header_of, opened, pack, verify
from contracts.update import Name, Sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ANCHORS_MAGIC: Final = b"PSA1"
MAX_ANCHORS_BYTES: Final = 64 * 1024
MAX_ANCHORS: Final = 4096
LARGEST: Final = 127


class AnchorsHeader(Header):
    """The header of anchors: of which bundle, how many, how wide."""

    format: Literal[1] = 1
    fleet: Name
    bundle_sha256: Sha256
    count: Annotated[int, Field(ge=1, le=MAX_ANCHORS)]
    embedding: Annotated[int, Field(ge=1, le=MAX_EMBEDDING)]


@dataclass(frozen=True, eq=False)
class Anchors:
    """Embeddings float32[N, E] and classes int64[N]."""

    embedding: NDArray[np.float32]
    label: NDArray[np.int64]


def pack_anchors(anchors: Anchors, *, fleet: str, bundle_sha256: str, key: Ed25519PrivateKey) -> bytes:
    """Return the octets of anchors. Raises ValueError where an embedding leaves [-1, 1] or a class is none."""
    if not (np.abs(anchors.embedding) <= 1.0).all() or not _are_classes(anchors.label):
        raise ValueError("anchors are embeddings in [-1, 1] of classes of the head")
    count, width = anchors.embedding.shape
    header = AnchorsHeader(fleet=fleet, bundle_sha256=bundle_sha256, count=count, embedding=width)
    steps = np.rint(anchors.embedding * LARGEST).astype("i1")
    payload = steps.tobytes() + anchors.label.astype("u1").tobytes()
    return pack(ANCHORS_MAGIC, header, payload, key=key, most_bytes=MAX_ANCHORS_BYTES)


def read_anchors(
    message: bytes, keys: Iterable[Ed25519PublicKey], *, fleet: str, bundle_sha256: str, embedding: int
) -> Anchors:
    """Return anchors that one of the keys signed, for this fleet and bundle. Raises MessageRefused."""
    parts = opened(ANCHORS_MAGIC, message, most_bytes=MAX_ANCHORS_BYTES)
    if not any(verify(parts, key) for key in keys):
        raise MessageRefused("signature", "anchors by no aggregator that is trusted here")
    header = header_of(AnchorsHeader, parts.header)
    if (header.fleet, header.bundle_sha256, header.embedding) != (fleet, bundle_sha256, embedding):
        raise MessageRefused("base", "anchors of another fleet, bundle or embedding")
    octets = header.count * header.embedding
    if len(parts.payload) != octets + header.count:
        raise MessageRefused("payload", f"{len(parts.payload)} bytes, wanted {octets + header.count}")
    steps = np.frombuffer(parts.payload, "i1", octets).reshape(header.count, header.embedding)
    label = np.frombuffer(parts.payload, "u1", header.count, octets).astype(np.int64)
    if not _are_classes(label):
        raise MessageRefused("payload", "a class of anchors is none of the head's")
    return Anchors(steps.astype(np.float32) / np.float32(LARGEST), label)


def _are_classes(label: NDArray[np.int64]) -> bool:
    return bool(((label >= 0) & (label < len(HEAD_NAMES))).all())
