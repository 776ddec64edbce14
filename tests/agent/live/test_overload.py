"""Windows that wait: in order while scoring keeps up, each device's newest where it does not, none uncounted."""

from __future__ import annotations

import numpy as np
import pytest

from agent.live.overload import BEHIND_S, WaitingWindows, _joined
from flowfeatures import WindowBatch
from tests.detection.windows import OUTSIDE, Row, Window, batch_of


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def windows_of(*devices: int, at_s: float = 0.0, flow_id: int = 1) -> WindowBatch:
    return batch_of(
        *(Window(f"192.168.1.{each}", [Row(OUTSIDE, f"192.168.1.{each}", flow_id=flow_id)], at_s) for each in devices)
    )


def devices_of(batch: WindowBatch) -> list[int]:
    return batch.device[:, 15].tolist()


def adds_up(waiting: WaitingWindows) -> bool:
    return waiting.due == waiting.given + waiting.shed + len(waiting)


def test_a_batch_goes_when_it_is_full(clock: Clock):
    waiting = WaitingWindows(batch_windows=3, now_s=clock)
    waiting.add(windows_of(1, 2))

    assert waiting.take() is None

    waiting.add(windows_of(3, 4))

    assert devices_of(waiting.take()) == [1, 2, 3]
    assert waiting.take() is None
    assert adds_up(waiting)


def test_a_batch_goes_when_its_first_window_has_waited_long_enough(clock: Clock):
    waiting = WaitingWindows(batch_windows=256, deadline_s=0.05, now_s=clock)
    waiting.add(windows_of(1))
    clock.now_s = 0.049
    early = waiting.take()
    clock.now_s = 0.05

    late = waiting.take()

    assert early is None
    assert devices_of(late) == [1]


def test_what_is_left_of_a_batch_keeps_its_deadline(clock: Clock):
    waiting = WaitingWindows(batch_windows=2, deadline_s=0.05, now_s=clock)
    waiting.add(windows_of(1, 2, 3))
    waiting.take()
    clock.now_s = 0.05

    assert waiting.wait_s == 0.0
    assert devices_of(waiting.take()) == [3]


def test_while_scoring_keeps_up_nothing_is_shed(clock: Clock):
    waiting = WaitingWindows(batch_windows=4, max_waiting=4, now_s=clock)

    for at_s in range(100):
        waiting.add(windows_of(1, 1, 2, 2, at_s=at_s))
        assert len(waiting.take()) == 4

    assert (waiting.due, waiting.given, waiting.shed) == (400, 400, 0)


def test_behind_the_newest_window_of_each_device_wins_and_the_rest_are_counted(clock: Clock):
    waiting = WaitingWindows(batch_windows=8, max_waiting=4, now_s=clock)
    waiting.add(windows_of(1, 2, at_s=0))
    waiting.add(windows_of(1, 2, at_s=1))
    waiting.add(windows_of(1, at_s=2))

    batch = waiting.take(at_once=True)

    assert devices_of(batch) == [2, 1]
    assert (np.diff(batch.due_us) > 0).all()
    assert (waiting.shed, waiting.given) == (3, 2)
    assert adds_up(waiting)


def test_a_window_that_waited_too_long_shows_that_scoring_is_behind(clock: Clock):
    waiting = WaitingWindows(batch_windows=8, max_waiting=1000, now_s=clock)
    waiting.add(windows_of(1, at_s=0))
    clock.now_s = BEHIND_S + 0.001
    waiting.add(windows_of(1, at_s=1))

    assert (len(waiting), waiting.shed) == (1, 1)


def test_a_device_that_is_always_busy_has_its_turn(clock: Clock):
    waiting = WaitingWindows(batch_windows=1, max_waiting=3, now_s=clock)
    scored = []
    for at_s in range(12):
        waiting.add(windows_of(1, 2, 3, at_s=at_s))
        scored += devices_of(waiting.take())

    assert set(scored[:6]) == {1, 2, 3}
    assert adds_up(waiting)


def test_what_was_new_in_a_shed_window_is_new_in_the_one_that_is_scored(clock: Clock):
    """Evidence is what is new: an attack's flow must not become old because nobody looked."""
    waiting = WaitingWindows(max_waiting=1, now_s=clock)
    first, second = Row(OUTSIDE, "192.168.1.1", flow_id=7), Row(OUTSIDE, "192.168.1.1", flow_id=8)
    old = Row(OUTSIDE, "192.168.1.1", flow_id=9, is_new=False)
    told_before = Row(OUTSIDE, "192.168.1.1", flow_id=7, is_new=False)
    waiting.add(batch_of(Window("192.168.1.1", [first, old])))
    waiting.add(batch_of(Window("192.168.1.1", [told_before, old, second], at_s=1)))

    batch = waiting.take(at_once=True)

    assert batch.is_new[0, :4].tolist() == [1, 0, 1, 0]


def test_what_is_new_to_one_device_is_not_new_to_another(clock: Clock):
    waiting = WaitingWindows(max_waiting=2, now_s=clock)
    shared = Row("192.168.1.1", "192.168.1.2", flow_id=7)
    seen = Row("192.168.1.1", "192.168.1.2", flow_id=7, is_new=False)
    waiting.add(batch_of(Window("192.168.1.1", [shared]), Window("192.168.1.1", [seen]), Window("192.168.1.2", [seen])))

    batch = waiting.take(at_once=True)

    assert dict(zip(devices_of(batch), batch.is_new[:, 0].tolist(), strict=True)) == {1: 1, 2: 0}


def test_the_oldest_window_that_waits_is_told_by_packet_time(clock: Clock):
    waiting = WaitingWindows(now_s=clock)
    waiting.add(windows_of(1, at_s=3))
    waiting.add(windows_of(2, at_s=2))

    assert waiting.oldest_due_us == windows_of(1, at_s=2).due_us[0]


def test_no_windows_are_no_batch(clock: Clock):
    waiting = WaitingWindows(now_s=clock)
    waiting.add(windows_of())

    assert (waiting.take(at_once=True), waiting.wait_s, waiting.oldest_due_us) == (None, None, None)


def test_devices_that_somebody_makes_up_leave_first_and_memory_has_a_bound(clock: Clock):
    waiting = WaitingWindows(batch_windows=8, max_waiting=40, now_s=clock)
    real = Window("192.168.2.1", [Row(OUTSIDE, "192.168.2.1", flow_id=each) for each in range(4)])
    most = 0
    for number in range(30):
        waiting.add(batch_of(real) if number == 0 else windows_of(*range(1, 9), at_s=number))
        made_up = [Window(f"10.0.{number}.{each}", [Row(OUTSIDE, f"10.0.{number}.{each}")]) for each in range(8)]
        waiting.add(batch_of(*made_up))
        most = max(most, len(waiting))

    batches = []
    while (batch := waiting.take(at_once=True)) is not None:
        batches.append(batch)

    assert most <= 40
    assert adds_up(waiting)
    assert bytes(batch_of(real).device[0]) in {bytes(each) for batch in batches for each in batch.device}


def test_what_waits_is_the_same_however_it_came(clock: Clock):
    """Rows are picked out of several parts: each must be the one it was."""
    one_by_one, at_once = (WaitingWindows(max_waiting=7, now_s=clock) for _ in range(2))
    devices = [3, 1, 2, 1, 3, 4, 1, 2]
    windows = [windows_of(each, at_s=number, flow_id=number) for number, each in enumerate(devices)]
    for each in windows:
        one_by_one.add(each)
    at_once.add(_joined(windows))
    first, second = one_by_one.take(at_once=True), at_once.take(at_once=True)

    assert [devices_of(each) for each in (first, second)] == [devices_of(first)] * 2
    assert first.flows["flow_id"].tolist() == second.flows["flow_id"].tolist()
    assert sorted(first.flows["flow_id"][:, 0].tolist()) == [4, 5, 6, 7]
