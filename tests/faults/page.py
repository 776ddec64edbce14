"""The page of what was measured: docs/results/faults.md and .json, made of the figures that test runs left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.faults.figures import FOLDER, ROOT, Figures, read_all

RESULTS = ROOT / "docs" / "results"
HEAD = """\
# Faults

Written by `python -m tests.faults`; the figures are those of `make soak`, and of `make test-all` where a line says
`short`. Each line is one test of `tests/faults/`: it asserts counts and states, and in the long form the seconds of
overload, recovery and watchdog; the other seconds stand beside what is wanted, to be compared by the reader. They are
those of the machine below, which other work may have shared (the load says how much).
"""

NOT_TRIED = """\
Not tried: a power cut of real hardware (the disk is an image, copied as it stands at a moment), a real board, a clock
that the kernel itself sets while packets come."""


def chosen(folder: Path = FOLDER) -> list[Figures]:
    """Return the figures of every test, those of the long form where there are both."""
    by_test: dict[str, Figures] = {}
    for each in read_all(folder):
        if each.test not in by_test or _rank(each) > _rank(by_test[each.test]):
            by_test[each.test] = each
    return [by_test[name] for name in sorted(by_test)]


def _rank(figures: Figures) -> tuple[bool, bool]:
    return figures.form == "long", figures.form != "short"


def page_of(figures: Sequence[Figures]) -> str:
    """Return the page. Raises ValueError where nothing was measured."""
    if not figures:
        raise ValueError(f"no figures in {FOLDER}: run pytest tests/faults first")
    lines = [HEAD, "| fault | wanted | seen | test | form |", "| --- | --- | --- | --- | --- |"]
    for each in figures:
        held = "passed" if each.outcome == "passed" else f"**{each.outcome}**"
        lines.append(
            f"| {_cell(each.fault or each.test)} | {_cell(each.goal)} | {each.line()} | {held} | {each.form} |"
        )
    return "\n".join([*lines, "", *_conditions(figures)]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _conditions(figures: Sequence[Figures]) -> list[str]:
    """Return on what machine, at which commits and under what load the figures came to be."""
    machines = [each.machine for each in figures]
    first = machines[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["packages"].items())
    loads = sorted(float(machine["load_1min"]) for machine in machines)
    commits = ", ".join(sorted({f"`{machine['commit']}`" for machine in machines}))
    days = sorted({str(machine["time"])[:10] for machine in machines})
    hardware = f"{first['processor']}, {first['cores']} cores, {first['memory']}, Linux {first['kernel']}"
    software = f"Python {first['python']}, {versions}"
    measured = f"Load meanwhile: {loads[0]:.1f} to {loads[-1]:.1f}. Measured on {' and '.join(days)} at {commits}."
    return [f"Machine: {hardware}, {software}. {measured}", "", NOT_TRIED]


def write(folder: Path = RESULTS) -> Path:
    """Write page and figures; return the page."""
    figures = chosen()
    page = folder / "faults.md"
    page.write_text(page_of(figures), encoding="utf-8")
    (folder / "faults.json").write_text(
        json.dumps([asdict(each) for each in figures], indent=1) + "\n", encoding="utf-8"
    )
    return page
