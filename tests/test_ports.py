"""Ports for tests: given away once, and by nobody else."""

from __future__ import annotations

import subprocess
import sys

from tests import ports
from tests.conftest import ROOT
from tests.ports import free_port


def test_a_port_is_none_the_kernel_gives_away_by_itself():
    low, high = map(int, ports.RANGE.read_text().split())

    assert all(not low <= free_port() <= high for _ in range(20))


def test_a_port_is_given_once_whichever_process_asks():
    given = [free_port() for _ in range(20)]
    asks = f"from tests import ports; print([ports._is_ours(port) for port in {given}])"

    said = subprocess.run([sys.executable, "-c", asks], cwd=ROOT, capture_output=True, text=True, check=True)

    assert len(set(given)) == 20
    assert said.stdout == f"{[False] * 20}\n"
