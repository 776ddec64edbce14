"""The page of figures, made of figures that were never measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.figures import ROOT, Figures, read_all
from tests.faults.page import RESULTS, chosen, page_of

MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "memory": "1 kB",
    "kernel": "6.1",
    "python": "3.11",
    "packages": {"numpy": "2.0"},
    "load_1min": 0.5,
    "commit": "abc",
    "time": "2026-01-01T00:00:00+0000",
}


def made(**changes: object) -> Figures:
    fields = {"test": "a.b", "fault": "a fault", "goal": "0 lost", "outcome": "passed", "machine": MACHINE}
    return Figures(**{**fields, "values": {"lost": 0, "took_at_most_s": 1.5}, **changes})


def test_a_line_says_what_was_wanted_and_seen_and_whether_it_held():
    page = page_of([made(), made(test="c.d", fault="another", outcome="failed")])

    assert "| a fault | 0 lost | lost 0, took at most 1.5 s | passed | short |" in page
    assert "| another | 0 lost | lost 0, took at most 1.5 s | **failed** | short |" in page
    assert "Measured on 2026-01-01 at `abc`." in page


def test_the_long_form_stands_in_the_place_of_the_short_one(tmp_path: Path):
    for form, lost in (("long", 1), ("short", 2)):
        kept = made(form=form, values={"lost": lost})
        (tmp_path / f"a.b.{form}.json").write_text(json.dumps(asdict(kept)))

    assert [each.values for each in chosen(tmp_path)] == [{"lost": 1}]
    assert len(list(read_all(tmp_path))) == 2


def test_no_figures_are_no_page():
    with pytest.raises(ValueError, match="run pytest tests/faults first"):
        page_of([])


def test_the_committed_page_is_what_the_command_writes_of_the_committed_figures():
    figures = [Figures(**each) for each in json.loads((RESULTS / "faults.json").read_text())]

    assert (RESULTS / "faults.md").read_text() == page_of(figures)
    assert (ROOT / "docs" / "results" / "faults.md").exists()
