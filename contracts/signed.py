"""One signed message: a canonical JSON header, a payload of octets, an Ed25519 signature over both.

    magic (4)  |  header length (2, big end first)  |  header  |  payload  |  signature (64)

The header is JSON with sorted keys and no spaces; another spelling of the same header is refused, so that one message
has one set of octets and its sha256 names it. The signature covers a context of its kind besides, so that what was
signed as one kind is never taken for another. Trap: `opened` checks the form alone; who signed is asked by `verify`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.bundle import first_complaint
from contracts.errors import PenstockError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_BYTES: Final = 64
MAX_HEADER_BYTES: Final = 2048
_LENGTH_BYTES: Final = 2


class MessageRefused(PenstockError):
    """A message of the federation is not what it must be. `reason` is one word of REASONS, to be counted by."""

    exit_code = 65

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"message refused ({reason}): {text}")
        self.reason = reason


class Header(BaseModel):
    """What headers are made of: unknown names, wrong types and numbers that are none are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


_Header = TypeVar("_Header", bound=Header)


@dataclass(frozen=True)
class Parts:
    """A message taken apart: what was signed, the payload, the signature."""

    header: bytes
    payload: bytes
    signed: bytes
    signature: bytes


def pack(magic: bytes, header: Header, payload: bytes, *, key: Ed25519PrivateKey, most_bytes: int) -> bytes:
    """Return the octets of a message. Raises ValueError where they would be more than `most_bytes`."""
    told = canonical(header)
    if len(told) > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {len(told)} bytes, wanted at most {MAX_HEADER_BYTES}")
    body = magic + len(told).to_bytes(_LENGTH_BYTES, "big") + told + payload
    message = body + key.sign(_context(magic) + body)
    if len(message) > most_bytes:
        raise ValueError(f"a message of {len(message)} bytes, wanted at most {most_bytes}")
    return message


def opened(magic: bytes, message: bytes, *, most_bytes: int) -> Parts:
    """Take a message apart. Raises MessageRefused: oversize, truncated or foreign."""
    if len(message) > most_bytes:
        raise MessageRefused("oversize", f"{len(message)} bytes, wanted at most {most_bytes}")
    start = len(magic) + _LENGTH_BYTES
    if len(message) < start + SIGNATURE_BYTES:
        raise MessageRefused("truncated", f"{len(message)} bytes, wanted {start + SIGNATURE_BYTES} or more")
    if message[: len(magic)] != magic:
        raise MessageRefused("foreign", f"begins with {message[: len(magic)]!r}, wanted {magic!r}")
    length = int.from_bytes(message[len(magic) : start], "big")
    if length > MAX_HEADER_BYTES or start + length + SIGNATURE_BYTES > len(message):
        raise MessageRefused("truncated", f"a header of {length} bytes in a message of {len(message)}")
    end = len(message) - SIGNATURE_BYTES
    body = message[:end]
    return Parts(body[start : start + length], body[start + length :], _context(magic) + body, message[end:])


def header_of(kind: type[_Header], raw: bytes) -> _Header:
    """Return the header. Raises MessageRefused for another schema, or another spelling of the right one."""
    try:
        header = kind.model_validate_json(raw)
    except (ValidationError, RecursionError) as exc:
        complaint = first_complaint(exc) if isinstance(exc, ValidationError) else "nested too deeply"
        raise MessageRefused("schema", complaint) from exc
    if canonical(header) != raw:
        raise MessageRefused("schema", "its header is not spelt canonically")
    return header


def verify(parts: Parts, key: Ed25519PublicKey) -> bool:
    """Return whether a key signed the message."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(parts.signature, parts.signed)
    except InvalidSignature:
        return False
    return True


def canonical(header: Header) -> bytes:
    """Return the one spelling of a header."""
    told = header.model_dump(mode="json")
    return json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True).encode()


def _context(magic: bytes) -> bytes:
    return b"penstock federation " + magic + b"\0"
