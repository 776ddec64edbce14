"""State files: whole or not at all, and nothing hostile gets in."""

from __future__ import annotations

import json
import os

import pytest

from agent.state.state_file import load_state, save_state
from contracts import whole_file
from contracts.errors import OutputError
from detection.state import StateRefused


def test_what_was_saved_comes_back_and_is_the_owners_alone(tmp_path):
    path = tmp_path / "new" / "state.json"

    save_state(path, {"a": [1, 2.5, "x"]})

    assert load_state(path) == {"a": [1, 2.5, "x"]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["state.json"]


def test_no_file_is_no_state(tmp_path):
    assert load_state(tmp_path / "none.json") is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null", b'{"a": 1'])
def test_what_is_no_json_object_is_refused(tmp_path, raw):
    path = tmp_path / "state.json"
    path.write_bytes(raw)

    with pytest.raises(StateRefused, match=r"state\.json"):
        load_state(path)


def test_a_file_too_large_is_not_read_into_memory(tmp_path):
    path = tmp_path / "state.json"
    path.touch()
    os.truncate(path, 1 << 40)

    with pytest.raises(StateRefused, match="larger than"):
        load_state(path)


def test_a_pipe_is_no_state_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "state.json")

    with pytest.raises(StateRefused, match="not a regular file"):
        load_state(tmp_path / "state.json")


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    save_state(path, {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_state(path, {"a": 2})

    assert json.loads(path.read_bytes()) == {"a": 1}
    assert os.listdir(tmp_path) == ["state.json"]
