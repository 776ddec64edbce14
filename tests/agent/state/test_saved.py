"""State on disk: whole or not at all, and no reason not to watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.state.saved import StateFile


def test_what_was_saved_is_read(tmp_path: Path):
    file = StateFile(tmp_path / "folder" / "state.json")

    saved = file.write({"windows": 3})

    assert saved
    assert StateFile(tmp_path / "folder" / "state.json").read() == {"windows": 3}


def test_what_was_never_saved_is_nothing(tmp_path: Path):
    assert StateFile(tmp_path / "state.json").read() is None


def test_without_a_file_nothing_is_kept_and_nothing_fails():
    file = StateFile(None)

    assert file.write({"windows": 3})
    assert file.read() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}', b"\xff" * 9, b"[" * 100_000], ids=repr)
def test_what_is_no_state_is_set_aside_and_told(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "state.json"
    path.write_bytes(content)

    assert StateFile(path).read() is None
    assert (tmp_path / "state.json.aside").read_bytes() == content
    assert "set aside as state.json.aside" in capsys.readouterr().err


def test_a_disk_that_takes_nothing_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "folder").write_text("no folder")
    file = StateFile(tmp_path / "folder" / "state.json")

    saved = [file.write({}), file.write({})]

    assert saved == [False, False]
    assert capsys.readouterr().err.count("cannot be written") == 1
