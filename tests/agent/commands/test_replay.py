"""The objects of a replay put together: what the outbox of one may hold."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.commands import replay as module
from agent.commands.replay import ReplaySettings, replay
from agent.console.summary import Outcome
from agent.delivery import Bounds, MqttSettings
from tests.bundles import write_refusal_bundle
from tests.e2e.scan import write_scan


@pytest.fixture
def nobody() -> Iterator[MqttSettings]:
    """Return how to reach a port on which nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield MqttSettings.from_url(f"mqtt://127.0.0.1:{bound.getsockname()[1]}", gateway="cellar")


def undelivered(tmp_path: Path, nobody: MqttSettings, monkeypatch: pytest.MonkeyPatch, **settings: Path) -> Outcome:
    """Replay a scan of which two alerts are made, and nobody takes them."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return replay(
        ReplaySettings(
            captures=(write_scan(tmp_path / "scan.pcap"),),
            bundle=write_refusal_bundle(tmp_path / "bundle"),
            mqtt=nobody,
            mqtt_wait_s=0.0,
            **settings,
        )
    )


def test_a_temporary_outbox_holds_far_more_than_a_week_of_a_service():
    assert module.TEMPORARY.rows > 20 * Bounds().rows
    assert module.TEMPORARY.size_bytes > 20 * Bounds().size_bytes


def test_what_even_that_cannot_hold_is_said(tmp_path: Path, nobody: MqttSettings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "TEMPORARY", Bounds(rows=1))

    outcome = undelivered(tmp_path, nobody, monkeypatch)

    assert [error.exit_code for error in outcome.errors] == [69, 69]
    assert "1 alerts dropped undelivered" in str(outcome.errors[1])


def test_an_outbox_of_ones_own_has_the_bounds_of_any(
    tmp_path: Path, nobody: MqttSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "TEMPORARY", Bounds(rows=1))

    outcome = undelivered(tmp_path, nobody, monkeypatch, outbox=tmp_path / "o.db")

    assert (outcome.delivery.left, outcome.delivery.dropped) == (2, 0)
