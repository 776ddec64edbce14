"""`meter` runs a test with the oracle and with the engine; `run` measures frames written to a capture.

At its end pytest says how much the golden and the differential suite have compared.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.flowfeatures.meters import METERS, SHARED, Measured, measure
from tests.flowfeatures.packets import ETHERNET, TimedFrame, write_pcap
from tests.flowfeatures.tally import DIFFERENTIAL_TALLY, GOLDEN_TALLY
from tests.oracle.meter import Settings

Run = Callable[..., Measured]


@pytest.fixture(params=METERS)
def meter(request: pytest.FixtureRequest) -> str:
    """Name the implementation under test; every expectation holds for both."""
    return str(request.param)


@pytest.fixture
def run(meter: str, tmp_path: Path) -> Run:
    """Return a function that measures timed frames under the given settings."""

    def measure_frames(frames: Iterable[TimedFrame], *, link_type: int = ETHERNET, snap: int = 0, **settings: float):
        path = write_pcap(tmp_path / "frames.pcap", frames, link_type=link_type, snap=snap)
        return measure(path, meter=meter, settings=Settings(**settings))

    return measure_frames


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was compared, or that there was nothing to compare with; nothing where neither suite was asked for."""
    skipped = {report.nodeid.split("::")[0].rsplit("/", 1)[-1] for report in terminalreporter.stats.get("skipped", [])}
    if GOLDEN_TALLY.diffs:
        terminalreporter.write_line(GOLDEN_TALLY.line())
    elif "test_golden.py" in skipped:
        terminalreporter.write_line(f"golden: skipped: no golden files in {SHARED} (PENSTOCK_SHARED)")
    if DIFFERENTIAL_TALLY.captures or DIFFERENTIAL_TALLY.streams:
        terminalreporter.write_line(DIFFERENTIAL_TALLY.line())
    if not DIFFERENTIAL_TALLY.captures and "test_differential.py" in skipped:
        terminalreporter.write_line(f"differential: real captures skipped: none in {SHARED} (PENSTOCK_SHARED)")
