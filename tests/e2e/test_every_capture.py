"""Captures made to break readers, through the whole path with a bundle to which everything is an attack."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.commands.replay import ReplaySettings, replay
from contracts.eve import MAX_LINE_BYTES, EveLine
from tests.bundles import write_nervous_bundle

ANY_ADDRESS = ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize("folder", ["malformed", "benign_protocols", "scans"])
def test_every_capture_is_read_or_refused_and_every_alert_is_valid(folder: str, shared, tmp_path: Path):
    captures = sorted(
        path
        for path in shared(f"data/{folder}").rglob("*")
        if path.is_file() and path.suffix not in {".txt", ".csv", ".json"}
    )
    bundle, eve = write_nervous_bundle(tmp_path / "bundle"), tmp_path / "eve.json"
    lines = 0

    for capture in captures:
        outcome = replay(ReplaySettings(captures=(capture,), bundle=bundle, home_nets=ANY_ADDRESS, eve=str(eve)))
        assert outcome.exit_code in {0, 65}, capture
        for line in eve.read_bytes().splitlines():
            EveLine.model_validate_json(line)
            assert len(line) <= MAX_LINE_BYTES
            lines += 1

    assert lines > len(captures), f"{lines} alerts of {len(captures)} captures"
