"""What the kernel says of a network interface: its index, its link layer, its driver. Needs no privilege.

The index is asked for anew each time: an interface deleted and made again has the same name and another index.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import Final

from contracts.errors import DataMissing
from flowfeatures import UnknownLinkType

NAME_BYTES: Final = 15  # IFNAMSIZ, less the final zero
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFHWADDR: Final = 0x8927
IFF_UP: Final = 0x1

LOOPBACK: Final = 772  # ARPHRD_LOOPBACK: frames carry an Ethernet header of zeros
LINK_TYPES: Final = {1: 1, LOOPBACK: 1, 65534: 101}
"""ARPHRD_ number of an interface -> LINKTYPE_ number of its frames: Ethernet, loopback, none (tun: IP at once)."""


def name_octets(interface: str) -> bytes | None:
    """Return an interface's name as the kernel takes it, None where none can have it."""
    name = os.fsencode(interface)
    return name if 0 < len(name) <= NAME_BYTES and b"\0" not in name else None


def index_of(interface: str) -> int | None:
    """Return the interface's index, None where there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except (OSError, ValueError, UnicodeError):
        return None


def hardware_type(interface: str) -> int:
    """Return the ARPHRD_ number of the interface. Raises DataMissing where there is none of that name."""
    return int(struct.unpack_from("=H", _asked(interface, SIOCGIFHWADDR), 16)[0])


def is_up(interface: str) -> bool:
    """Return whether the interface was switched on. Raises DataMissing where there is none of that name."""
    return bool(struct.unpack_from("=H", _asked(interface, SIOCGIFFLAGS), 16)[0] & IFF_UP)


def link_type_of(interface: str) -> int:
    """Return the LINKTYPE_ number of the interface's frames.

    Raises DataMissing where there is no such interface, UnknownLinkType where its frames would not be decoded.
    """
    hardware = hardware_type(interface)
    if hardware not in LINK_TYPES:
        known = "1 (Ethernet), 772 (loopback) or 65534 (tun)"
        raise UnknownLinkType(f"{interface}: hardware type {hardware} is not captured, wanted {known}")
    return LINK_TYPES[hardware]


def absent(interface: str) -> DataMissing:
    """Return the error for an interface that is not there, with the names that are."""
    names = ", ".join(name for _, name in socket.if_nameindex()) or "none"
    return DataMissing(f"{interface}: no such network interface; there are: {names}")


def _asked(interface: str, question: int) -> bytes:
    """Return the kernel's struct ifreq."""
    name = name_octets(interface)
    if name is None:
        raise absent(interface)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            return fcntl.ioctl(sock, question, struct.pack("16s24x", name))
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise
            raise absent(interface) from exc
