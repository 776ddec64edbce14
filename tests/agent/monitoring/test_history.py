"""The last minutes by the second: rates between posts, bounded, and never below nothing."""

from __future__ import annotations

from agent.monitoring.facts import AgentFacts, FactsBoard, FlowFacts, InterfaceFacts, WindowFacts
from agent.monitoring.history import MOST


def facts(read: int, *, dropped: int = 0, scored: int = 0, live: int = 0) -> AgentFacts:
    return AgentFacts(
        interfaces=(InterfaceFacts(name="a", read=read, dropped=dropped), InterfaceFacts(name="b", read=1)),
        windows=WindowFacts(scored=scored),
        flows=FlowFacts(live=live),
    )


def posted(*posts: tuple[float, AgentFacts]) -> FactsBoard:
    now = iter([now_s for now_s, _ in posts])
    board = FactsBoard(lambda: next(now))
    for _, each in posts:
        board.post(each)
    return board


def test_a_series_has_a_rate_for_each_post_but_the_first():
    board = posted((0.0, facts(0)), (1.0, facts(100, scored=3, live=7)), (3.0, facts(150, dropped=8, scored=3, live=9)))

    assert board.history.series() == {
        "packets_per_s": [100.0, 25.0],
        "drops_per_s": [0.0, 4.0],
        "windows_per_s": [3.0, 0.0],
        "flows": [7, 9],
    }


def test_before_two_posts_there_is_nothing():
    assert posted((0.0, facts(5))).history.series()["packets_per_s"] == []


def test_a_count_that_fell_and_a_clock_that_stood_make_no_nonsense():
    board = posted((1.0, facts(100)), (1.0, facts(101)), (2.0, facts(3)))

    assert board.history.series()["packets_per_s"] == [1000.0, 0.0]


def test_only_the_last_minutes_are_kept():
    board = posted(*((float(n), facts(n)) for n in range(MOST + 50)))

    assert {len(values) for values in board.history.series().values()} == {MOST}
