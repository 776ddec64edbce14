"""What end-to-end tests share: the program in a process of its own, a capture with a scan, a bundle that sees it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import write_refusal_bundle
from tests.capture.conftest import wire as wire  # noqa: PLC0414  (a fixture for tests here)
from tests.conftest import ROOT
from tests.e2e.scan import write_scan

TIMEOUT_S = 120
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def _runtime() -> None:
    pytest.importorskip("onnxruntime", reason="needs the cpu extra")


@pytest.fixture(scope="session")
def command() -> list[str]:
    """Return how to start penstock, whether it is installed or not."""
    return [sys.executable, "-m", "agent.cli"]


@pytest.fixture
def penstock(command: list[str], tmp_path: Path) -> Run:
    """Run penstock with arguments in an empty folder."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)],
            check=False,
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            **options,
        )

    return run


def until_at_work(process: subprocess.Popen[Any]) -> None:
    """Return when a program does what it is for, or has ended: a signal before is for the interpreter.

    Nothing loads numpy but a command that runs.
    """
    until_s = time.monotonic() + TIMEOUT_S
    while process.poll() is None and "/numpy/" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def environment() -> dict[str, str]:
    """Return an environment in which the checkout is importable and nothing else is taken from ours."""
    return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that calls refused flows a scan."""
    return write_refusal_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a capture in which the camera is scanned from outside."""
    return write_scan(tmp_path_factory.mktemp("capture") / "scan.pcap")
