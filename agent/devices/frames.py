"""A frame to a hint: Ethernet, ARP, IPv6 neighbour discovery, and UDP to those who read DHCP and mDNS.

Of what the kernel's filter lets through (`frame_filter.py`), but the filter is not trusted. Checksums are not looked
at: a kernel leaves those of its own frames to the card.
"""

from __future__ import annotations

from typing import Final

from agent.devices.dhcp import read_dhcp
from agent.devices.hints import Hint, Refused, check_mac, mapped, number
from agent.devices.mdns import read_mdns

ETHERNET_BYTES: Final = 14
TAGS: Final = (0x8100, 0x88A8)
MAX_TAGS: Final = 2
ARP: Final = 0x0806
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
UDP: Final = 17
ICMPV6: Final = 58
DHCP_PORTS: Final = (67, 68)
MDNS_PORT: Final = 5353
ROUTER_SOLICITATION, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT = 133, 135, 136
ND_BODY_BYTES: Final = {ROUTER_SOLICITATION: 8, NEIGHBOR_SOLICITATION: 24, NEIGHBOR_ADVERTISEMENT: 24}
MAX_ND_OPTIONS: Final = 16


def read(frame: bytes) -> Hint:
    """Return what a frame says of a device. Raises Refused."""
    if len(frame) < ETHERNET_BYTES:
        raise Refused("truncated")
    sender, kind, at = frame[6:12], number(frame, 12), ETHERNET_BYTES
    for _ in range(MAX_TAGS):
        if kind in TAGS:
            if len(frame) < at + 4:
                raise Refused("truncated")
            kind, at = number(frame, at + 2), at + 4
    check_mac(sender)
    body = frame[at:]
    if kind == ARP:
        return _arp(body, sender)
    if kind == IPV4:
        return _ipv4(body, sender)
    if kind == IPV6:
        return _ipv6(body, sender)
    raise Refused("other_protocol")


def _arp(body: bytes, sender: bytes) -> Hint:
    if len(body) < 28:
        raise Refused("truncated")
    if body[:6] != b"\0\x01\x08\0\x06\x04" or number(body, 6) not in (1, 2):
        raise Refused("bad_arp")
    if body[8:14] != sender:
        raise Refused("mac_differs")
    return Hint(mac=sender, address=_claimed(body[14:18]))


def _ipv4(body: bytes, sender: bytes) -> Hint:
    if len(body) < 20:
        raise Refused("truncated")
    header, total = (body[0] & 0x0F) * 4, number(body, 2)
    if body[0] >> 4 != 4 or header < 20 or total < header or len(body) < total:
        raise Refused("truncated")
    if body[9] != UDP:
        raise Refused("other_protocol")
    if number(body, 6) & 0x3FFF:
        raise Refused("fragment")
    return _udp(body[header:total], sender, body[12:16])


def _ipv6(body: bytes, sender: bytes) -> Hint:
    if len(body) < 40:
        raise Refused("truncated")
    length = number(body, 4)
    if body[0] >> 4 != 6 or len(body) < 40 + length:
        raise Refused("truncated")
    packet, source = body[40 : 40 + length], body[8:24]
    if body[6] == UDP:
        return _udp(packet, sender, source)
    if body[6] != ICMPV6:
        raise Refused("other_protocol")
    return _neighbour(packet, sender, source, hop_limit=body[7])


def _neighbour(packet: bytes, sender: bytes, source: bytes, *, hop_limit: int) -> Hint:
    """Read neighbour discovery (RFC 4861); one that asks speaks of its source, one that answers of its target."""
    kind = packet[0] if packet else 0
    if kind not in ND_BODY_BYTES:
        raise Refused("other_protocol")
    if hop_limit != 255:
        raise Refused("not_on_link")
    body_bytes = ND_BODY_BYTES[kind]
    if len(packet) < body_bytes:
        raise Refused("truncated")
    if packet[1] != 0:
        raise Refused("bad_nd")
    _check_link_layer_option(packet[body_bytes:], sender, wanted=2 if kind == NEIGHBOR_ADVERTISEMENT else 1)
    return Hint(mac=sender, address=_claimed(packet[8:24] if kind == NEIGHBOR_ADVERTISEMENT else source))


def _check_link_layer_option(options: bytes, sender: bytes, *, wanted: int) -> None:
    """Raise Refused where an option names another MAC than the frame's sender, or the options do not hold together."""
    at = 0
    for _ in range(MAX_ND_OPTIONS):
        if at == len(options):
            return
        if len(options) < at + 2 or (length := options[at + 1] * 8) == 0 or len(options) < at + length:
            raise Refused("bad_nd")
        if options[at] == wanted and options[at + 2 : at + 8] != sender:
            raise Refused("mac_differs")
        at += length
    raise Refused("bad_nd")


def _udp(packet: bytes, sender: bytes, source: bytes) -> Hint:
    if len(packet) < 8:
        raise Refused("truncated")
    source_port, target_port, length = number(packet, 0), number(packet, 2), number(packet, 4)
    if not 8 <= length <= len(packet):
        raise Refused("truncated")
    payload = packet[8:length]
    if len(source) == 4 and source_port in DHCP_PORTS and target_port in DHCP_PORTS:
        return read_dhcp(payload, sender, to_server=target_port == 67)
    if source_port == MDNS_PORT and target_port == MDNS_PORT:
        return Hint(mac=sender, address=_claimed(source), name=read_mdns(payload, source))
    raise Refused("other_protocol")


def _claimed(address: bytes) -> bytes:
    """Return the address as sixteen octets. Raises Refused where it is none a device can have."""
    if not any(address) or address[0] in ((0, 127, *range(224, 256)) if len(address) == 4 else (0xFF,)):
        raise Refused("no_claim")
    return mapped(address)
