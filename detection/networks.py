"""Sets of addresses given as CIDRs, asked with the 16 bytes a record holds (IPv4 as ::ffff:a.b.c.d)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

MAPPED = 0xFFFF << 32  # ::ffff:0:0, under which IPv4 stands among the IPv6 addresses
MAPPED_BITS = 96


class Networks:
    """The addresses covered by a list of CIDRs or single addresses.

    Raises ValueError for a text that is neither.

    >>> b"\\0" * 10 + b"\\xff\\xff\\x0a\\0\\0\\x07" in Networks(["10.0.0.0/8"])
    True
    """

    def __init__(self, cidrs: Iterable[str] = ()) -> None:
        self.cidrs = tuple(cidrs)
        self._masked = [_masked(cidr) for cidr in self.cidrs]

    def __contains__(self, address: bytes) -> bool:
        number = int.from_bytes(address, "big")
        return any(number & mask == value for mask, value in self._masked)


def _masked(cidr: str) -> tuple[int, int]:
    """Return (mask, value) over 128 bits; host bits in the text are ignored, as `10.1.2.3/8` is usually meant."""
    network = ipaddress.ip_network(cidr, strict=False)
    value, bits = int(network.network_address), network.prefixlen
    if network.version == 4:
        value, bits = MAPPED | value, MAPPED_BITS + bits
    mask = ((1 << bits) - 1) << (128 - bits)
    return mask, value & mask
