"""Which packets an interval of the ground truth speaks of: attacker, victim, protocol, the victim's ports."""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Sequence
from typing import Any

from lab.frames import Frame
from lab.plan import ANY_HOST


class Matcher:
    """Which packets an interval of the ground truth speaks of."""

    def __init__(self, interval: dict[str, Any]) -> None:
        self.is_arp = interval.get("layer") == "arp"  # speaks of claims, and of no packet with addresses
        self.start_s, self.end_s = float(interval["start"]), float(interval["end"])
        self._attacker = _ranges(interval["attacker"])
        self._victim = _ranges(interval["victim"])
        self._proto = interval.get("proto")
        self._ports = frozenset(interval.get("ports") or ())

    def is_sent(self, frame: Frame) -> bool:
        """Does the attacker send this packet to the victim?"""
        return self._fits(frame) and self._goes(frame.source, frame.target, frame.target_port)

    def is_exchanged(self, frame: Frame) -> bool:
        """Does this packet pass between attacker and victim, in either direction?"""
        return self._fits(frame) and (
            self._goes(frame.source, frame.target, frame.target_port)
            or self._goes(frame.target, frame.source, frame.source_port)
        )

    def _fits(self, frame: Frame) -> bool:
        return not self.is_arp and (self._proto is None or frame.proto == self._proto)

    def _goes(self, attacker: int, victim: int, port: int) -> bool:
        if self._ports and port not in self._ports:
            return False
        return _lies_in(attacker, self._attacker) and _lies_in(victim, self._victim)


def _ranges(addresses: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the first and the last addresses of ranges that do not overlap, in their order."""
    if not addresses or ANY_HOST in addresses or "spoofed" in addresses:
        return [0], [2**32 - 1]
    networks = sorted(ipaddress.collapse_addresses(map(ipaddress.IPv4Network, addresses)))
    return [int(each.network_address) for each in networks], [int(each.broadcast_address) for each in networks]


def _lies_in(number: int, ranges: tuple[list[int], list[int]]) -> bool:
    at = bisect.bisect_right(ranges[0], number) - 1
    return at >= 0 and number <= ranges[1][at]
