"""A wire for the tests that need one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from lab.namespaces import entered
from tests.capture.wire import Wire, laid


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Give a wire whose near end the test stands at; whatever the test opens, it opens there."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if missing := [tool for tool in ("ip", "ethtool") if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (see lab/apt.txt)")
    with laid() as made, entered(made.near):
        yield made
