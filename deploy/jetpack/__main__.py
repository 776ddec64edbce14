"""Whether each JetPack can have the gateway's packages as aarch64 wheels: `make matrix`. Wants the package index.

Resolved are the base dependencies, the runtime, and what compiles the core, under the constraints file of the JetPack,
for its Python and its glibc. `--pin` finds the newest versions instead and writes the files anew, below their notes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from deploy.jetpack.boards import BOARDS, Board
from deploy.jetpack.resolution import CannotResolve, Wheel, resolve
from deploy.tags import glibc_minor_wanted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

PYPROJECT: Final = Path(__file__).resolve().parents[2] / "pyproject.toml"
SOME_ROW_FAILS: Final = 1
HEAD: Final = ("", "system", "python", "glibc", "runtime", "wheels", "oldest glibc")


def main() -> int:
    """Look at every board, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.jetpack", description=__doc__.splitlines()[0])
    parser.add_argument("--pin", action="store_true", help="write the constraints files anew, with the newest that fit")
    args = parser.parse_args()
    pyproject = tomllib.loads(PYPROJECT.read_text())
    rows: list[tuple[str, ...]] = [HEAD]
    reasons = []
    for board in BOARDS:
        try:
            constraints = None if args.pin else board.constraints
            wheels = resolve(wanted(pyproject, board), target=board.target, constraints=constraints)
        except CannotResolve as exc:
            rows.append((*known(board), "FAILS", "", ""))
            reasons.append(f"{board.name}: {exc}")
            continue
        if args.pin:
            pin(board, wheels)
        rows.append(row(board, wheels))
    print("\n".join([*lines(rows), *reasons]))
    return SOME_ROW_FAILS if reasons else 0


def wanted(pyproject: dict[str, Any], board: Board) -> list[str]:
    """Return what a gateway asks pip for: the base, its runtime, and what compiles the core."""
    project = pyproject["project"]
    runtime = project["optional-dependencies"][board.extra]
    return [*project["dependencies"], *runtime, *pyproject["build-system"]["requires"]]


def pin(board: Board, wheels: Sequence[Wheel]) -> None:
    """Write the versions found below the notes that stand in the file."""
    file = board.constraints
    notes = "".join(re.findall(r"^#.*\n", file.read_text(), re.MULTILINE)) if file.exists() else ""
    file.write_text(notes + "".join(f"{wheel.name}=={wheel.version}\n" for wheel in wheels))


def known(board: Board) -> tuple[str, str, str, str]:
    """Return what a row says before anything is resolved."""
    return board.name, board.system, f"{board.target.python} ({board.whose_python})", board.target.glibc


def row(board: Board, wheels: Sequence[Wheel]) -> tuple[str, ...]:
    """Return the row of a board whose wheels were found."""
    runtime = next(f"{wheel.name} {wheel.version}" for wheel in wheels if wheel.name.startswith("onnxruntime"))
    oldest = max(glibc_minor_wanted(wheel.file) for wheel in wheels)
    return (*known(board), runtime, str(len(wheels)), f"2.{oldest}")


def lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give the rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for cells in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
