"""What a person should know of a capture: what was captured and how, what is missing from it, and what helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.capture.interface import index_of, is_up
from agent.capture.offload import advice, driver_of, offloads_on

if TYPE_CHECKING:
    from agent.capture.source import CaptureSettings, Counts


@dataclass(frozen=True, kw_only=True)
class CaptureReport:
    """The facts of one capture. `super_frames` are IP packets above 1,500 octets, which the meter counts."""

    interface: str
    source: str
    opener: str
    link: str
    driver: str = ""
    filter: str | None = None
    snap_length_bytes: int = 0
    ring_bytes: int = 0
    fanout_group: int | None = None
    seen: int = 0
    read: int = 0
    dropped: int = 0
    outgoing: int = 0
    malformed: int = 0
    abandoned: int = 0
    standing: int = 0
    ring_full: int = 0
    rebinds: int = 0
    link_downs: int = 0
    is_absent: bool = False
    is_down: bool = False
    offloads: tuple[str, ...] = ()
    super_frames: int = 0

    @classmethod
    def of(cls, settings: CaptureSettings, counts: Counts, **others: Any) -> CaptureReport:
        """Return the report of an interface as it is now and a source's counts; `others` are fields of this class."""
        interface = settings.interface
        is_absent = index_of(interface) is None
        return cls(
            interface=interface,
            driver=driver_of(interface),
            filter=settings.filter,
            snap_length_bytes=settings.snap_length_bytes,
            seen=counts.seen,
            read=counts.read,
            dropped=counts.dropped,
            outgoing=counts.outgoing,
            malformed=counts.malformed,
            abandoned=counts.abandoned,
            standing=counts.standing,
            is_absent=is_absent,
            is_down=not is_absent and not is_up(interface),
            offloads=offloads_on(interface),
            **others,
        )

    def warnings(self) -> list[str]:
        """Return, one line each, what makes the counts differ from those of the wire, and what helps."""
        found = []
        if self.source == "portable":
            found.append(f"{self.interface}: the kernel gives no ring: reading the slow way, with Scapy's socket")
        if self.dropped:
            percent = 100 * self.dropped / max(1, self.seen)
            found.append(
                f"{self.interface}: the kernel dropped {self.dropped:,} of {self.seen:,} packets ({percent:.2g} %): "
                f"a filter, a larger ring or several workers help"
            )
        if self.malformed:
            found.append(f"{self.interface}: {self.malformed:,} frames of the ring did not hold together")
        if self.abandoned:
            found.append(f"{self.interface}: {self.abandoned:,} packets stood in the ring when it was closed")
        if self.super_frames or self.offloads:
            found.append(self._gluing())
        if self.is_absent:
            found.append(f"{self.interface}: the interface is gone; it is taken up again when it comes back")
        elif self.is_down:
            found.append(f"{self.interface}: the interface is down: ip link set {self.interface} up")
        return found

    def _gluing(self) -> str:
        met = f"{self.super_frames:,} packets above 1,500 octets: " if self.super_frames else ""
        if not self.offloads:
            return f"{self.interface}: {met}large frames, or packets glued together before they came here"
        names = ", ".join(self.offloads)
        verb = "is" if len(self.offloads) == 1 else "are"
        off = advice(self.interface, self.offloads)
        return f"{self.interface}: {met}{names} {verb} on and may glue packets together: sudo {off}"

    def lines(self) -> list[str]:
        """Return the facts, one line each, as `name: value`."""
        shown = {
            "interface": f"{self.interface} ({self.driver})" if self.driver else self.interface,
            "link": self.link,
            "source": f"{self.source}, opened by {self.opener}",
            "filter": self.filter or "none",
            "kept of each frame": f"{self.snap_length_bytes:,} octets",
            "ring": f"{self.ring_bytes >> 10:,} KiB",
            "fanout group": "none" if self.fanout_group is None else str(self.fanout_group),
            "seen by the kernel": f"{self.seen:,}",
            "read": f"{self.read:,}",
            "dropped by the kernel": f"{self.dropped:,} (ring full {self.ring_full:,} times)",
            "outgoing left out": f"{self.outgoing:,}",
            "malformed": f"{self.malformed:,}",
            "standing in the ring": f"{self.standing:,}",
            "abandoned": f"{self.abandoned:,}",
            "rebinds": str(self.rebinds),
            "link downs": str(self.link_downs),
            "offloads on": ", ".join(self.offloads) or "none",
            "super frames": f"{self.super_frames:,}",
        }
        return [f"{name}: {value}" for name, value in shown.items()]
