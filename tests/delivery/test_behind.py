"""A sink behind a thread of its own: whoever gives it alerts never waits for its disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.delivery.behind import Behind
from agent.delivery.eve_sink import EveSink
from agent.monitoring.facts import SinkFacts
from contracts.alert import Alert
from tests.alerts import make_alert

GUARD_S = 120.0


class Frozen:
    """A sink whose disk hangs until it is thawed."""

    name = "eve"

    def __init__(self) -> None:
        self.thawed, self.has_begun = threading.Event(), threading.Event()
        self.written: list[str] = []
        self.calls: list[str] = []

    def write(self, alert: Alert) -> None:
        self.has_begun.set()
        self.thawed.wait(GUARD_S)
        self.written.append(alert.alert_id)

    def tick(self) -> None:
        self.calls.append("tick")

    def reopen(self) -> None:
        self.calls.append("reopen")

    def facts(self) -> SinkFacts:
        return SinkFacts(name=self.name, written=len(self.written))

    def close(self) -> None:
        self.calls.append("close")


def test_what_is_written_is_what_a_sink_alone_writes(tmp_path: Path):
    alone, behind = EveSink(tmp_path / "alone.json"), Behind(EveSink(tmp_path / "behind.json"))
    for sink in (alone, behind):
        for number in range(20):
            sink.write(make_alert(number))
        sink.close()

    assert (tmp_path / "behind.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    assert behind.facts().written == 20


def test_a_disk_that_hangs_holds_nobody_and_the_oldest_leave_and_are_counted():
    inner = Frozen()
    sink = Behind(inner, most_waiting=3)
    sink.write(make_alert(0))
    inner.has_begun.wait(GUARD_S)
    for number in range(1, 6):
        sink.write(make_alert(number))

    hanging = sink.facts()
    inner.thawed.set()
    sink.close()

    assert (hanging.written, hanging.waiting, hanging.failed) == (0, 4, 2)
    assert inner.written == [make_alert(number).alert_id for number in (0, 3, 4, 5)]
    assert inner.calls[-1] == "close"


def test_at_the_end_a_disk_that_hangs_is_left_alone_and_what_waits_is_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agent.delivery.behind.CLOSE_S", 0.01)
    inner = Frozen()
    sink = Behind(inner)
    for number in range(3):
        sink.write(make_alert(number))
    inner.has_begun.wait(GUARD_S)

    sink.close()
    sink.close()
    sink.write(make_alert(3))

    assert (sink.facts().waiting, sink.facts().failed) == (0, 4)
    inner.thawed.set()


def test_a_rotation_is_passed_on_in_the_thread_of_the_sink():
    inner = Frozen()
    inner.thawed.set()
    sink = Behind(inner)

    sink.reopen()
    sink.tick()
    sink.close()

    assert set(inner.calls) >= {"reopen", "close"}


def test_a_sink_nobody_used_is_closed_too():
    inner = Frozen()

    Behind(inner).close()

    assert inner.calls == ["close"]
