"""More home devices than can be watched: told when it begins and when it is over."""

from __future__ import annotations

from agent.live.crowd import TOO_MANY, Crowd


class Gateway:
    def __init__(self) -> None:
        self.now_s, self.left = 0.0, 0
        self.crowd = Crowd(now_s=lambda: self.now_s, now_us=lambda: 42)

    def second(self, left: int) -> bool:
        self.now_s += 1.0
        self.left += left
        return self.crowd.check(self.left)


def test_a_few_that_leave_are_no_crowd():
    gateway = Gateway()

    assert not any(gateway.second(TOO_MANY // 61) for _ in range(300))
    assert gateway.crowd.since_us is None


def test_a_crowd_is_told_once_when_it_comes_and_once_when_it_is_over():
    gateway = Gateway()
    gateway.second(0)

    came = [gateway.second(TOO_MANY // 2) for _ in range(10)]
    was = gateway.crowd.since_us, gateway.crowd.text
    over = [gateway.second(0) for _ in range(100)]

    assert came == [False, False, True] + [False] * 7
    assert was[0] == 42
    assert "5,000 devices pushed others out" in was[1]
    assert over.count(True) == 1
    assert gateway.crowd.since_us is None


def test_counting_anew_is_no_crowd():
    gateway = Gateway()
    gateway.second(50_000)
    gateway.left = 0

    assert not gateway.second(10)
    assert gateway.crowd.since_us is None
