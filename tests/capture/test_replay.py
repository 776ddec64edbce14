"""Capture files as the source of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.capture.replay import CaptureFiles
from agent.console.pace import Pace
from agent.stopping import StopRequest
from contracts.errors import UsageError
from flowfeatures import CaptureFormatError, CaptureNotFound, CaptureTruncated, FlowMeter
from tests.e2e.scan import write_scan


def read(*paths: Path, stop: StopRequest | None = None) -> tuple[CaptureFiles, FlowMeter, int]:
    """Return the source, its meter, and how many records left before the flush."""
    stop = StopRequest() if stop is None else stop
    captures = CaptureFiles(paths, stop=stop, pace=Pace(None, stop=stop))
    meter = FlowMeter()
    return captures, meter, sum(len(records) for records in captures.records(meter))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.pcap")


def test_several_are_read_in_turn(capture: Path, tmp_path: Path):
    later = write_scan(tmp_path / "later.pcap", begin_s=100.0)

    captures, meter, _ = read(capture, later)

    assert (captures.opened, captures.errors, meter.counters["packets"]) == (2, [], 480)


def test_an_error_in_one_is_said_and_the_next_is_read(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "cut.pcap").write_bytes(capture.read_bytes()[:-5])
    (tmp_path / "noise.pcap").write_bytes(b"noise" * 9)

    captures, meter, _ = read(tmp_path / "absent.pcap", tmp_path / "cut.pcap", tmp_path / "noise.pcap", capture)

    assert [type(error) for error in captures.errors] == [CaptureNotFound, CaptureTruncated, CaptureFormatError]
    assert (captures.opened, meter.counters["packets"]) == (2, 239 + 240)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_the_records_before_a_cut_are_all_given(capture: Path, tmp_path: Path):
    (tmp_path / "cut.pcap").write_bytes(capture.read_bytes()[:-5])
    (_, _, of_cut), (_, _, of_whole) = read(tmp_path / "cut.pcap"), read(capture)

    assert of_cut in {of_whole, of_whole - 1}


def test_after_a_stop_no_further_capture_is_opened(capture: Path):
    stop = StopRequest()
    stop.signal_number = 2

    captures, meter, _ = read(capture, stop=stop)

    assert (captures.opened, meter.counters["packets"]) == (0, 0)


def test_standard_input_cannot_be_read_twice(capture: Path):
    with pytest.raises(UsageError, match="once only"):
        read(Path("-"), capture, Path("-"))
