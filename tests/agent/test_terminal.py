"""What may reach a terminal."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.terminal import BOLD, RED, Paint, complain, is_terminal, printable


class Terminal(io.StringIO):
    """A stream a person reads."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, äöü and 日本", "plain text, äöü and 日本"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("right\u202eleft", "right\\u202eleft"),
        (os.fsdecode(b"caf\xe9.pcap"), "caf\\udce9.pcap"),
    ],
)
def test_what_could_steer_a_terminal_is_written_as_its_escape(text: str, expected: str):
    assert printable(text) == expected


@given(st.text())
def test_nothing_unprintable_is_ever_left(text: str):
    assert printable(text).isprintable()


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]):
    complain(ValueError("bad\nfile \x1b[2J"))

    assert capsys.readouterr() == ("", "penstock: bad\\nfile \\x1b[2J\n")


def test_colours_are_for_terminals_only():
    assert Paint(io.StringIO())("x", RED) == "x"
    assert Paint(Terminal())("x", RED, BOLD) == "\x1b[31;1mx\x1b[0m"


def test_no_color_switches_them_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")

    assert Paint(Terminal())("x", RED) == "x"


def test_an_empty_no_color_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "")

    assert Paint(Terminal())("x", RED) != "x"


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")

    assert not is_terminal(Terminal())
