"""A bounded queue before a thread of its own: who hands over never waits, and what is let go is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from agent.backlog import Backlog

GUARD_S = 120.0


class Slow:
    """Carries numbers out of a backlog, each once it is let through."""

    def __init__(self, *, most: int = 3, end_s: float = GUARD_S) -> None:
        self.has_one, self.may_go_on = threading.Event(), threading.Event()
        self.done: list[int] = []
        self.has_ended = threading.Event()
        self.backlog: Backlog[int] = Backlog("test", self._carry, most=most, end_s=end_s)

    def hold(self, take: Callable[[int], object]) -> None:
        """Let the thread have number 0 in hand, and stay at it."""
        self.backlog.begin()
        take(0)
        assert self.has_one.wait(GUARD_S)

    def _carry(self) -> None:
        for number in self.backlog:
            self.has_one.set()
            self.may_go_on.wait(GUARD_S)
            self.done.append(number)
        self.has_ended.set()


def test_what_is_handed_over_is_done_in_order_and_all_of_it_before_the_end():
    slow = Slow(most=100)
    slow.may_go_on.set()
    slow.backlog.begin()

    offered = [slow.backlog.offer(number) for number in range(100)]
    slow.backlog.close()

    assert (all(offered), slow.done, slow.has_ended.is_set()) == (True, list(range(100)), True)
    assert (len(slow.backlog), slow.backlog.lost) == (0, 0)


def test_a_full_backlog_refuses_what_is_offered_the_item_in_hand_not_counted():
    slow = Slow(most=3)
    slow.hold(slow.backlog.offer)

    offered = [slow.backlog.offer(number) for number in (1, 2, 3, 4)]

    assert offered == [True, True, True, False]
    assert (slow.backlog.is_full, len(slow.backlog)) == (True, 4)
    slow.may_go_on.set()
    slow.backlog.close()
    assert (slow.done, slow.backlog.lost) == ([0, 1, 2, 3], 0)


def test_of_a_full_backlog_the_oldest_that_waits_leaves_for_what_is_pushed_and_is_counted():
    slow = Slow(most=3)
    slow.hold(slow.backlog.push)

    for number in range(1, 7):
        slow.backlog.push(number)

    assert (len(slow.backlog), slow.backlog.lost) == (4, 3)
    slow.may_go_on.set()
    slow.backlog.close()
    assert slow.done == [0, 4, 5, 6]


def test_what_is_offered_waits_for_the_thread_to_begin_and_what_is_pushed_begins_it():
    slow = Slow()
    slow.may_go_on.set()

    slow.backlog.offer(0)
    idle = slow.backlog._thread.ident, len(slow.backlog)
    slow.backlog.push(1)
    slow.backlog.close()

    assert idle == (None, 1)  # a thread that began has a number
    assert slow.done == [0, 1]


def test_a_thread_that_hangs_is_left_alone_at_the_end_and_what_it_has_not_done_is_lost():
    slow = Slow(end_s=0.01)
    slow.hold(slow.backlog.push)
    slow.backlog.push(1)

    told = slow.backlog.close(), slow.backlog.close()
    slow.backlog.push(2)

    assert told == (True, True)
    assert (slow.backlog.offer(3), len(slow.backlog), slow.backlog.lost) == (False, 0, 3)
    slow.may_go_on.set()
    assert slow.has_ended.wait(GUARD_S)
    assert slow.done == [0]


def test_what_was_let_go_at_the_end_is_not_done_as_well():
    slow = Slow(end_s=0.01)
    slow.hold(slow.backlog.push)

    in_hand = len(slow.backlog)
    slow.backlog.close()

    assert (in_hand, slow.backlog.done()) == (1, 0)
    slow.may_go_on.set()


def test_one_that_never_began_has_no_thread_to_end_and_begins_none_afterwards():
    slow = Slow()

    had_thread = slow.backlog.close()
    slow.backlog.begin()

    assert (had_thread, slow.backlog._thread.ident) == (False, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_the_thread_is_told_and_ends_it_and_what_comes_then_fills_the_backlog(
    monkeypatch: pytest.MonkeyPatch,
):
    told: list[str] = []
    has_failed = threading.Event()

    def excepthook(args: threading.ExceptHookArgs) -> None:
        told.append(f"{args.thread.name}: {args.exc_value}")
        has_failed.set()

    def carry() -> None:
        for _ in backlog:
            raise ValueError("broken")

    monkeypatch.setattr(threading, "excepthook", excepthook)
    backlog: Backlog[int] = Backlog("test", carry, most=2, end_s=GUARD_S)

    backlog.push(0)
    assert has_failed.wait(GUARD_S)
    offered = [backlog.offer(number) for number in (1, 2, 3)]
    backlog.close()

    assert (told, offered) == (["test: broken"], [True, True, False])
    assert backlog.lost == 3


def test_what_waits_for_a_thread_that_never_began_is_lost_at_the_end_and_counted():
    backlog: Backlog[int] = Backlog("test", lambda: None, most=3, end_s=GUARD_S)
    offered = [backlog.offer(number) for number in range(4)]

    had_thread = [backlog.close(), backlog.close()]

    assert (offered, had_thread) == ([True, True, True, False], [False, False])
    assert (backlog.lost, len(backlog)) == (3, 0)
