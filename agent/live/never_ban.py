"""Addresses that no alert may ask to ban, since this gateway lives by them: routers, resolvers, time servers.

Read from the files in which Linux keeps them, under a root that tests can fake; no socket, no name is resolved. What
is not there, or cannot be read, names nobody. The trap: a time server is often given by name only, and not found here.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contracts.files import open_regular

MAX_BYTES: Final = 1 << 20
MAX_ADDRESSES: Final = 64
RTF_GATEWAY: Final = 0x0002
RESOLVER_FILES: Final = (
    "etc/resolv.conf",
    "run/systemd/resolve/resolv.conf",  # what stands behind the stub at 127.0.0.53
    "run/NetworkManager/resolv.conf",
    "run/resolvconf/resolv.conf",
)
TIME_FILES: Final = ("etc/systemd/timesyncd.conf", "etc/chrony/chrony.conf", "etc/chrony.conf", "etc/ntp.conf")
TIME_WORDS: Final = ("server", "pool", "peer", "ntp=", "fallbackntp=")


def own_infrastructure(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the addresses of default routes, resolvers and time servers as text, sorted, loopback left out."""
    found: set[str] = set()
    for text in (*_default_routes(root), *_resolvers(root), *_time_servers(root)):
        address = _address(text)
        if address is not None and len(found) < MAX_ADDRESSES:
            found.add(address)
    return tuple(sorted(found))


def _default_routes(root: Path) -> Iterator[str]:
    """Give the next hops of default routes; those of IPv4 stand there as a number in the order of this machine."""
    for line in _lines(root / "proc/net/route"):
        columns = line.split()
        if len(columns) >= 8 and columns[1] == "00000000" and _number(columns[3]) & RTF_GATEWAY:
            yield str(ipaddress.IPv4Address(struct.pack("=I", _number(columns[2]) & 0xFFFFFFFF)))
    for line in _lines(root / "proc/net/ipv6_route"):
        columns = line.split()
        if len(columns) >= 9 and columns[0] == "0" * 32 and columns[1] == "00" and len(columns[4]) == 32:
            yield str(ipaddress.IPv6Address(_number(columns[4])))


def _resolvers(root: Path) -> Iterator[str]:
    for name in RESOLVER_FILES:
        for line in _lines(root / name):
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                yield words[1]


def _time_servers(root: Path) -> Iterator[str]:
    for name in TIME_FILES:
        for line in _lines(root / name):
            words = line.strip().replace("=", "= ", 1).split()
            if words and words[0].lower() in TIME_WORDS:
                yield from words[1:]


def _address(text: str) -> str | None:
    """Return an address another machine may have; None for names and for loopback, unspecified and multicast ones."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    return str(address)


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _lines(path: Path) -> list[str]:
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
