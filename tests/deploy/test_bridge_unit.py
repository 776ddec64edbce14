"""The unit of a bridge: systemd has nothing to say against it, and its command line is one the bridge takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import cli

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "siem" / "penstock-bridge.service"
MOST_EXPOSURE = 20  # tenths


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_verify_is_silent_and_the_exposure_is_bounded(tmp_path: Path):
    planted = tmp_path / UNIT.name
    planted.write_text(re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", UNIT.read_text(), flags=re.MULTILINE))

    verified = analyze("verify", "--man=no", str(planted))
    exposed = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", str(planted))

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    assert exposed.returncode == 0, exposed.stdout[-300:]


def test_its_command_line_is_one_the_bridge_takes():
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)

    args = cli.build_parser(["bridge"]).parse_args(shlex.split(line)[1:])

    assert args.command == "bridge"
    assert args.eve == "/var/log/penstock-bridge/eve.json"
    assert {str(path) for path in (args.mqtt_ca, args.mqtt_cert, args.mqtt_key)} == {
        f"%d/{name}" for name in re.findall(r"^LoadCredential=([^:]+):", UNIT.read_text(), re.MULTILINE)
    }
