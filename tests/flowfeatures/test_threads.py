"""One meter belongs to one thread at a time: a second one is refused while the first is inside."""

import threading
from contextlib import suppress

import numpy as np

from flowfeatures import FlowMeter, FrameBlock
from tests.flowfeatures.packets import START_US, udp_frame

FRAMES = 300_000
TRIES = 50


def test_a_second_thread_is_refused_while_the_first_is_inside():
    octets = udp_frame(0)[1]
    nowhere = np.zeros(FRAMES, np.int64)
    block = FrameBlock.view(octets, nowhere, np.full(FRAMES, len(octets)), START_US + np.arange(FRAMES))
    meter = FlowMeter()
    refusals: list[str] = []

    def meter_all() -> None:
        with suppress(RuntimeError):  # the other one was inside first
            for _ in meter.add(block):
                pass

    for _ in range(TRIES):
        first = threading.Thread(target=meter_all)
        first.start()
        while first.is_alive() and not refusals:
            try:
                list(meter.advance(START_US))
            except RuntimeError as exc:
                refusals.append(str(exc))
        first.join()
        if refusals:
            break

    assert refusals == ["this meter is in use by another thread, wanted one thread at a time"]
    assert meter.counters["decoded"] % FRAMES == 0
