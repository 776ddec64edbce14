"""What one frame says of a device: its MAC, an address it uses, perhaps its name. Or why the frame says nothing.

Frames are hostile: every length is checked before it is used, every loop has an end that the frame does not choose, and
what cannot be read raises `Refused` with one of REASONS, which `Devices` counts. Nothing outside this package sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

REASONS: Final = (
    "truncated",  # shorter than its headers say
    "other_protocol",  # none of those that name devices
    "bad_mac",  # the sender is no single station
    "mac_differs",  # the frame's sender and the one it speaks of are two
    "bad_arp",
    "bad_nd",
    "not_on_link",  # neighbour discovery that came through a router (hop limit other than 255)
    "fragment",
    "bad_dhcp",
    "relayed",  # a DHCP relay speaks for the device
    "bad_mdns",
    "no_claim",  # well formed, but nobody says that an address is theirs: a probe, an offer, a release
    "own",  # this gateway speaks of itself
    "own_address",  # somebody else claims an address of this gateway
    "not_home",  # an address outside the home networks
    "bad_name",  # a name no host may have; the rest of the frame counts
    "too_many_addresses",
)
NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,61}[A-Za-z0-9])?")


class Refused(Exception):
    """The frame says nothing of a device."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What one frame says. `address` has 16 octets; `name` is as it was sent; `wishes` are DHCP's option 55."""

    mac: bytes
    address: bytes | None = None
    name: bytes | None = None
    wishes: bytes = b""


def mapped(address: bytes) -> bytes:
    """Return four or sixteen octets of an address as sixteen."""
    return bytes(10) + b"\xff\xff" + address if len(address) == 4 else address


def number(octets: bytes, at: int) -> int:
    """Return two octets as a number; the caller has checked that they are there."""
    return octets[at] << 8 | octets[at + 1]


def check_mac(mac: bytes) -> bytes:
    """Return a MAC one station may have. Raises Refused for groups and zeros."""
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise Refused("bad_mac")
    return mac


def clean_name(raw: bytes) -> str | None:
    """Return a name as text, None where no host may have it: other octets could steer a terminal or break a format.

    >>> clean_name(b"kitchen-lamp\\0")
    'kitchen-lamp'
    >>> clean_name(b"x\\x1b[2J") is None
    True
    """
    text = raw.rstrip(b"\0").decode("ascii", errors="replace")
    return text if NAME.fullmatch(text) and text.lower() != "localhost" else None
