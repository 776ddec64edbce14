"""Frames in which devices say who they are, built from octets; the tests' own hand, not the parser's."""

from __future__ import annotations

import ipaddress
import struct

from flowfeatures import address_bytes
from tests.flowfeatures.packets import ethernet, ipv4, ipv6, mac_bytes

LAMP, CAMERA, FORGER = "02:00:00:00:00:10", "02:00:00:00:00:20", "02:66:66:66:66:66"
LAMP_IP, CAMERA_IP, OTHER_IP = "192.168.1.10", "192.168.1.20", "192.168.1.77"
BROADCAST = "ff:ff:ff:ff:ff:ff"
SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def at(text: str) -> bytes:
    """Return an address as `Devices` takes it."""
    return address_bytes(text)


def arp(mac: str, address: str, *, asks_for: str = "192.168.1.1", operation: int = 1, speaks_for: str = "") -> bytes:
    """Return an ARP request or answer; `speaks_for` is the MAC inside, if it is another."""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + mac_bytes(speaks_for or mac) + packed(address)
    return ethernet(body + bytes(6) + packed(asks_for), src=mac, dst=BROADCAST, ether_type=0x0806)


def option(number: int, value: bytes) -> bytes:
    return bytes([number, len(value)]) + value


def dhcp(
    mac: str,
    *,
    kind: int = 3,
    name: str | None = None,
    options: bytes = b"",
    address: str = "0.0.0.0",
    given: str = "0.0.0.0",
    relay: str = "0.0.0.0",
    sender: str = "",
) -> bytes:
    """Return a client's message, or where an address is `given` a server's."""
    body = struct.pack(">BBBBIHH", 2 if given != "0.0.0.0" else 1, 1, 6, 0, 7, 0, 0)
    body += packed(address) + packed(given) + bytes(4) + packed(relay)
    body += mac_bytes(mac) + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63" + option(53, bytes([kind]))
    body += option(12, name.encode()) if name is not None else b""
    body += options + b"\xff"
    ports = (67, 68) if given != "0.0.0.0" else (68, 67)
    return ethernet(udp4(body, *ports, src="192.168.1.1", dst="255.255.255.255"), src=sender or mac, dst=BROADCAST)


def udp4(payload: bytes, source_port: int, target_port: int, *, src: str, dst: str) -> bytes:
    return ipv4(datagram(payload, source_port, target_port), 17, src=src, dst=dst)


def datagram(payload: bytes, source_port: int, target_port: int) -> bytes:
    return struct.pack(">HHHH", source_port, target_port, 8 + len(payload), 0) + payload


def labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def record(name: bytes, address: str, *, ttl: int = 120) -> bytes:
    """Return an A or AAAA record with the cache-flush bit; `name` is in wire format."""
    value = packed(address)
    return name + struct.pack(">HHIH", 1 if len(value) == 4 else 28, 0x8001, ttl, len(value)) + value


def mdns_message(*records: bytes, questions: int = 0, response: bool = True) -> bytes:
    return struct.pack(">HHHHHH", 0, 0x8400 if response else 0, questions, len(records), 0, 0) + b"".join(records)


def mdns(mac: str, address: str, *records: bytes, response: bool = True) -> bytes:
    message = mdns_message(*records, response=response)
    if ":" in address:
        packet = ipv6(datagram(message, 5353, 5353), 17, src=address, dst="ff02::fb")
        return ethernet(packet, src=mac, dst="33:33:00:00:00:fb")
    return ethernet(udp4(message, 5353, 5353, src=address, dst="224.0.0.251"), src=mac, dst="01:00:5e:00:00:fb")


def announced(mac: str, address: str, name: str) -> bytes:
    return mdns(mac, address, record(labels(f"{name}.local"), address))


def neighbour(
    mac: str, kind: int, *, src: str, target: str = "fe80::1", linked: str = "", hop_limit: int = 255
) -> bytes:
    """Return a neighbour solicitation (135) or advertisement (136) with its link-layer option."""
    number = 2 if kind == 136 else 1
    body = struct.pack(">BBHI", kind, 0, 0, 0) + packed(target) + bytes([number, 1]) + mac_bytes(linked or mac)
    packet = bytearray(ipv6(body, 58, src=src, dst="ff02::1"))
    packet[7] = hop_limit
    return ethernet(bytes(packet), src=mac, dst="33:33:00:00:00:01")
