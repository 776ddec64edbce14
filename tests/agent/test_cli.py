"""The command line as a whole: what it offers, and what an error becomes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from types import SimpleNamespace

import pytest

from agent import cli
from contracts.errors import BundleUnreadable
from flowfeatures import CaptureNotFound


def run_with(monkeypatch: pytest.MonkeyPatch, outcome: object) -> int:
    """Run a command that returns or raises `outcome`."""

    def run(_: argparse.Namespace) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(cli, "_module", lambda command: module)
    return cli.main(["demo"])


@pytest.mark.parametrize("code", [0, 1, 65])
def test_the_code_of_the_command_is_the_code_of_the_program(monkeypatch: pytest.MonkeyPatch, code: int):
    assert run_with(monkeypatch, code) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(BundleUnreadable("bundle: gone"), 78), (CaptureNotFound("x.pcap: gone"), 66)],
)
def test_an_error_raised_on_purpose_is_one_line_and_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
):
    assert run_with(monkeypatch, error) == code
    assert capsys.readouterr().err == f"penstock: {error}\n"


def test_a_mistake_of_ours_is_logged_with_its_traceback_and_70(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    assert run_with(monkeypatch, ZeroDivisionError("oops")) == 70
    assert "internal error" in caplog.text
    assert "ZeroDivisionError: oops" in caplog.text


def test_ctrl_c_is_130_and_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run_with(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_a_command_line_that_cannot_be_read_ends_with_64(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli.main(["replay"])

    assert ended.value.code == 64
    assert "CAPTURE" in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_help_of_each_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])

    assert ended.value.code == 0
    assert f"penstock {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_the_help_tells_every_exit_code(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["--help"])

    told = capsys.readouterr().out.partition("exit codes:")[2]
    assert [code for code in (0, 1, 64, 65, 66, 69, 70, 73, 74, 78, 130, 141) if f"\n  {code:3}  " not in told] == []


def test_ctrl_c_while_a_library_is_imported_is_130_and_not_an_error_of_the_library():
    interrupted = (
        "import os, signal, sys; from agent import cli\n"
        "def half_imported(name):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt: raise ImportError('a library half imported')\n"
        "cli.importlib.import_module = half_imported\n"
        "sys.exit(cli.main(['features']))"
    )

    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "")


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("importlib.metadata").version("penstock")

    with pytest.raises(SystemExit):
        cli.main(["--version"])

    assert capsys.readouterr().out.startswith("penstock ")


@pytest.mark.parametrize("arguments", [["--help"], ["features", "--help"]])
def test_help_does_not_wait_for_a_network_runtime(arguments: list[str]):
    watched = "import sys; from agent import cli\ntry: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
    watched += (
        "heavy = {'onnxruntime', 'paho', 'scapy', 'pydantic'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", watched, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
