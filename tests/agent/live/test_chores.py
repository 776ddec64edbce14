"""What is done now and then: each thing at its own pace, and nothing twice at once."""

from __future__ import annotations

import threading

from agent.live.chores import Aside, Chores


def test_each_thing_is_done_at_its_own_pace():
    now_s, done = 0.0, []
    chores = Chores(now_s=lambda: now_s)
    chores.every(1.0, lambda: done.append(("often", now_s)))
    chores.every(2.5, lambda: done.append(("seldom", now_s)))

    for tenth in range(31):
        now_s = tenth / 10
        chores.turn()

    assert [at for what, at in done if what == "often"] == [0.0, 1.0, 2.0, 3.0]
    assert [at for what, at in done if what == "seldom"] == [0.0, 2.5]


def test_after_a_long_stall_each_thing_is_done_once():
    now_s, done = 0.0, []
    chores = Chores(now_s=lambda: now_s)
    chores.every(1.0, lambda: done.append(now_s))
    chores.turn()
    now_s = 60.0

    chores.turn()
    chores.turn()

    assert done == [0.0, 60.0]


def test_while_something_is_at_it_a_further_call_is_left_out():
    may_end, runs = threading.Event(), []
    aside = Aside("test")

    def what() -> None:
        runs.append(1)
        may_end.wait(120)

    began = [aside.do(what), aside.do(what)]
    may_end.set()
    aside.wait(120)
    began.append(aside.do(what))
    aside.wait(120)

    assert began == [True, False, True]
    assert len(runs) == 2
