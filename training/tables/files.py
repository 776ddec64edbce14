"""Lines and cells of a table's file: plain, .gz, .xz or .zip, told by its first bytes and not by its name.

Cells stand between commas, semicolons or tabs, whichever the first line has most of; of an ARFF file the names of its
attributes are the header.

Reads in blocks, so that a file of millions of lines fits into memory as numbers. An error names the file, the line
counted from 1, the column, what stood there and what was wanted.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataMissing
from training.tables.table import TableError

BLOCK_LINES = 20_000
DELIMITERS = ",;\t"
ATTRIBUTE = re.compile(r"""\s*@attribute\s+(?:'([^']*)'|"([^"]*)"|(\S+))""", re.IGNORECASE)
SHOWN = 40  # characters of a wrong cell that a message repeats


@dataclass(frozen=True)
class Block:
    """Cells of some lines: `rows[i]` stood at line `lines[i]` of `path`."""

    path: Path
    lines: list[int]
    rows: list[list[str]]

    def column(self, place: int) -> list[str]:
        return [row[place].strip() for row in self.rows]

    def numbers(self, places: Sequence[int], names: Sequence[str]) -> NDArray[np.float64]:
        """Return float64[N, len(places)]; an empty cell is NaN. Raises TableError for what is no number."""
        found = np.empty((len(self.rows), len(places)))
        for column, (place, name) in enumerate(zip(places, names, strict=True)):
            cells = self.column(place)
            try:
                found[:, column] = np.array(cells, dtype=np.float64)
            except ValueError:
                found[:, column] = [self._number(cell, row, name) for row, cell in enumerate(cells)]
        return found

    def _number(self, cell: str, row: int, name: str) -> float:
        if not cell:
            return float("nan")
        try:
            return float(cell)
        except ValueError as exc:
            raise self.wrong(row, name, cell, "a number") from exc

    def wrong(self, row: int, name: str, cell: str, wanted: str) -> TableError:
        """Return the error for a cell."""
        return TableError(f"{self.path}:{self.lines[row]}: column {name!r}: saw {cell[:SHOWN]!r}, want {wanted}")


def first_row(path: Path) -> list[str]:
    """Return the cells of the first line that is not empty. Raises as `blocks` does."""
    for block in blocks(path, widths=None):
        return [cell.strip() for cell in block.rows[0]]
    raise TableError(f"{path}: the file is empty, want lines of a table")


def blocks(path: Path, *, widths: Sequence[int] | None, skip: int = 0) -> Iterator[Block]:
    """Give the lines with cells, `skip` of them left out at the start.

    Raises DataMissing where there is no such file, TableError for a torn file or a line with as many cells as none of
    `widths` (None: any number).
    """
    lines, rows, seen = [], [], 0
    try:
        with open_text(path) as text:
            reader = _reader(text)
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                seen += 1
                if seen <= skip:
                    continue
                if widths is not None and len(row) not in widths:
                    wanted = " or ".join(map(str, sorted(widths)))
                    raise TableError(f"{path}:{reader.line_num}: saw {len(row)} cells, want {wanted}")
                lines.append(reader.line_num)
                rows.append(row)
                if len(rows) == (1 if widths is None else BLOCK_LINES):
                    yield Block(path, lines, rows)
                    lines, rows = [], []
    except (lzma.LZMAError, EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as exc:
        raise TableError(f"{path}: torn or not what its first bytes say ({exc}), want a whole file") from exc
    except csv.Error as exc:
        raise TableError(f"{path}: {exc}, want lines of comma-separated cells") from exc
    if rows:
        yield Block(path, lines, rows)


def _reader(text: IO[str]) -> Any:
    """Return a csv reader of the table, whose lines are counted as the file's are."""
    begun: list[str] = []
    for line in text:
        begun.append(line)
        if (start := line.strip()) and not start.startswith("%"):
            break
    first = begun[-1] if begun else ""
    lines = itertools.chain(begun, text)
    if first.lower().lstrip().startswith("@relation"):
        return csv.reader(_from_arff(lines), quotechar="'", skipinitialspace=True)
    return csv.reader(lines, delimiter=max(DELIMITERS, key=first.count))


def _from_arff(lines: Iterable[str]) -> Iterator[str]:
    """Give the data of an ARFF file below a line of its attributes' names, and an empty line for each other one."""
    names: list[str] = []
    is_data = False
    for line in lines:
        start = line.strip().lower()
        if named := None if is_data else ATTRIBUTE.match(line):
            names.append(next(name for name in named.groups() if name is not None))
        if is_data and not start.startswith("%"):
            yield line
        elif not is_data and start == "@data":
            is_data = True
            yield ",".join(names) + "\n"
        else:
            yield "\n"


def open_text(path: Path) -> IO[str]:
    """Open a table as text. Bytes that are no UTF-8 (an old dash in attack names) become a replacement character."""
    try:
        with path.open("rb") as raw:
            start = raw.read(6)
        if start.startswith(b"PAR1"):
            raise TableError(f"{path}: saw a Parquet file, want a table of text (.txt, .csv or .arff)")
    except OSError as exc:
        raise DataMissing(
            f"{path}: {exc.strerror or exc}, want a table (.txt, .csv or .arff, plain, .gz, .xz or .zip)"
        ) from exc
    stream: IO[bytes]
    if start.startswith(b"\xfd7zXZ\0"):
        stream = lzma.open(path)  # noqa: SIM115  # the text around it closes it
    elif start.startswith(b"\x1f\x8b"):
        stream = cast(IO[bytes], gzip.open(path))  # noqa: SIM115
    elif start.startswith(b"PK\x03\x04"):
        stream = _zip_member(path)
    else:
        stream = path.open("rb")
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")


def _zip_member(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    tables = [name for name in archive.namelist() if name.lower().endswith((".csv", ".txt", ".arff"))]
    if len(tables) != 1:
        raise TableError(f"{path}: {len(tables)} tables in the archive, want one .csv, .txt or .arff")
    return archive.open(tables[0])
