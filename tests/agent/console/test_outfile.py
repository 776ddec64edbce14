"""Output files that are whole or absent."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from agent.console import outfile
from agent.console.outfile import WholeFile, printing
from contracts.errors import OutputError


def test_a_file_appears_only_when_it_is_committed(tmp_path: Path):
    target = tmp_path / "flows.csv"

    with WholeFile(str(target)) as file:
        file.text.write("a,b\n")
        assert not target.exists()
        file.commit()

    assert target.read_text() == "a,b\n"
    assert os.listdir(tmp_path) == ["flows.csv"]


def test_without_a_commit_an_older_file_stays_and_nothing_is_left_beside_it(tmp_path: Path):
    target = tmp_path / "flows.csv"
    target.write_text("older")

    with pytest.raises(ZeroDivisionError), WholeFile(str(target)) as file:
        file.text.write("half a li" * (1 // 0))

    assert target.read_text() == "older"
    assert os.listdir(tmp_path) == ["flows.csv"]


def test_it_has_the_permissions_of_any_new_file(tmp_path: Path):
    (tmp_path / "plain").touch()

    with WholeFile(str(tmp_path / "flows.csv")) as file:
        file.commit()

    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "flows.csv")}
    assert len(modes) == 1, modes


def test_a_link_goes_on_pointing_at_what_is_written(tmp_path: Path):
    (tmp_path / "link").symlink_to("real")

    with WholeFile(str(tmp_path / "link")) as file:
        file.text.write("x")
        file.commit()

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "x"


def test_a_device_is_written_to_and_stays_a_device():
    with WholeFile("/dev/null") as file:
        file.text.write("x")
        file.commit()

    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str]):
    with WholeFile("-") as file:
        file.text.write("x\n")
        file.commit()

    assert capsys.readouterr().out == "x\n"


@pytest.mark.parametrize("name", ["absent/flows.csv", "."])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OutputError, match=f"^{name}: cannot be written"), WholeFile(name):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_one_line():
    def fill() -> None:
        with WholeFile("/dev/full") as file:
            file.text.write("x" * 100_000)
            file.commit()

    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"):
        fill()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_so_is_one_that_shows_only_when_what_was_not_committed_is_closed():
    with (
        pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"),
        WholeFile("/dev/full") as file,
    ):
        file.text.write("a,b\n")


def test_results_that_stdout_does_not_take_are_an_output_error(monkeypatch: pytest.MonkeyPatch):
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outfile, "discard_stdout", lambda: None)
    monkeypatch.setattr("sys.stdout", Full())

    with pytest.raises(OutputError, match="stdout: cannot be written: No space left"), printing() as stream:
        stream.write("result\n")


def test_a_draft_of_a_killed_run_blocks_no_other(tmp_path: Path):
    abandoned = WholeFile(str(tmp_path / "flows.csv")).__enter__()

    with WholeFile(str(tmp_path / "flows.csv")) as file:
        file.text.write("x")
        file.commit()

    assert (tmp_path / "flows.csv").read_text() == "x"
    abandoned.__exit__(None, None, None)


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path):
    name = "x" * 251 + ".csv"

    with WholeFile(str(tmp_path / name)) as file:
        file.commit()

    assert os.listdir(tmp_path) == [name]


def test_octets_appear_as_text_does(tmp_path: Path):
    path = tmp_path / "out"

    with WholeFile(str(path)) as file:
        file.octets.write(b"\x00\xff")
        assert not path.exists()
        file.commit()

    assert path.read_bytes() == b"\x00\xff"
