"""Alarms of a capture that no longer sees what it should: an intrusion detector's worst failure looks like peace.

Four kinds, each for an interface: no packets at all, too many of them dropped, only one direction of every flow, home
networks that match nothing. Each is told once when it opens and once when it closes, and closes only well on the other
side of what opened it. The trap: time must be of a clock that never steps, or setting the clock would be an alarm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from contracts.terminal import printable
from flowfeatures import HomeNets

Kind = Literal["no_packets", "drops", "one_way", "home_nets"]
KINDS: Final[tuple[Kind, ...]] = ("no_packets", "drops", "one_way", "home_nets")
SECOND_US: Final = 1_000_000
CLEAR_US: Final = 10 * SECOND_US  # packets must have come for so long, without a large gap, to end their absence
DROPS_OVER_US: Final = 60 * SECOND_US
MIN_SEEN: Final = 100  # of fewer packets a share says nothing
MIN_RECORDS: Final = 20
SAMPLE: Final = 16  # records of a chunk; a flood makes chunks of thousands
MAX_SIGHTS: Final = 256  # of one interface; the horizon is divided into as many


@dataclass(frozen=True, kw_only=True)
class SilenceSettings:
    """[silence]: when what is not seen is an alarm. Zero switches a kind off."""

    no_packets_s: float
    drop_ratio: float
    """Over a minute; it closes below half of it."""
    one_way_s: float
    home_nets_unseen_s: float

    def __post_init__(self) -> None:
        for name in ("no_packets_s", "one_way_s", "home_nets_unseen_s"):
            if not 0 <= getattr(self, name) <= 7 * 86_400:
                raise ValueError(f"{name}: {getattr(self, name)}, wanted 0 to 604800 seconds")
        if not 0 <= self.drop_ratio <= 1:
            raise ValueError(f"drop_ratio: {self.drop_ratio}, wanted 0 to 1")


@dataclass(frozen=True, kw_only=True)
class InterfaceSight:
    """What has been seen on an interface since the start; every number only grows.

    `one_way` and `two_way` count records of flows by whether both ends sent something, groups left out; of `sampled`
    records `strange` have no end at home.
    """

    interface: str
    seen: int
    dropped: int
    one_way: int
    two_way: int
    sampled: int
    strange: int


@dataclass(frozen=True, kw_only=True)
class Silence:
    """An alarm that has opened, or closed."""

    interface: str
    kind: Kind
    is_open: bool
    since_us: int
    text: str


class RecordTally:
    """Adds up the records of one interface. Whether they have an end at home is asked of a few in each chunk."""

    def __init__(self, home: HomeNets) -> None:
        self._home = home
        self.one_way = self.two_way = self.sampled = self.strange = 0

    def add(self, records: NDArray[np.void]) -> None:
        """Count RECORD[n] or FLOW_META[n]."""
        both = int(np.count_nonzero((records["fwd_packets"] > 0) & (records["bwd_packets"] > 0)))
        groups = int(np.count_nonzero((records["group"] > 0) & (records["bwd_packets"] == 0)))
        self.two_way += both
        self.one_way += len(records) - both - groups
        for src, dst in zip(_addresses(records["src"]), _addresses(records["dst"]), strict=True):
            self.sampled += 1
            self.strange += src not in self._home and dst not in self._home

    def sight(self, interface: str, *, seen: int, dropped: int) -> InterfaceSight:
        """Return what `SilenceAlarms` is to be shown, with the kernel's counts of the interface."""
        return InterfaceSight(
            interface=interface,
            seen=seen,
            dropped=dropped,
            one_way=self.one_way,
            two_way=self.two_way,
            sampled=self.sampled,
            strange=self.strange,
        )


def _addresses(column: NDArray[np.uint8]) -> list[bytes]:
    """Return the addresses of the first records."""
    octets = column[:SAMPLE].tobytes()
    return [octets[at : at + 16] for at in range(0, len(octets), 16)]


@dataclass
class _Watched:
    """One interface: its last sights, oldest first, and the alarms that are open."""

    sights: deque[tuple[int, InterfaceSight]] = field(default_factory=lambda: deque(maxlen=MAX_SIGHTS))
    moved_us: int = 0  # when packets came last
    coming_us: int = 0  # since when they have been coming without a gap
    open: dict[Kind, Silence] = field(default_factory=dict)


class SilenceAlarms:
    """Watch over what interfaces see."""

    def __init__(self, settings: SilenceSettings) -> None:
        self._settings = settings
        self._watched: dict[str, _Watched] = {}
        slowest_s = max(DROPS_OVER_US / SECOND_US, settings.one_way_s, settings.home_nets_unseen_s)
        self._gap_us = max(CLEAR_US, round(settings.no_packets_s * SECOND_US) // 4)
        self._spacing_us = 2 * round(slowest_s * SECOND_US) // MAX_SIGHTS

    @property
    def open(self) -> tuple[Silence, ...]:
        """Return the alarms that are open now."""
        return tuple(silence for watched in self._watched.values() for silence in watched.open.values())

    def check(self, now_us: int, sights: Sequence[InterfaceSight]) -> list[Silence]:
        """Return the alarms that open or close now. An interface no longer among the sights closes its own."""
        changes = []
        for name in self._watched.keys() - {sight.interface for sight in sights}:
            gone = self._watched.pop(name)
            changes += [_closed(each, "no longer watched") for each in gone.open.values()]
        for sight in sights:
            watched = self._watched.get(sight.interface)
            if watched is None or sight.seen < watched.sights[-1][1].seen:  # new, or counted anew
                held = {} if watched is None else watched.open
                watched = _Watched(moved_us=now_us, coming_us=now_us, open=held)
                watched.sights.append((now_us, sight))
                self._watched[sight.interface] = watched
            changes += self._check_one(watched, now_us, sight)
        return changes

    def _check_one(self, watched: _Watched, now_us: int, sight: InterfaceSight) -> list[Silence]:
        settings = self._settings
        if sight.seen > watched.sights[-1][1].seen:
            if now_us - watched.moved_us > self._gap_us:
                watched.coming_us = now_us
            watched.moved_us = now_us
        verdicts = {
            "no_packets": self._no_packets(watched, now_us),
            "drops": self._drops(watched, now_us, sight),
            "one_way": self._one_way(watched, now_us, sight),
            "home_nets": self._home_nets(watched, now_us, sight),
        }
        if len(watched.sights) < 2 or now_us - watched.sights[-2][0] >= self._spacing_us:
            watched.sights.append((now_us, sight))
        else:
            watched.sights[-1] = (now_us, sight)
        off = {"no_packets": settings.no_packets_s, "drops": settings.drop_ratio}
        off |= {"one_way": settings.one_way_s, "home_nets": settings.home_nets_unseen_s}
        return [
            change
            for kind in KINDS
            if off[kind] and (change := _changed(watched, kind, now_us, sight.interface, verdicts[kind]))
        ]

    # Each returns whether the alarm holds, or None where nothing can be said or it is between the two; and the words.

    def _no_packets(self, watched: _Watched, now_us: int) -> tuple[bool | None, str]:
        quiet_us = now_us - watched.moved_us
        if quiet_us >= self._settings.no_packets_s * SECOND_US:
            return True, f"no packet for {quiet_us // SECOND_US} s: is the cable in, the mirror port still on?"
        is_steady = quiet_us <= self._gap_us and watched.moved_us - watched.coming_us >= CLEAR_US
        return (False if is_steady else None), "packets come again"

    def _drops(self, watched: _Watched, now_us: int, sight: InterfaceSight) -> tuple[bool | None, str]:
        past = _past(watched, now_us - DROPS_OVER_US)
        seen, dropped = sight.seen - past.seen, sight.dropped - past.dropped
        if seen < MIN_SEEN and dropped == 0:
            return (False if "drops" in watched.open and seen > 0 else None), "no packet dropped lately"
        ratio = dropped / max(1, seen)
        words = f"{dropped:,} of {seen:,} packets dropped in the last minute ({ratio:.1%})"
        if seen >= MIN_SEEN and ratio >= self._settings.drop_ratio:
            return True, words
        return (False if ratio < self._settings.drop_ratio / 2 else None), words

    def _one_way(self, watched: _Watched, now_us: int, sight: InterfaceSight) -> tuple[bool | None, str]:
        since_us = now_us - round(self._settings.one_way_s * SECOND_US)
        past = _past(watched, since_us)
        one_way, two_way = sight.one_way - past.one_way, sight.two_way - past.two_way
        if two_way == 0 and one_way >= MIN_RECORDS and watched.sights[0][0] <= since_us:
            words = f"{one_way:,} flows in {self._settings.one_way_s:g} s, and of none both directions"
            return True, f"{words}: does the port mirror both?"
        return (False if two_way >= MIN_RECORDS else None), "both directions are seen"

    def _home_nets(self, watched: _Watched, now_us: int, sight: InterfaceSight) -> tuple[bool | None, str]:
        since_us = now_us - round(self._settings.home_nets_unseen_s * SECOND_US)
        past = _past(watched, since_us)
        records, strange = sight.sampled - past.sampled, sight.strange - past.strange
        if records >= MIN_RECORDS and strange >= records and watched.sights[0][0] <= since_us:
            return True, f"none of {records:,} flow records has an end in the home networks: is home_nets right?"
        return (False if records - strange >= MIN_RECORDS else None), "home networks are seen"


def _past(watched: _Watched, at_us: int) -> InterfaceSight:
    """Return the newest sight that is at least as old, or the oldest there is."""
    found = watched.sights[0][1]
    for time_us, sight in watched.sights:
        if time_us > at_us:
            break
        found = sight
    return found


def _changed(
    watched: _Watched, kind: Kind, now_us: int, interface: str, verdict: tuple[bool | None, str]
) -> Silence | None:
    holds, words = verdict
    held = watched.open.get(kind)
    if holds and held is None:
        text = f"{printable(interface)}: {words}"
        watched.open[kind] = Silence(interface=interface, kind=kind, is_open=True, since_us=now_us, text=text)
        return watched.open[kind]
    if holds is False and held is not None:
        return _closed(watched.open.pop(kind), words)
    return None


def _closed(silence: Silence, words: str) -> Silence:
    fields: dict[str, Any] = {"interface": silence.interface, "kind": silence.kind, "since_us": silence.since_us}
    return Silence(is_open=False, text=f"{printable(silence.interface)}: {words}", **fields)
