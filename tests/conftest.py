"""Fixtures every test may ask for: the optional data folder and, where one can be had, a real broker.

And what keeps chance out of them all: examples drawn the same way each time, signals as a program at a terminal has
them. `--hypothesis-profile=search` draws others.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.broker import Broker, NoMosquitto, find_mosquitto

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PENSTOCK_SHARED", ROOT.parent / "shared"))
# Before numpy is imported: threads that wait for each other make small products crawl where others use the processors.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What is started in the background of a shell, or with nohup, inherits these ignored, and every program a test starts
# inherits them from it: one that is told to end by them never would.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
# How long an example takes says nothing where others use the processors; and a run that draws other examples than the
# last one finds what nobody changed. An option of the command line comes after this, and wins.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("still", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("still")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what only root can do, whichever fixture would have said so."""
    if item.get_closest_marker("needs_root") is not None and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Take back what a program that ran in this process does on signals: it would end by them, the tests with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Give the path of a file in the optional data folder; the test is skipped where the folder lacks it."""

    def path(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"no {name} in {SHARED} (set PENSTOCK_SHARED)")
        return SHARED / name

    return path


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Give a function that makes brokers, not yet started, from lines of mosquitto.conf; all end with the test."""
    try:
        find_mosquitto()
    except NoMosquitto as exc:
        pytest.skip(str(exc))
    made: list[Broker] = []

    def make(*settings: str, port: int | None = None) -> Broker:
        folder = tmp_path / f"mosquitto-{len(made)}"
        folder.mkdir()
        made.append(Broker(folder, *settings, port=port))
        return made[-1]

    yield make
    for each in made:
        each.stop()
