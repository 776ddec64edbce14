"""What may reach a terminal, and how much of it."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.terminal import brief, complain, printable


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
def test_what_could_steer_a_terminal_is_written_as_its_escape(text, expected):
    assert printable(text) == expected


@given(st.text())
def test_nothing_unprintable_is_ever_left(text):
    assert printable(text).isprintable()


def test_an_error_is_one_line_on_stderr(capsys):
    complain(ValueError("bad\nfile \x1b[2J"))
    complain("gone", program="penstock-lab")

    assert capsys.readouterr() == ("", "penstock: bad\\nfile \\x1b[2J\npenstock-lab: gone\n")


def test_of_a_value_only_the_beginning_is_shown():
    assert brief("x" * 58) == repr("x" * 58)
    assert brief("x" * 59) == "'" + "x" * 56 + "..."
    assert brief(["a"] * 10_000, most=20) == "['a', 'a', 'a', '..."
