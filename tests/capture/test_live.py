"""The loop over a live source: the clock of a quiet wire, the end in order, the accounts on the way."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from agent.capture.live import LiveCapture
from agent.capture.report import CaptureReport
from agent.capture.source import Counts
from flowfeatures import FlowMeter
from flowfeatures.frames import FrameBlock
from flowfeatures.ring import Ring
from tests.flowfeatures.packets import START_US, ethernet, ipv4, tcp, udp
from tests.flowfeatures.ring_memory import Forged, Memory


class Script:
    """A live source that plays steps: a list of frames is a block of them, a number the time of a quiet wire.

    What stands behind None comes only after `stop`.
    """

    def __init__(self, *steps: list[Forged] | int | None) -> None:
        self.steps = list(steps)
        self.clock_us = 0
        self.is_stopped = False
        self.read = 0
        self.memory = Memory(block_count=1, block_bytes=1 << 16)
        self.ring = Ring(self.memory.octets, block_bytes=1 << 16, block_count=1, link_type=1)

    @property
    def is_drained(self) -> bool:
        return self.is_stopped and not self.steps

    def read_block(self, block: FrameBlock, timeout_s: float) -> int:
        self.ring.read_block(block)
        if not self.steps or (self.steps[0] is None and not self.is_stopped):
            return 0
        step = self.steps.pop(0)
        if step is None:
            step = self.steps.pop(0)
        if isinstance(step, int):
            self.clock_us = step
            return 0
        self.memory.write(0, step)
        self.read += len(step)
        count = self.ring.read_block(block)
        self.clock_us = self.ring.last_us
        return count

    def stop(self) -> None:
        self.is_stopped = True

    def counts(self) -> Counts:
        return Counts(seen=self.read, read=self.read)

    def report(self) -> CaptureReport:
        return CaptureReport(interface="wire0", source="script", opener="none", link="ether")


class After:
    """Turns true when it has been asked so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


def syn(at_us: int, port: int = 80) -> Forged:
    return Forged(ethernet(ipv4(tcp(40_000, port, "S"), 6)), ts_us=at_us)


def play(script: Script, *, times: int, meter: FlowMeter) -> tuple[LiveCapture, Iterable[np.ndarray]]:
    live = LiveCapture(script, stop=After(times))
    return live, live.records(meter)


def test_a_flow_leaves_by_the_clock_of_a_quiet_wire():
    meter = FlowMeter()
    timeout_us = int(meter.settings.half_open_timeout_s * 1e6)
    quiet = START_US + timeout_us
    script = Script([syn(START_US)], quiet, quiet + 1)

    _, records = play(script, times=3, meter=meter)
    (left,) = records

    assert left["left_us"].tolist() == [quiet]
    assert meter.counters["live_flows"] == 0


def test_a_flow_leaves_by_the_clock_of_a_wire_busy_with_what_is_not_decoded():
    meter = FlowMeter()
    after_us = START_US + int(meter.settings.half_open_timeout_s * 1e6) + 1
    asks = Forged(ethernet(bytes(28), ether_type=0x0806), ts_us=after_us)

    _, records = play(Script([syn(START_US)], [asks]), times=2, meter=meter)
    (left,) = records

    assert left["left_us"].tolist() == [after_us - 1]
    assert meter.counters["undecoded"] == {"not_ip": 1}


def test_what_a_source_holds_when_it_is_stopped_is_metered():
    script = Script([syn(START_US)], None, [syn(START_US + 1, 81)], None, [syn(START_US + 2, 82)])
    meter = FlowMeter()

    live, records = play(script, times=1, meter=meter)
    list(records)

    assert meter.counters["packets"] == 3
    assert live.accounting(meter).check() == []


def test_the_time_ends_a_capture():
    now_s = iter([0.0, 0.1, 0.2, 10.0])
    script = Script([syn(START_US)], [syn(START_US + 1)], None, [syn(START_US + 2)])
    meter = FlowMeter()

    list(LiveCapture(script, stop=After(99), duration_s=1.0, now_s=lambda: next(now_s)).records(meter))

    assert (script.is_stopped, meter.counters["packets"]) == (True, 3)


def test_the_accounts_hold_in_the_middle_of_a_block():
    """A reader may look between two arrays of records of one block: what is not metered yet is in hand."""
    flood = [Forged(ethernet(ipv4(udp(1 + n, 53), 17)), ts_us=START_US + n) for n in range(300)]
    last = [Forged(ethernet(ipv4(udp(9, 9), 17)), ts_us=START_US + 10**9)]
    script, meter = Script(flood, flood, last), FlowMeter()
    live, records = play(script, times=3, meter=meter)

    checks = [live.accounting(meter).check() for _ in records]

    assert checks
    assert all(check == [] for check in checks)


def test_what_the_meter_saw_of_glued_packets_is_in_the_report():
    huge = Forged(ethernet(ipv4(tcp(1, 2, "A", 9000), 6)))
    script, meter = Script([huge]), FlowMeter()
    live, records = play(script, times=1, meter=meter)
    list(records)

    assert live.report(meter).super_frames == 1


def test_how_far_it_has_come_is_shown_now_and_then():
    shown = []
    now_s = iter([0.0, 0.0, 0.1, 0.3])
    script = Script([syn(START_US)], [syn(START_US + 1)], [syn(START_US + 2)])
    live = LiveCapture(
        script,
        stop=After(3),
        show=lambda packets, counts: shown.append((packets, counts.read)),
        now_s=lambda: next(now_s),
    )

    list(live.records(FlowMeter()))

    assert shown == [(1, 1), (3, 3)]
