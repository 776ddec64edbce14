"""Servers in no hurry: a machine that is busy with other things is not taken for a client that reads slowly."""

from __future__ import annotations

import pytest

from agent.monitoring import bounded_server


@pytest.fixture(autouse=True)
def in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client have two minutes, unless a test says otherwise."""
    monkeypatch.setattr(bounded_server, "MAX_CLIENT_S", 120.0)
