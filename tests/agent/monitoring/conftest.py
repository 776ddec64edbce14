"""Servers on ports of their own, and in no hurry: a busy machine is not taken for a client that reads slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from agent.monitoring import bounded_server
from agent.monitoring.facts import AgentFacts, FactsBoard
from agent.monitoring.metrics import MetricsServer, MetricsSettings

Serve = Callable[..., MetricsServer]


@pytest.fixture(autouse=True)
def in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client have two minutes, unless a test says otherwise."""
    monkeypatch.setattr(bounded_server, "MAX_CLIENT_S", 120.0)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a function that serves facts on a port of its own; all end with the test."""
    made: list[MetricsServer] = []

    def serve_(facts: AgentFacts | None = None, **settings: object) -> MetricsServer:
        board = FactsBoard(lambda: 7.0)
        if facts is not None:
            board.post(facts)
        made.append(MetricsServer(board, MetricsSettings(**{"listen": "127.0.0.1:1", **settings})))
        made[-1].listener._place = ("127.0.0.1", 0)  # a setting cannot ask for any port
        made[-1].start()
        return made[-1]

    yield serve_
    for each in made:
        each.stop()
