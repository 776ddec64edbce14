"""What tests of the installer share: a folder for throw-away roots, and a wheelhouse that is built once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.throw_away import ROOT

TRIES = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    (tmp_path / "overlay").mkdir()
    return tmp_path / "overlay"


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheels of a copy of the sources and of what they need; skips where the registry cannot be reached.

    PENSTOCK_WHEELHOUSE names a folder that was filled before, as the package's own.
    """
    if made := os.environ.get("PENSTOCK_WHEELHOUSE"):
        return Path(made)
    folder = tmp_path_factory.mktemp("wheels")
    copy = folder / "sources"
    left_out = shutil.ignore_patterns(".git", ".venv*", ".cache", "build", "tests", "*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-input", "-w", str(folder / "wheels"), f"{copy}[cpu]"]
    for _ in range(TRIES):  # a download may break off, and what came is kept for the next one
        run = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        if run.returncode == 0:
            break
    if run.returncode != 0 and "Could not find a version" in run.stderr + run.stdout:
        pytest.skip("the registry gives no packages")
    assert run.returncode == 0, run.stderr[-2000:]
    return folder / "wheels"
