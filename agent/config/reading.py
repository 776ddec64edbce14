"""Files a configuration is read from, as trees of TOML; a hostile file is refused in one line.

Refused: what is no regular file (a FIFO would be waited for, /dev/zero never ends; a link is followed, and what it
leads to is looked at), files others may write, files too large, octets that are no UTF-8, lists and tables nested
beyond any setting. Trap: tomllib takes two seconds for one dotted key of 2,000 parts, so those are counted first.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.errors import ConfigError
from contracts.files import open_regular
from contracts.terminal import brief, printable

MAX_FILE_BYTES: Final = 256 << 10
MAX_LINE: Final = 4096
MAX_FILES: Final = 64
MAX_DOTS: Final = 16  # of one name: a setting's key has one, an address four, a long host name some more
MAX_NESTING: Final = 3  # section, key, list


@dataclass(frozen=True)
class Document:
    """One file as read; the text serves to find the line of a key."""

    path: Path
    text: str
    tree: dict[str, Any]

    def line_of(self, section: str, key: str = "") -> int | None:
        """Return the line a setting stands on, or its section begins; None where that is not plain to see."""
        here = ""
        for number, line in enumerate(self.text.split("\n"), start=1):
            if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
                here = header[1].strip("\"'")
                if here == section and not key:
                    return number
            elif (name := re.match(r"\s*([^=#]+?)\s*=", line)) and here == section and name[1].strip("\"'") == key:
                return number
        return None


def parse_toml(text: str) -> dict[str, Any]:
    """Return a text's tree. Raises ValueError or RecursionError where it is no TOML."""
    # In the standard library from 3.11 on; tomli is the same code for 3.10, and a dependency only there.
    module = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    tree: dict[str, Any] = module.loads(text)
    return tree


def read_document(path: Path) -> Document:
    """Return a file's settings. Raises ConfigError."""
    text = _text(path, _octets(path))
    return Document(path, text, _tree(path, text))


def documents(file: Path | None, conf_d: Path | None) -> list[Document]:
    """Return the file and those of the folder `conf_d` (*.toml, in order of their names), later ones winning.

    Raises ConfigError; a folder that is not there holds none.
    """
    paths = [] if file is None else [file]
    return [read_document(path) for path in [*paths, *_listed(conf_d)]]


def refuse_writable(path: Path, mode: int) -> None:
    """Raise ConfigError where anybody may write a file: then it says what anybody wants."""
    if mode & stat.S_IWOTH:
        seen = stat.S_IMODE(mode)
        raise ConfigError(f"{shown(path)}: mode {seen:04o}, wanted none that others may write (chmod o-w)")


def shown(path: Path | str) -> str:
    """Return a path as a message shows it."""
    return printable(str(path))


def _listed(conf_d: Path | None) -> list[Path]:
    if conf_d is None:
        return []
    try:
        refuse_writable(conf_d, os.stat(conf_d).st_mode)
        names = sorted(name for name in os.listdir(conf_d) if name.endswith(".toml") and not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise ConfigError(f"{shown(conf_d)}: cannot be read: {exc.strerror or exc}") from exc
    if len(names) > MAX_FILES:
        raise ConfigError(f"{shown(conf_d)}: {len(names)} files, wanted at most {MAX_FILES}")
    return [conf_d / name for name in names]


def _octets(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            refuse_writable(path, os.fstat(file.fileno()).st_mode)
            octets = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{shown(path)}: cannot be read: {exc.strerror or exc}") from exc
    if len(octets) > MAX_FILE_BYTES:
        raise ConfigError(f"{shown(path)}: more than {MAX_FILE_BYTES:,} octets, wanted at most that")
    return octets


def _text(path: Path, octets: bytes) -> str:
    try:
        text = octets.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        seen = f"0x{octets[exc.start]:02x}"
        raise ConfigError(f"{shown(path)}: octet {exc.start} is {seen}, wanted text in UTF-8") from exc
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_LINE:
            raise ConfigError(f"{shown(path)}:{number}: a line of {len(line):,} letters, wanted at most {MAX_LINE:,}")
        names = re.split(r"[=,\[\]{}]", line.replace(" ", "").replace("\t", "")) if "." in line else []
        if not line.lstrip().startswith("#") and max((name.count(".") for name in names), default=0) > MAX_DOTS:
            raise ConfigError(f"{shown(path)}:{number}: more than {MAX_DOTS} dots in a name, wanted [section] and key")
    return text


def _tree(path: Path, text: str) -> dict[str, Any]:
    try:
        tree = parse_toml(text)
    except (ValueError, RecursionError) as exc:  # ValueError: of dates and numbers too, not only TOML's own
        complaint = "nested too deeply" if isinstance(exc, RecursionError) else brief(str(exc), 120)[1:-1]
        raise ConfigError(f"{shown(path)}: no TOML: {complaint}") from exc
    _check_nesting(path, tree, depth=0)
    return tree


def _check_nesting(path: Path, value: Any, *, depth: int) -> None:
    if not isinstance(value, (dict, list)):
        return
    if depth > MAX_NESTING:
        raise ConfigError(f"{shown(path)}: nested deeper than {MAX_NESTING}, wanted [section], key, list")
    for each in value.values() if isinstance(value, dict) else value:
        _check_nesting(path, each, depth=depth + 1)
