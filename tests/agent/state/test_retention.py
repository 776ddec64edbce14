"""What grows old is deleted, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.state.retention import DAY_S, Swept, sweep

NOW_S = 1_800_000_000.0


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, float], Path]:
    """Give a function that makes a file of an age in days, in a folder for state and eve.json alike."""

    def put_(name: str, days: float) -> Path:
        path = tmp_path / name
        path.write_text(name)
        os.utime(path, (NOW_S - days * DAY_S,) * 2)
        return path

    return put_


def swept(folder: Path, *, days: float = 30.0, aside_files: int = 4, now_s: float = NOW_S) -> tuple[Swept, set[str]]:
    result = sweep(folder, eve=folder / "eve.json", days=days, aside_files=aside_files, now_s=now_s)
    return result, {path.name for path in folder.iterdir()}


def test_rotated_files_leave_after_their_days_and_eve_json_itself_never(put, tmp_path: Path):
    put("eve.json", 400)
    put("eve.json.1", 29.9)
    put("eve.json.2", 30.1)
    put("eve.json-20260101.gz", 100)
    put("eve.jsonl", 100)
    put("other.log.1", 100)

    result, left = swept(tmp_path)

    assert left == {"eve.json", "eve.json.1", "eve.jsonl", "other.log.1"}
    assert result == Swept(deleted=2)


def test_files_set_aside_leave_by_age_and_by_number_with_their_side_files(put, tmp_path: Path):
    for number in range(1, 7):
        put(f"outbox.db.aside-{number}", 7 - number)
        put(f"outbox.db.aside-{number}-wal", 7 - number)
    put("rules.json.aside", 31)
    put("calibration.json.aside", 1)
    put("outbox.db", 400)

    result, left = swept(tmp_path, aside_files=2)

    kept = {f"outbox.db.aside-{number}{suffix}" for number in (5, 6) for suffix in ("", "-wal")}
    assert left == kept | {"calibration.json.aside", "outbox.db"}
    assert result.deleted == 9


def test_drafts_of_ours_leave_after_an_hour_and_those_of_others_stay(put, tmp_path: Path):
    put(".rules.json.0123456789abcdef.draft", 0.03)
    put(".calibration.json.0123456789abcdef.draft", 0.05)
    put("paper.draft", 2)
    put(".rules.json.1234.draft", 2)

    assert swept(tmp_path)[1] == {".rules.json.0123456789abcdef.draft", "paper.draft", ".rules.json.1234.draft"}


def test_a_file_beside_eve_that_nobody_rotated_stays(put, tmp_path: Path):
    for name in ("eve.json.1", "eve.json.2.gz", "eve.json-20260101.gz", "eve.json.my-notes", "eve.json-old"):
        put(name, 400)

    left = swept(tmp_path)[1]

    assert left >= {"eve.json.my-notes", "eve.json-old"}
    assert not left & {"eve.json.1", "eve.json.2.gz", "eve.json-20260101.gz"}


def test_nothing_is_deleted_while_the_clock_is_not_set(put, tmp_path: Path):
    put("eve.json.1", 400)

    assert swept(tmp_path, now_s=1_000_000.0) == (Swept(), {"eve.json.1"})


def test_links_and_folders_are_left_alone(put, tmp_path: Path):
    target = tmp_path / "precious"
    target.write_text("x")
    (tmp_path / "eve.json.7").symlink_to(target)
    (tmp_path / "eve.json.8").mkdir()
    os.utime(target, (0, 0))

    assert swept(tmp_path)[0] == Swept()
    assert target.exists()


def test_folders_that_are_not_there_are_nothing_to_sweep(tmp_path: Path):
    assert sweep(tmp_path / "none", eve=tmp_path / "nor" / "eve.json", days=1, aside_files=1, now_s=NOW_S) == Swept()


def test_a_file_that_cannot_be_deleted_is_counted(put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put("eve.json.1", 400)

    def refuse(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)

    assert swept(tmp_path)[0] == Swept(failed=1)
