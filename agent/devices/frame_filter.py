"""The kernel's filter for frames that say who is who: ARP, IPv6 neighbour discovery, DHCP, multicast DNS.

Written by hand, so that it needs no compiler and no Scapy. The kernel takes a VLAN's outer tag off before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.capture.bpf import RETURN, Program

LOAD_HALF, LOAD_BYTE, LOAD_HALF_BEHIND_X, HEADER_LENGTH_TO_X = 0x28, 0x30, 0x48, 0xB1  # classic BPF, <linux/filter.h>
JUMP_IF_EQUAL, JUMP_IF_SET = 0x15, 0x45
KEPT_BYTES: Final = 2048
"""More than any frame of a plain Ethernet; one that was cut is refused."""

_Step = tuple[str, int, int, str, str]
"""Label, code, constant, where to go if true, where if not; an empty text is the next step."""

_STEPS: Final[Sequence[_Step]] = (
    ("", LOAD_HALF, 12, "", ""),
    ("", JUMP_IF_EQUAL, 0x0806, "keep", ""),
    ("", JUMP_IF_EQUAL, 0x86DD, "ipv6", ""),
    ("", JUMP_IF_EQUAL, 0x0800, "", "leave"),
    ("", LOAD_BYTE, 23, "", ""),
    ("", JUMP_IF_EQUAL, 17, "", "leave"),
    ("", LOAD_HALF, 20, "", ""),
    ("", JUMP_IF_SET, 0x1FFF, "leave", ""),  # a later fragment has no ports
    ("", HEADER_LENGTH_TO_X, 14, "", ""),
    ("", LOAD_HALF_BEHIND_X, 16, "", ""),
    ("", JUMP_IF_EQUAL, 67, "keep", ""),
    ("", JUMP_IF_EQUAL, 68, "keep", "mdns"),
    ("ipv6", LOAD_BYTE, 20, "", ""),
    ("", JUMP_IF_EQUAL, 17, "ipv6_udp", ""),
    ("", JUMP_IF_EQUAL, 58, "", "leave"),
    ("", LOAD_BYTE, 54, "", ""),
    ("", JUMP_IF_EQUAL, 133, "keep", ""),
    ("", JUMP_IF_EQUAL, 135, "keep", ""),
    ("", JUMP_IF_EQUAL, 136, "keep", "leave"),
    ("ipv6_udp", LOAD_HALF, 56, "", ""),
    ("mdns", JUMP_IF_EQUAL, 5353, "keep", "leave"),
    ("keep", RETURN, KEPT_BYTES, "", ""),
    ("leave", RETURN, 0, "", ""),
)


def _assembled(steps: Sequence[_Step]) -> Program:
    """Return the program: jumps are counted from the instruction behind them."""
    places = {label: place for place, (label, *_) in enumerate(steps) if label}
    return tuple(
        (code, places[yes] - place - 1 if yes else 0, places[no] - place - 1 if no else 0, constant)
        for place, (_, code, constant, yes, no) in enumerate(steps)
    )


WHO_IS_WHO: Final[Program] = _assembled(_STEPS)
