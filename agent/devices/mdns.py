"""Multicast DNS (RFC 6762): the name under which a device announces the very address it sends from.

Other records of a message are skipped: a reflector repeats what others say, under its own address.
"""

from __future__ import annotations

from typing import Final

from agent.devices.hints import Refused, number

HEADER_BYTES: Final = 12
RESPONSE: Final = 0x8000
MAX_QUESTIONS: Final = 32
MAX_RECORDS: Final = 64
MAX_NAME_BYTES: Final = 255
MAX_POINTERS: Final = 4  # a writer needs one, or two
MAX_NAMES: Final = 8  # looked at, of those given to the source
LABELS: Final = 2  # host.local
A, AAAA = 1, 28
LOCAL: Final = b"local"


def read_mdns(payload: bytes, source: bytes) -> bytes | None:
    """Return the host name that a message gives to its own source address, None where it gives none.

    Raises Refused where the message does not hold together.
    """
    if len(payload) < HEADER_BYTES:
        raise Refused("truncated")
    if not number(payload, 2) & RESPONSE:
        return None
    questions = number(payload, 4)
    records = sum(number(payload, at) for at in (6, 8, 10))
    if questions > MAX_QUESTIONS or records > MAX_RECORDS:
        raise Refused("bad_mdns")
    at = HEADER_BYTES
    for _ in range(questions):
        at = _after_name(payload, at) + 4
    kind, names = A if len(source) == 4 else AAAA, 0
    for _ in range(records):
        name_at, at = at, _after_name(payload, at)
        if at + 10 > len(payload) or at + 10 + number(payload, at + 8) > len(payload):
            raise Refused("bad_mdns")
        value_at, value_end = at + 10, at + 10 + number(payload, at + 8)
        is_goodbye = not any(payload[at + 4 : at + 8])
        if number(payload, at) == kind and not is_goodbye and payload[value_at:value_end] == source:
            names += 1
            if names > MAX_NAMES:
                raise Refused("bad_mdns")
            labels = _labels(payload, name_at)
            if len(labels) == LABELS and labels[1].lower() == LOCAL:
                return labels[0]
        at = value_end
    return None


def _after_name(payload: bytes, at: int) -> int:
    """Return where a name ends. Raises Refused where it does not."""
    end = at + MAX_NAME_BYTES
    while at < len(payload) and at < end:
        length = payload[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += 1 + length
    raise Refused("bad_mdns")


def _labels(payload: bytes, at: int) -> list[bytes]:
    """Return a name's first three labels at most: a message may hold many long names that are not of the form sought.

    A pointer must lead backwards, so that none leads round in a circle.
    """
    labels: list[bytes] = []
    pointers = 0
    first = at
    while at < len(payload) and pointers <= MAX_POINTERS:
        length = payload[at]
        if length == 0 or len(labels) > LABELS:
            return labels
        if length >= 0xC0:
            if at + 2 > len(payload) or (number(payload, at) & 0x3FFF) >= first:
                break
            at = first = number(payload, at) & 0x3FFF
            pointers += 1
        elif length > 63 or at + 1 + length > len(payload):
            break
        else:
            labels.append(payload[at + 1 : at + 1 + length])
            at += 1 + length
    raise Refused("bad_mdns")
