"""What fault tests share: figures that end up on a page, whatever became of the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.capture.conftest import wire as wire  # noqa: PLC0414  (a fixture for tests here)
from tests.faults.figures import Figures

_OUTCOME = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remember how the body of a test ended, for the figures it wrote."""
    report = yield
    if call.when == "call":
        item.stash[_OUTCOME] = report.outcome
    return report


@pytest.fixture
def figures(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Figures]:
    """Give the figures of this test; they are printed and kept when it ends."""
    made = Figures(test=f"{request.module.__name__.rpartition('.')[2].removeprefix('test_')}.{request.node.name}")
    yield made
    made.outcome = request.node.stash.get(_OUTCOME, "failed")
    if made.outcome == "skipped":
        return
    made.write()
    with capsys.disabled():
        print(f"\n{made.fault or made.test}: {made.line() or 'no figures'} ({made.outcome}, {made.form})")
