"""Addresses as 16 bytes (IPv4 mapped into ::ffff:0:0/96) and as text."""

import ipaddress
from typing import SupportsBytes, TypeAlias

AddressBytes: TypeAlias = bytes | bytearray | memoryview | SupportsBytes

_MAPPED = bytes(10) + b"\xff\xff"


def address_text(address: AddressBytes) -> str:
    """Return 16 address bytes as text: dotted for IPv4, RFC 5952 for IPv6.

    Raises ValueError where the address has not 16 bytes.

    >>> address_text(bytes(10) + b"\\xff\\xff" + bytes([192, 168, 1, 7]))
    '192.168.1.7'
    """
    raw = bytes(address)
    if len(raw) != 16:
        raise ValueError(f"an address has 16 bytes, got {len(raw)}")
    if raw.startswith(_MAPPED):
        return ".".join(map(str, raw[12:]))
    return str(ipaddress.IPv6Address(raw))


def address_bytes(text: str) -> bytes:
    """Return an address as the 16 bytes a record holds. Raises ValueError where the text is no address.

    >>> address_bytes("::1")[-1]
    1
    """
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else _MAPPED + address.packed


def mac_text(mac: AddressBytes) -> str:
    """Return six bytes as `aa:bb:cc:dd:ee:ff`, or an empty text where all are zero (none seen)."""
    raw = bytes(mac)
    return raw.hex(":") if any(raw) else ""
