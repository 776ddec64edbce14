"""What the kernel knows of links, addresses and routes: three dumps over a netlink socket. Needs no privilege.

Of the namespace the calling thread is in, unlike /sys, which shows the one it was mounted in.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP: Final = 0x301
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE = 18, 22, 26
RTN_UNICAST: Final = 1
RT_TABLE_MAIN: Final = 254
RECEIVE_BYTES: Final = 1 << 16
HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr


@dataclass(frozen=True, kw_only=True)
class Link:
    """A network interface. `lower` is what a VLAN (`kind`) stands on, `master` the bridge or bond it is in."""

    index: int
    name: str
    mac: bytes
    kind: str
    lower: int
    master: int


@dataclass(frozen=True, kw_only=True)
class Address:
    """An address of an interface; `peer` is the other end of a point-to-point link, or the same address."""

    index: int
    address: bytes
    peer: bytes
    prefix_bits: int


@dataclass(frozen=True, kw_only=True)
class Route:
    """A unicast route of the main table; `target` is empty for the default route, `gateway` where there is none."""

    index: int
    target: bytes
    prefix_bits: int
    gateway: bytes


def links() -> list[Link]:
    """Return every interface."""
    found = []
    for body in _dump(RTM_GETLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)):
        (index,) = struct.unpack_from("=i", body, 4)
        attributes = _attributes(body, 16)
        found.append(
            Link(
                index=index,
                name=os.fsdecode(attributes.get(3, b"").rstrip(b"\0")),
                mac=attributes.get(1, b""),
                kind=_attributes(attributes.get(18, b""), 0).get(1, b"").rstrip(b"\0").decode("ascii", "replace"),
                lower=_number(attributes.get(5, b"")),
                master=_number(attributes.get(10, b"")),
            )
        )
    return found


def addresses() -> list[Address]:
    """Return the addresses of every interface, both families."""
    found = []
    for body in _dump(RTM_GETADDR, struct.pack("=BBBBi", socket.AF_UNSPEC, 0, 0, 0, 0)):
        prefix_bits, index = body[1], struct.unpack_from("=i", body, 4)[0]
        attributes = _attributes(body, 8)
        peer = attributes.get(1, b"")
        address = attributes.get(2, peer)
        if address:
            found.append(Address(index=index, address=address, peer=peer or address, prefix_bits=prefix_bits))
    return found


def routes() -> list[Route]:
    """Return the unicast routes of the main table, both families; those over several links are left out."""
    found = []
    for body in _dump(RTM_GETROUTE, struct.pack("=8BI", socket.AF_UNSPEC, *[0] * 7, 0)):
        attributes = _attributes(body, 12)
        table = _number(attributes.get(15, b"")) or body[4]
        if table == RT_TABLE_MAIN and body[7] == RTN_UNICAST and 4 in attributes:
            found.append(
                Route(
                    index=_number(attributes[4]),
                    target=attributes.get(1, b""),
                    prefix_bits=body[1],
                    gateway=attributes.get(5, b""),
                )
            )
    return found


def _dump(kind: int, request: bytes) -> Iterator[bytes]:
    """Give the body of every message of a dump. Raises OSError where the kernel refuses one."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(5.0)
        sock.send(HEADER.pack(HEADER.size + len(request), kind, NLM_F_REQUEST_DUMP, 1, 0) + request)
        while True:
            answer, at = sock.recv(RECEIVE_BYTES), 0
            while at + HEADER.size <= len(answer):
                length, message, *_ = HEADER.unpack_from(answer, at)
                body = answer[at + HEADER.size : at + length]
                if message == NLMSG_DONE:
                    return
                if message == NLMSG_ERROR or length < HEADER.size:
                    raise OSError(-struct.unpack("=i", body[:4])[0] if len(body) >= 4 else 0, "netlink dump refused")
                yield body
                at += (length + 3) & ~3


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _number(octets: bytes) -> int:
    return int(struct.unpack("=I", octets)[0]) if len(octets) == 4 else 0
