"""Which flow records belong to an attack: conditions of the ground truth over arrays of records, n at a time.

A batch is turned once into a `RecordView` of plain integer columns (addresses as two 64-bit halves), on which every
condition is a few vector comparisons; lists of exact flows are joined by key, so their length costs nothing per record.
Knows neither files nor JSON; `ground_truth` builds what stands here.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contracts.terminal import brief
from flowfeatures.addresses import address_bytes

Mask: TypeAlias = NDArray[np.bool_]
Halves: TypeAlias = NDArray[np.uint64]

EVERYONE: Final = frozenset({"any", "spoofed"})
_ALL_ONES: Final = (1 << 128) - 1
_LOW: Final = (1 << 64) - 1
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")


class RecordView:
    """The columns of a batch that conditions compare, each made when first asked for. Accepts RECORD and FLOW_META."""

    def __init__(self, records: NDArray[Any]) -> None:
        self.records = records
        self.start_us = records["start_us"]
        self.end_us = records["end_us"]
        self.proto = records["proto"]
        self.responder_port = records["dst_port"]

    def __len__(self) -> int:
        return len(self.records)

    @functools.cached_property
    def addresses(self) -> dict[str, Halves]:
        """uint64[n, 2] per end: the high and the low half of its address."""
        return {end: np.ascontiguousarray(self.records[end]).view(">u8").astype(np.uint64) for end in ("src", "dst")}

    @functools.cached_property
    def macs(self) -> dict[str, NDArray[np.uint64]]:
        """uint64[n] per end: its MAC as a number; 0 = none seen."""
        return {end: self._mac_numbers(f"{end}_mac") for end in ("src", "dst")}

    def _mac_numbers(self, field: str) -> NDArray[np.uint64]:
        padded = np.zeros((len(self), 8), np.uint8)
        padded[:, 2:] = self.records[field]
        return padded.view(">u8").astype(np.uint64)[:, 0]


@dataclass(frozen=True)
class Ends:
    """A set of hosts: addresses and networks by (value, mask) of 128 bits, MACs as numbers; or everyone."""

    everyone: bool
    networks: tuple[tuple[int, int], ...] = ()
    macs: tuple[int, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Ends:
        """Return the hosts that texts name: address, CIDR, MAC, `spoofed`, `any`; none at all means everyone.

        Raises ValueError naming the text that is none of these.
        """
        words = [text.strip().lower() for text in texts]
        macs = [word for word in words if _MAC.fullmatch(word)]
        networks = [word for word in words if word not in EVERYONE and not _MAC.fullmatch(word)]
        return cls(
            everyone=not words or not EVERYONE.isdisjoint(words),
            networks=tuple(_network(word) for word in networks),
            macs=tuple(int(re.sub("[:-]", "", word), 16) for word in macs),
        )

    @classmethod
    def one(cls, text: str) -> Ends:
        """Return what one text names; see `of`."""
        return cls.of([text])

    def hold(self, view: RecordView, end: str) -> Mask:
        """Return bool[n]: whether that end (`src`, `dst`) of each record is one of these hosts."""
        if self.everyone:
            return np.ones(len(view), np.bool_)
        found = np.zeros(len(view), np.bool_)
        for value, mask in self.networks:
            high, low = view.addresses[end][:, 0], view.addresses[end][:, 1]
            same_high = (high & np.uint64(mask >> 64)) == np.uint64(value >> 64)
            found |= same_high & ((low & np.uint64(mask & _LOW)) == np.uint64(value & _LOW))
        for mac in self.macs:
            found |= view.macs[end] == np.uint64(mac)
        return found


def _network(text: str) -> tuple[int, int]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise ValueError(f"{brief(text)} is no address, network, MAC, 'spoofed' or 'any'") from exc
    value = int.from_bytes(address_bytes(str(network.network_address)), "big")
    return value, _ALL_ONES << (network.max_prefixlen - network.prefixlen) & _ALL_ONES


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What makes a record part of one attack; an empty tuple or None asks nothing.

    Ends match in either direction; `ports` are (first, last) ranges of the responder's; a record overlaps the interval
    if its first and last packet do not both lie before or both after it.
    """

    class_index: int
    attacker: Ends
    victim: Ends
    protos: tuple[int, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    start_us: int | None = None
    end_us: int | None = None

    def match(self, view: RecordView) -> Mask:
        """Return bool[n]."""
        found = self._overlap(view)
        if found.any() and self.protos:
            found &= np.isin(view.proto, self.protos)
        if found.any() and self.ports:
            port = view.responder_port
            found &= np.logical_or.reduce([(first <= port) & (port <= last) for first, last in self.ports])
        if found.any():
            found &= self._ends(view)
        return found

    def _overlap(self, view: RecordView) -> Mask:
        found = np.ones(len(view), np.bool_)
        if self.start_us is not None:
            found &= view.end_us >= self.start_us
        if self.end_us is not None:
            found &= view.start_us <= self.end_us
        return found

    def _ends(self, view: RecordView) -> Mask:
        forth = self.attacker.hold(view, "src") & self.victim.hold(view, "dst")
        back = self.victim.hold(view, "src") & self.attacker.hold(view, "dst")
        return forth | back


@dataclass(frozen=True, kw_only=True)
class ExactFlow:
    """One flow named in full: two (address of 16 bytes, port) in any order, protocol, interval, class."""

    ends: tuple[tuple[bytes, int], tuple[bytes, int]]
    proto: int
    start_us: int
    end_us: int
    class_index: int


_KEY = np.dtype([("low", "V16"), ("high", "V16"), ("low_port", "<u2"), ("high_port", "<u2"), ("proto", "u1")])


class FlowList:
    """Many exact flows, joined to records by their direction-free 5-tuple."""

    def __init__(self, flows: Sequence[ExactFlow]) -> None:
        self._by_key: dict[bytes, list[ExactFlow]] = {}
        for flow in flows:
            self._by_key.setdefault(_key_of(flow), []).append(flow)

    def match(self, view: RecordView) -> list[tuple[ExactFlow, NDArray[np.intp]]]:
        """Return each flow that records overlap, with the places of those records; attacks before benign flows."""
        if not self._by_key or not len(view):
            return []
        keys, inverse = np.unique(_keys(view), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        bounds = np.searchsorted(inverse[order], np.arange(len(keys) + 1))
        found = []
        for place, key in enumerate(keys.tolist()):
            at = order[bounds[place] : bounds[place + 1]]
            for flow in self._by_key.get(key, ()):
                near = at[(view.end_us[at] >= flow.start_us) & (view.start_us[at] <= flow.end_us)]
                if len(near):
                    found.append((flow, near))
        return sorted(found, key=lambda pair: pair[0].class_index == 0)


def _key_of(flow: ExactFlow) -> bytes:
    (low, low_port), (high, high_port) = sorted(flow.ends)
    return np.array((low, high, low_port, high_port, flow.proto), _KEY).tobytes()


def _keys(view: RecordView) -> NDArray[np.void]:
    """Return V37[n]: the flow keys of a batch as bytes."""
    records, addresses = view.records, view.addresses
    (src_high, src_low), (dst_high, dst_low) = addresses["src"].T, addresses["dst"].T
    ports = records["src_port"] > records["dst_port"]
    swap = (src_high > dst_high) | ((src_high == dst_high) & ((src_low > dst_low) | ((src_low == dst_low) & ports)))
    keys = np.zeros(len(view), _KEY)
    src, dst = (np.ascontiguousarray(records[end]).view("V16")[:, 0] for end in ("src", "dst"))
    keys["low"], keys["high"] = np.where(swap, dst, src), np.where(swap, src, dst)
    keys["low_port"] = np.where(swap, records["dst_port"], records["src_port"])
    keys["high_port"] = np.where(swap, records["src_port"], records["dst_port"])
    keys["proto"] = records["proto"]
    return keys.view(f"V{_KEY.itemsize}")
