"""An interface that is not there yet: nothing is given until it is, and nothing about it stops the others."""

from __future__ import annotations

import pytest

from agent.capture.errors import CaptureError
from agent.capture.patient import LOOK_EVERY_S, PatientSource
from agent.capture.source import CaptureSettings
from contracts.errors import DataMissing, NeedsRoot, PenstockError, UsageError
from flowfeatures import UnknownLinkType
from flowfeatures.frames import FrameBlock
from tests.capture.test_several import Scripted, flow


class Kernel:
    """Whether there is an interface, what opening it gives, and what time it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_there = False
        self.answers: list[Scripted | Exception] = []
        self.now_s = 0.0
        monkeypatch.setattr("agent.capture.patient.index_of", lambda _: 7 if self.is_there else None)

    def opened(self, settings: CaptureSettings) -> Scripted:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def source(self) -> PatientSource:
        settings = CaptureSettings(interface="wlan0")
        return PatientSource(settings, opened=self.opened, now_s=lambda: self.now_s, now_us=lambda: 10**15)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_an_interface_that_is_there_is_opened_at_once(kernel: Kernel):
    kernel.is_there, kernel.answers = True, [Scripted(flow(80, packets=3))]
    source = kernel.source()

    assert source.is_open
    assert source.read_block(FrameBlock(), 0.0) == 3


def test_what_is_wrong_with_it_at_the_start_is_an_error(kernel: Kernel):
    kernel.is_there, kernel.answers = True, [NeedsRoot("no CAP_NET_RAW")]

    with pytest.raises(NeedsRoot):
        kernel.source()


def test_one_that_comes_later_is_opened_within_a_look_and_time_goes_on_before(kernel: Kernel):
    source = kernel.source()
    block = FrameBlock()
    before = source.read_block(block, 0.0), source.clock_us, source.descriptor, source.is_open
    kernel.is_there, kernel.answers = True, [Scripted(flow(80, packets=3))]
    kernel.now_s = LOOK_EVERY_S - 0.01
    early = source.read_block(block, 0.0)
    kernel.now_s = LOOK_EVERY_S

    late = source.read_block(block, 0.0)

    assert before == (0, 10**15 - 50_000, None, False)
    assert (early, late, source.counts().read) == (0, 3, 3)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("the filter 'not ether host 1' is none"),
        NeedsRoot("no CAP_NET_RAW"),
        CaptureError("cannot be captured"),
        UnknownLinkType("hardware type 512"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_that_cannot_be_captured_later_is_told_once_and_tried_again(
    kernel: Kernel, error: PenstockError, capsys: pytest.CaptureFixture[str]
):
    source = kernel.source()
    kernel.is_there, kernel.answers = True, [error, error, DataMissing("gone"), Scripted(flow(80, packets=3))]
    read = []
    for look in range(1, 5):
        kernel.now_s = look * LOOK_EVERY_S
        read.append(source.read_block(FrameBlock(), 0.0))

    assert read == [0, 0, 0, 3]
    assert capsys.readouterr().err.count(str(error)) == 1


def test_one_that_never_came_is_drained_when_it_is_stopped(kernel: Kernel):
    source = kernel.source()
    before = source.is_drained
    source.stop()
    kernel.is_there, kernel.now_s = True, 10.0

    assert (before, source.is_drained, source.read_block(FrameBlock(), 0.0)) == (False, True, 0)
