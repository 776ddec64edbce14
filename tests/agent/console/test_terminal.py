"""Colours, and who gets them."""

from __future__ import annotations

import io

import pytest

from agent.console.terminal import BOLD, RED, Paint, is_terminal


class Terminal(io.StringIO):
    """A stream a person reads."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


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
