"""Marks: the boundary belongs to those who reach it."""

from __future__ import annotations

from benchmarks.marks import Marked, mark_lines


def test_a_figure_exactly_on_its_mark_is_met():
    assert Marked.at_most("memory", 900.0, 900.0, "MB").met
    assert Marked.at_least("rate", 20.0, 20.0, "x").met


def test_a_figure_beyond_its_mark_is_not():
    assert not Marked.at_most("memory", 900.001, 900.0, "MB").met
    assert not Marked.at_least("rate", 19.999, 20.0, "x").met


def test_a_figure_that_is_no_number_is_not_met():
    assert not Marked.at_most("memory", float("nan"), 900.0, "MB").met
    assert not Marked.at_least("rate", float("nan"), 20.0, "x").met


def test_the_table_says_of_each_figure_what_was_measured_what_was_asked_and_whether_it_was_met():
    marks = [Marked.at_least("mixed", 16.3, 20, "x"), Marked.at_most("lost", 0, 0, "packets")]

    lines = mark_lines(marks)

    assert [line.split("  ")[0] for line in lines] == ["figure", "mixed", "lost"]
    assert lines[1].split() == ["mixed", "16.3", "at", "least", "20", "x", "NOT", "MET"]
    assert lines[2].split() == ["lost", "0", "at", "most", "0", "packets", "met"]


def test_the_record_says_whether_it_was_met():
    assert Marked.at_most("lost", 3, 0, "packets").record() == {
        "figure": "lost", "measured": 3, "mark": 0, "unit": "packets", "most": True, "met": False,
    }  # fmt: skip
