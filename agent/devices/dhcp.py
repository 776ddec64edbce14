"""DHCP for IPv4 (RFC 2131, 2132, 4702): a client's name and what it asks for, and the address a server gave it.

Servers' acknowledgements are claims of the client they speak of, no more trusted than others: anyone may send one.
"""

from __future__ import annotations

from typing import Final

from agent.devices.hints import Hint, Refused, check_mac, mapped

OPTIONS_AT: Final = 240
COOKIE: Final = b"\x63\x82\x53\x63"
PAD, HOST_NAME, MESSAGE_TYPE, PARAMETER_LIST, CLIENT_FQDN, END = 0, 12, 53, 55, 81, 255
DISCOVER, REQUEST, ACK, INFORM = 1, 3, 5, 8
MAX_OPTIONS: Final = 128
MAX_WISHES: Final = 64
FQDN_IN_WIRE_FORMAT: Final = 0x04


def read_dhcp(payload: bytes, sender: bytes, *, to_server: bool) -> Hint:
    """Return what a message says of the client. Raises Refused."""
    if len(payload) < OPTIONS_AT:
        raise Refused("truncated")
    if payload[0] != (1 if to_server else 2) or payload[1:3] != b"\x01\x06" or payload[236:240] != COOKIE:
        raise Refused("bad_dhcp")
    if any(payload[24:28]):
        raise Refused("relayed")
    client = check_mac(payload[28:34])
    options = _options(payload)
    kind = options.get(MESSAGE_TYPE, b"")
    if len(kind) != 1:
        raise Refused("bad_dhcp")
    if not to_server:
        if kind[0] != ACK or not any(payload[16:20]):
            raise Refused("no_claim")
        return Hint(mac=client, address=mapped(payload[16:20]))
    if kind[0] not in (DISCOVER, REQUEST, INFORM):
        raise Refused("no_claim")
    if client != sender:
        raise Refused("mac_differs")
    return Hint(
        mac=client,
        address=mapped(payload[12:16]) if any(payload[12:16]) else None,
        name=options.get(HOST_NAME) or _first_label(options.get(CLIENT_FQDN, b"")),
        wishes=options.get(PARAMETER_LIST, b"")[:MAX_WISHES],
    )


def _options(payload: bytes) -> dict[int, bytes]:
    """Return the options by number; of one that is repeated, the first."""
    found: dict[int, bytes] = {}
    at = OPTIONS_AT
    for _ in range(MAX_OPTIONS):
        while at < len(payload) and payload[at] == PAD:
            at += 1
        if at == len(payload) or payload[at] == END:
            return found
        if at + 2 > len(payload) or at + 2 + payload[at + 1] > len(payload):
            raise Refused("bad_dhcp")
        value_end = at + 2 + payload[at + 1]
        found.setdefault(payload[at], payload[at + 2 : value_end])
        at = value_end
    raise Refused("bad_dhcp")


def _first_label(option: bytes) -> bytes | None:
    """Return the host's label of a client FQDN option: in DNS's wire format, or as clients before RFC 4702 wrote it."""
    if len(option) < 4:
        return None
    name = option[3:]
    if option[0] & FQDN_IN_WIRE_FORMAT:
        return name[1 : 1 + name[0]] or None
    return name.split(b".")[0] or None
