"""Open an interface with the best source there is: the ring, or where the kernel refuses one, Scapy's socket."""

from __future__ import annotations

from agent.capture.errors import RingRefused
from agent.capture.portable import PortableSource
from agent.capture.ring_source import RingSource
from agent.capture.source import CaptureSettings, LiveSource
from contracts.errors import MissingExtra


def open_live(settings: CaptureSettings) -> LiveSource:
    """Return the open source; its report says which one it is. Raises what `RingSource` raises."""
    try:
        return RingSource(settings)
    except RingRefused as refused:
        if settings.fanout_group is not None:
            raise
        try:
            return PortableSource(settings)
        except MissingExtra:
            raise refused from None
