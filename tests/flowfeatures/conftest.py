"""`meter` runs a test with the oracle and with the engine; `run` measures frames written to a capture."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.flowfeatures.meters import METERS, Measured, measure
from tests.flowfeatures.packets import ETHERNET, TimedFrame, write_pcap
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
