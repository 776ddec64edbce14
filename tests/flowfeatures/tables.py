"""Records that tables are made of in tests: a few flows of every kind, and what is needed to read a table back."""

from collections.abc import Iterable

import numpy as np

from flowfeatures import FlowMeter, FlowSettings, FrameBlock
from tests.flowfeatures.packets import Conversation, TimedFrame, ethernet, ipv6, time_us, udp, udp_frame

FRAMES: list[TimedFrame] = [
    *Conversation().out(0, "S").back(0.1, "SA").out(0.3, "PA", 100).back(0.7, "PA", 1333).out(7, "A").frames,
    udp_frame(8, payload_bytes=5),
    (time_us(9), ethernet(ipv6(udp(5683, 5683, 3), 17), vlans=[100, 7])),
]


def batches_of(frames: Iterable[TimedFrame] = FRAMES, **settings: bool) -> list[np.ndarray]:
    """Return what a meter yields for the frames, array by array."""
    times_us, octets = zip(*frames, strict=True)
    meter = FlowMeter(FlowSettings(**settings))
    return [*meter.add(FrameBlock.of(octets, times_us)), *meter.flush()]


def flood(flows: int) -> list[np.ndarray]:
    """Return the records of that many flows of one packet each."""
    return batches_of([udp_frame(0, ports=(1 + number, 53)) for number in range(flows)])
