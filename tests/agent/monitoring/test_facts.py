"""Facts: histograms in plain ints, and a board whose readers never wait."""

from __future__ import annotations

import dataclasses

import pytest

from agent.monitoring.facts import (
    AgentFacts,
    FactsBoard,
    FlowFacts,
)
from agent.monitoring.histogram import DISK_EDGES_S, INFERENCE_EDGES_S, LATENCY_EDGES_S, Histogram, HistogramFacts


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("edges_s", [INFERENCE_EDGES_S, LATENCY_EDGES_S, DISK_EDGES_S])
def test_every_set_of_edges_rises_and_has_one_at_21_ms(edges_s: tuple[float, ...]):
    assert list(edges_s) == sorted(set(edges_s))
    assert 0.021 in edges_s


def test_an_observation_at_an_edge_counts_below_it_and_one_beyond_all_edges_counts_last():
    histogram = Histogram((0.01, 0.021))

    for seconds in (0.01, 0.0100001, 0.021, 0.0210001, 5.0):
        histogram.observe(seconds)

    assert histogram.facts().counts == (1, 2, 2)
    assert histogram.facts().total == 5
    assert histogram.facts().sum_s == pytest.approx(0.01 + 0.0100001 + 0.021 + 0.0210001 + 5.0)


def test_a_clock_that_was_set_back_counts_as_no_time_at_all():
    histogram = Histogram((0.01,))

    histogram.observe(-3600.0)

    assert (histogram.facts().counts, histogram.facts().sum_s) == ((1, 0), 0.0)


def test_facts_taken_do_not_change_with_the_next_observation():
    histogram = Histogram()

    before = histogram.facts()
    histogram.observe(0.001)

    assert before.total == 0


def test_a_quantile_is_the_edge_it_lies_under_and_none_beyond_the_last():
    facts = HistogramFacts((0.01, 0.1), (90, 9, 1), 3.0)

    assert facts.quantile_s(0.5) == 0.01
    assert facts.quantile_s(0.95) == 0.1
    assert facts.quantile_s(1.0) is None
    assert HistogramFacts((0.01,), (0, 0), 0.0).quantile_s(0.5) is None


def test_a_board_without_a_post_shows_empty_facts_and_no_rate():
    board = FactsBoard()

    assert board.latest == AgentFacts()
    assert board.age_s is None
    assert board.rate(lambda facts: facts.flows.packets) == 0.0


def test_a_rate_is_a_mean_over_the_last_ten_seconds_by_a_clock_nobody_sets():
    clock = Clock()
    board = FactsBoard(clock)

    for second in range(30):
        clock.now_s = 100.0 + second
        board.post(AgentFacts(at_us=-second, flows=FlowFacts(packets=0 if second < 20 else 500 * (second - 20))))

    assert board.rate(lambda facts: facts.flows.packets) == pytest.approx(450.0)
    assert board.latest.flows.packets == 4500


def test_a_count_that_fell_has_no_rate():
    clock = Clock()
    board = FactsBoard(clock)

    for packets in (1000, 10):
        board.post(AgentFacts(flows=FlowFacts(packets=packets)))
        clock.now_s += 1

    assert board.rate(lambda facts: facts.flows.packets) == 0.0


def test_facts_cannot_be_changed_once_posted():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AgentFacts().at_us = 1  # type: ignore[misc]
