"""The progress bar, on a clock of the test's own."""

from __future__ import annotations

import io

import pytest

from agent.console.progress import ProgressBar
from tests.agent.console.test_terminal import Terminal


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


def last_line(stream: io.StringIO) -> str:
    return stream.getvalue().rpartition("\r\x1b[K")[2]


def test_a_file_gets_no_bar():
    stream = io.StringIO()

    ProgressBar(100, stream=stream).show(50, packets=10)

    assert stream.getvalue() == ""


def test_it_shows_the_share_of_bytes_the_packets_and_the_time_left():
    clock, stream = Clock(), Terminal()
    bar = ProgressBar(1_000, stream=stream, now_s=clock)

    clock.s = 10.0
    bar.show(250, packets=12_345)

    assert last_line(stream) == "[########                      ]  25%  12,345 packets  0:00:30 left"


def test_no_time_left_is_guessed_in_the_first_second():
    clock, stream = Clock(), Terminal()

    ProgressBar(1_000, stream=stream, now_s=clock).show(1, packets=1)

    assert "left" not in stream.getvalue()


def test_it_draws_at_most_ten_times_a_second():
    clock, stream = Clock(), Terminal()
    bar = ProgressBar(1_000, stream=stream, now_s=clock)

    for millisecond in range(1_000):
        clock.s = millisecond / 1000
        bar.show(millisecond, packets=millisecond)

    assert stream.getvalue().count("\r") <= 11


def test_it_never_says_more_than_all_of_it():
    stream = Terminal()

    ProgressBar(10, stream=stream, now_s=Clock()).show(99, packets=1)

    assert "100%" in last_line(stream)


def test_a_narrow_terminal_is_not_wrapped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()

    ProgressBar(10, stream=stream, now_s=Clock()).show(5, packets=1)

    assert len(last_line(stream)) < 20


def test_clearing_leaves_an_empty_line():
    stream = Terminal()
    bar = ProgressBar(10, stream=stream, now_s=Clock())
    bar.show(5, packets=1)

    bar.clear()

    assert last_line(stream) == ""
