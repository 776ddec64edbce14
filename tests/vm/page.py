"""What the guest printed, as rows, and the page made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

OK = "ok"
BAD = "BAD"


@dataclass(frozen=True)
class Row:
    """One check: its name, whether it held, and what was seen."""

    name: str
    state: str
    seen: str


def rows_of(said: str) -> list[Row]:
    """Return the checks among the lines of the guest."""
    split = (line.rstrip("\r").split("\t") for line in said.splitlines())
    return [Row(cells[1], cells[2], cells[3]) for cells in split if len(cells) == 4 and cells[0] == "ROW"]


def doctor_of(said: str) -> list[str]:
    """Return what `penstock doctor` printed in the guest."""
    marked = (line.rstrip("\r").partition("\t") for line in said.splitlines())
    return [rest for mark, _, rest in marked if mark == "DOCTOR"]


def faults(rows: Sequence[Row], *, said: str) -> list[str]:
    """Return what is wrong with a run: checks that did not hold, and an end that was never reached."""
    found = [f"{row.name}: {row.seen}" for row in rows if row.state == BAD]
    if not any(line.rstrip("\r").endswith(" s: end") for line in said.splitlines()):
        found.append(f"the run broke off after {rows[-1].name if rows else 'nothing'}")
    return found


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Give the rows as lines for a terminal."""
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        yield f"{row.state:<4}{row.name:<{width}}  {row.seen}"


TITLE = "Installed, killed, upgraded, removed"
WRITTEN = "Written by `python -m tests.vm --page`: a Debian made by debootstrap boots with systemd as PID 1, and"
WRITTEN += " each way of installing goes through its life there ([how](../install.md), `tests/vm/`)."


def section(said: str, *, facts: Mapping[str, str]) -> str:
    """Return what a page says of one life: where it was seen, each check, and what the doctor said."""
    rows = rows_of(said)
    held = sum(row.state == OK for row in rows)
    asked = sum(row.state in (OK, BAD) for row in rows)
    parts = ["\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"] if facts else []
    parts.append(f"{held} of {asked} checks hold.\n")
    cells = [f"| {row.name} | {row.state} | {escaped(row.seen)} |" for row in rows]
    parts.append("\n".join(["| check | | seen |", "| --- | --- | --- |", *cells]) + "\n")
    if doctor := doctor_of(said):
        parts.append("The doctor there:\n\n```\n" + "\n".join(doctor) + "\n```\n")
    return "\n".join(parts)


def page(sections: Mapping[str, str], *, title: str = TITLE, written: str = WRITTEN) -> str:
    """Return the page of results of these sections, by their headings."""
    return "\n".join([f"# {title}\n", f"{written}\n", *(f"## {name}\n\n{text}" for name, text in sections.items())])


def sections_of(text: str) -> dict[str, str]:
    """Return the sections of such a page, so that a life that was not run again keeps its own."""
    parts = re.split(r"^## (.*)\n\n", text, flags=re.MULTILINE)[1:]
    names, bodies = parts[::2], parts[1::2]
    return {name: body.rstrip("\n") + "\n" for name, body in zip(names, bodies, strict=True)}


def escaped(text: str) -> str:
    """Return a text that breaks no table."""
    return text.replace("|", "\\|")
