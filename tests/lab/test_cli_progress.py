"""A bar on a terminal, and nothing but lines elsewhere."""

from __future__ import annotations

import io

import pytest

from lab import progress
from lab.progress import Progress, bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("done_s", "shown"),
    [(0, "[........] 00:00 of 02:00"), (60, "[####....] 01:00 of 02:00"), (500, "[########] 02:00 of 02:00")],
)
def test_the_bar_shows_how_far_it_is(done_s, shown):
    assert bar(done_s, 120, width=8) == shown


def test_where_there_is_no_terminal_nothing_is_drawn():
    stream, said = io.StringIO(), []

    with Progress(10, say=said.append, stream=stream) as shown:
        shown.begin()
        shown.say("a line")

    assert (stream.getvalue(), said) == ("", ["a line"])


def test_on_a_terminal_the_bar_is_drawn_and_wiped(monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    stream = Terminal()
    with Progress(10, say=lambda _: None, stream=stream) as shown:
        shown.begin()
        while "of 00:10" not in stream.getvalue():
            pass

    assert stream.getvalue().endswith("\r\x1b[K")
