"""Outputs kept apart from inputs, by what the files are and not by what they are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.console.apart import Outputs
from contracts.errors import UsageError


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "c.pcap"
    path.write_text("packets")
    return path


def outputs(*named: Path | str) -> Outputs:
    made = Outputs()
    for number, name in enumerate(named):
        made.add(f"--{number}", name)
    return made


def test_a_file_that_is_read_is_no_output(capture: Path):
    with pytest.raises(UsageError, match=r"--0: would overwrite .*c\.pcap, which this run reads"):
        outputs(capture).keep_from([capture])


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_nor_is_it_under_another_name(capture: Path, tmp_path: Path, link: str):
    getattr(tmp_path / "other", link)(capture)

    with pytest.raises(UsageError):
        outputs(tmp_path / "other").keep_from([capture])


def test_nor_is_it_as_standard_input(capture: Path):
    script = f"""if True:
        from pathlib import Path
        from agent.console.apart import Outputs
        outputs = Outputs()
        outputs.add("--output", {str(capture)!r})
        outputs.keep_from([Path("-")])
    """

    with capture.open() as stdin:
        done = subprocess.run([sys.executable, "-c", script], stdin=stdin, capture_output=True, text=True, check=False)

    assert "--output: would overwrite the file on standard input, which this run reads" in done.stderr


def test_two_outputs_are_two_files_also_before_they_exist(tmp_path: Path):
    with pytest.raises(UsageError, match=r"--1 .*new: would overwrite what --0 writes"):
        outputs(tmp_path / "new", tmp_path / "." / "new")


def test_other_files_are_left_to_be_written(capture: Path, tmp_path: Path):
    outputs(tmp_path / "new", tmp_path / "newer", "-").keep_from([capture, tmp_path / "missing.pcap"])


def test_a_device_is_not_overwritten():
    outputs("/dev/null", "/dev/null").keep_from([Path("/dev/null")])


def test_a_name_that_cannot_be_one_is_left_to_who_opens_it():
    outputs("a\0b").keep_from([Path("a\0b")])
