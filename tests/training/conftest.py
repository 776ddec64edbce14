"""What several of the tests here are given."""

from __future__ import annotations

import pytest

from tests.training.test_captures import SPLITS, write_data, write_lab
from training.captures import CapturesBySide, find_captures


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> CapturesBySide:
    """Return the captures of a lab and of other people, written for this module."""
    home = tmp_path_factory.mktemp("captures")
    write_lab(home / "lab", 3, ports=range(40), gap_s=0.3)
    write_data(home, "scans/a.pcap", ports=[80, 81])
    return find_captures(SPLITS, shared=home, lab=home / "lab")
