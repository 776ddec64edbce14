"""A meter's input as one string of octets: which settings, then frames with times, and clock moves between them.

    settings        1 octet, an index into SETTINGS
    step            10 octets: kind and units, link, time (32 bits, signed), length, extra
    its frame       `length` octets, or as many as there are

Any string is a script. Times run from the one before; a unit of 3 makes them absolute, over all that can be told.
Times stay where every reader keeps them: 1970 to 9999.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import NamedTuple

from flowfeatures import FlowSettings
from tests.oracle.meter import WTMC

LAST_US = 253_402_300_799_999_999
STEP = struct.Struct("<BBiHH")
LINKS = (1, 0, 12, 14, 101, 108, 113, 228, 229, 276, 147, 0xFFFFFFFF)
SETTINGS = (
    FlowSettings(),
    FlowSettings(partials=True),
    FlowSettings(partials=True, max_flows=1),
    FlowSettings(partials=True, max_flows=3, vlan_in_key=True),
    FlowSettings(partials=True, max_flows=10),
    FlowSettings(max_flows=17),
    FlowSettings(partials=True, active_timeout_s=1, tcp_idle_timeout_s=1, other_idle_timeout_s=1, linger_s=0),
    FlowSettings(active_timeout_s=0, tcp_idle_timeout_s=0, other_idle_timeout_s=0, half_open_timeout_s=0),
    FlowSettings(**asdict(WTMC)),
)
UNITS_US = (1, 1_000, 1_000_000, 0)
ABSOLUTE = 3
FRAME, TAGGED, TRAIN, CLOCK = range(4)
LONGEST_TRAIN = 600  # the last partial record by packets is due at 512
MAX_FRAMES = 2_000
START_US = 1_700_000_000_000_000


class Step(NamedTuple):
    """One frame, or many alike, or a clock move; see the layout above."""

    kind: int = FRAME
    link: int = 0
    time: int = 0
    unit: int = 0
    extra: int = 0
    octets: bytes = b""
    more_on_wire: int = 0
    """What `extra` says of the wire: 0 nothing, 1 so many octets more, 2 a multiple of 65,537."""
    own_block: bool = False


def packed(settings: int, steps: Iterable[Step]) -> bytes:
    """Return the script."""
    content = bytes([settings])
    for step in steps:
        head = step.kind | step.unit << 2 | step.more_on_wire << 4 | step.own_block << 6
        content += STEP.pack(head, step.link, step.time, len(step.octets), step.extra) + step.octets
    return content


def unpacked(script: bytes) -> Iterator[Step]:
    """Yield the steps of any octets."""
    at = 1
    while at + STEP.size <= len(script):
        head, link, time, length, extra = STEP.unpack_from(script, at)
        at += STEP.size
        octets = b"" if head & 3 == CLOCK else script[at : at + length]
        at += len(octets)
        yield Step(head & 3, link, time, head >> 2 & 3, extra, octets, head >> 4 & 3, bool(head & 0x40))


def moved(now_us: int, step: Step) -> int:
    """Return the time of a step."""
    then = (step.time & 0xFFFFFFFF) << 26 if step.unit == ABSOLUTE else now_us + step.time * UNITS_US[step.unit]
    return min(max(then, 0), LAST_US)


def wire_bytes(step: Step) -> int:
    """Return what the frame says it had on the wire."""
    return min(len(step.octets) + step.extra * (0, 1, 65_537, 65_537)[step.more_on_wire], 0xFFFFFFFF)
