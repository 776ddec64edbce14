"""What every program of the project makes of what goes wrong: real processes, their output and their exit codes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {"penstock": "agent", "penstock-train": "training", "penstock-export": "exporter", "penstock-lab": "lab"}


def work(body, *, argv=(), **streams):
    """Run a program whose work is these lines of Python, as every program of the project runs its own."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    source = f"import sys, logging\nfrom contracts.program import run_program\ndef work():\n{lines}\n    return 0\n"
    source += "sys.exit(run_program('prog', work))\n"
    return finished([sys.executable, "-c", source, *argv], **streams)


def finished(command, **streams):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, cwd=ROOT, env=buffered, text=True, errors="surrogateescape", check=False, **pipes)


def test_the_code_of_the_work_is_the_code_of_the_program():
    assert work("return 7").returncode == 7


def test_an_error_raised_on_purpose_is_one_line_and_its_code():
    ended = work("from contracts.errors import BundleUnreadable\nraise BundleUnreadable('bundle: \\x1b[31m\\ngone')")

    assert (ended.returncode, ended.stderr) == (78, "prog: bundle: \\x1b[31m\\ngone\n")


def test_a_mistake_of_ours_is_logged_once_with_its_traceback_and_70():
    ended = work("raise ValueError('oops \\x1b[31m')")

    assert ended.returncode == 70
    assert ended.stderr.startswith("penstock: internal error, please report it\nTraceback")
    assert ended.stderr.count("Traceback") == 1
    assert ended.stderr.endswith("ValueError: oops \\x1b[31m\n")


def test_ctrl_c_is_130_and_no_traceback():
    # What is started in the background of a shell inherits SIGINT ignored.
    heard = "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"

    ended = work(f"{heard}\nos.kill(os.getpid(), {int(signal.SIGINT)})\nwhile True: pass")

    assert (ended.returncode, ended.stderr) == (130, "")


def test_a_reader_that_went_away_is_141_and_no_complaint():
    reader, writer = os.pipe()
    os.close(reader)
    ended = work("print('a line nobody reads')", stdout=writer)
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (141, "")


def test_help_nobody_reads_is_141_too():
    reader, writer = os.pipe()
    os.close(reader)
    ended = work("from contracts.program import Parser\nParser(prog='prog').parse_args(['--help'])", stdout=writer)
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (141, "")


def test_a_warning_is_one_line_that_steers_no_terminal():
    ended = work("logging.getLogger('contracts').warning('label %s', 'a\\nb\\x1b]0;owned\\x07')")

    assert ended.stderr == "contracts: label a\\nb\\x1b]0;owned\\x07\n"


def test_a_program_started_without_streams_still_does_its_work(tmp_path):
    done = tmp_path / "done"
    source = "from contracts.program import run_program\nimport sys, pathlib\n"
    source += "def work():\n    print('x')\n    print('y', file=sys.stderr)\n    pathlib.Path(sys.argv[1]).touch()\n"
    source += "    return 0\nsys.exit(run_program('prog', work))\n"
    ended = finished(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", source, str(done)])

    assert ended.returncode == 0
    assert done.exists()


@pytest.mark.parametrize("command", ["agent.cli replay x", "training.cli evaluate --captures x"])
def test_an_empty_name_of_a_bundle_is_not_the_current_folder(command):
    ended = finished([sys.executable, "-m", *command.split(), "--bundle", ""])

    assert ended.returncode == 64
    assert "argument --bundle: its name is empty" in ended.stderr


@pytest.mark.parametrize(("program", "package"), PROGRAMS.items())
def test_a_command_line_that_cannot_be_read_is_one_plain_line_and_64(program, package):
    ended = finished([sys.executable, "-m", f"{package}.cli", "--\x1b[31mx\n"])

    assert ended.returncode == 64
    assert ended.stdout == ""
    assert re.fullmatch(rf"{program}: [^\x1b\n]+ \(see {program} --help\)\n", ended.stderr)
