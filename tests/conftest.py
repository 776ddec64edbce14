"""Fixtures every test may ask for: the optional data folder and, where one can be had, a real broker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PENSTOCK_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Give the path of a file in the optional data folder; the test is skipped where the folder lacks it."""

    def path(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"no {name} in {SHARED} (set PENSTOCK_SHARED)")
        return SHARED / name

    return path
