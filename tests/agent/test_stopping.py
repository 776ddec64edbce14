"""Signals as requests."""

from __future__ import annotations

import os
import signal

import pytest

from agent.stopping import StopRequest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_only_asks(number: int, code: int):
    with StopRequest() as stop:
        assert not stop

        os.kill(os.getpid(), number)

        assert stop
        assert stop.exit_code == code


def test_the_second_ctrl_c_interrupts():
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_sigterm_after_another_signal_ends_the_process_by_way_of_its_cleaning_up(first: int):
    with StopRequest() as stop:
        os.kill(os.getpid(), first)

        with pytest.raises(SystemExit, match="143"):
            os.kill(os.getpid(), signal.SIGTERM)

    assert stop.signal_number == first


def test_afterwards_signals_do_what_they_did_before():
    before = [signal.getsignal(number) for number in StopRequest.SIGNALS]

    with StopRequest():
        pass

    assert [signal.getsignal(number) for number in StopRequest.SIGNALS] == before
