"""Files, environment and command line to one configuration, or one line that says what is wrong and where.

Later wins: the file, conf.d in order of names, `PENSTOCK_<SECTION>__<KEY>`, the command line. Every value remembers
where it came from, so that an error names the place that has to be changed, the key, what was seen and what is wanted.
What is wrong on the command line is a UsageError (64), elsewhere a ConfigError (78). A value that is not checked yet is
never shown where it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agent.config.model import AgentConfig, sections, without_user
from agent.config.reading import Document, documents, parse_toml, shown
from agent.config.section import Conflict, Section, takes_text, wanted
from contracts.errors import ConfigError, PenstockError, UsageError
from contracts.terminal import brief, printable

DEFAULT_FILE: Final = Path("/etc/penstock/agent.toml")
CONF_D: Final = "conf.d"
COMMAND_LINE: Final = "command line"
VARIABLE: Final = re.compile(r"PENSTOCK_(\w+?)__(\w*)")
MOST_SHOWN: Final = 60


class _Layers:
    """Values by section and key, and where each came from."""

    def __init__(self) -> None:
        self.tree: dict[str, dict[str, Any]] = {"capture": {}}
        self.origin: dict[tuple[str, str], str] = {}
        self.documents: list[Document] = []

    def put(self, section: str, key: str, value: Any, origin: str) -> None:
        self.tree.setdefault(section, {})[key] = value
        self.origin[section, key] = origin

    def where(self, section: str, key: str) -> str:
        """Return where a setting came from; where it was never set, the file that could set it."""
        if (origin := self.origin.get((section, key))) is not None:
            return origin
        return shown(self.documents[0].path) if self.documents else f"no {DEFAULT_FILE}"


def load_config(
    file: Path | None,
    *,
    conf_d: Path | None = None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
) -> AgentConfig:
    """Return the configuration of a file, a folder of files, an environment and a command line.

    `overrides` are values by `section.key`. Raises ConfigError, or UsageError where the command line is at fault.
    """
    layers = _Layers()
    for document in documents(file, conf_d):
        layers.documents.append(document)
        _put_document(layers, document)
    for name, text in sorted(environ.items()):
        _put_variable(layers, name, text)
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        layers.put(section, key, value, COMMAND_LINE)
    try:
        return AgentConfig.model_validate(layers.tree)
    except ValidationError as exc:
        raise _complaint(layers, exc) from None


def conf_d_of(file: Path | None) -> Path | None:
    """Return the folder of further files beside a file."""
    return None if file is None else file.parent / CONF_D


def default_file() -> Path | None:
    """Return /etc/penstock/agent.toml where there is one; a folder beside it alone is not looked at."""
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _put_document(layers: _Layers, document: Document) -> None:
    known = sections()
    for section, table in document.tree.items():
        place = _place(document, section)
        if section not in known:
            raise ConfigError(_unknown(place, section, known, what="section"))
        if not isinstance(table, dict):
            raise ConfigError(f"{place}: {section}: {_seen(table)}, wanted a table: [{section}] and its keys below")
        for key, value in table.items():
            place = _place(document, section, key)
            _check_key(known[section], section, key, place)
            layers.put(section, key, value, place)


def _put_variable(layers: _Layers, name: str, text: str) -> None:
    match = VARIABLE.fullmatch(name)
    if match is None:
        return
    section, key = match[1].lower(), match[2].lower()
    place, known = f"environment: {name}", sections()
    if section not in known:
        raise ConfigError(_unknown(place, section, known, what="section"))
    _check_key(known[section], section, key, place)
    is_text = takes_text(known[section].model_fields[key])
    layers.put(section, key, _value_of(text, is_text=is_text), place)


def _value_of(text: str, *, is_text: bool) -> Any:
    """Return a variable's value: TOML, else the text as it stands; a text needs no quotes and may have them."""
    try:
        tree = parse_toml(f"value = {text}") if "\n" not in text and len(text) <= 4096 else {}
    except (ValueError, RecursionError):
        tree = {}
    value = tree.get("value", text) if len(tree) == 1 else text
    return text if is_text and not isinstance(value, str) else value


def _check_key(section: type[Section], name: str, key: str, place: str) -> None:
    if key not in section.model_fields:
        raise ConfigError(
            _unknown(place, f"{name}.{key}", [f"{name}.{each}" for each in section.model_fields], what="")
        )


def _unknown(place: str, seen: str, known: Mapping[str, Any] | list[str], *, what: str) -> str:
    """Return the complaint about a name nobody knows; its value is not shown, it may be a password."""
    near = get_close_matches(seen, list(known), n=1)
    names = f"{near[0]}?" if near else "one of " + ", ".join(each.rpartition(".")[2] for each in known)
    label = f"{what} " if what else "key "
    return f"{place}: {_name(seen)}: unknown {label}, wanted {names}".replace(" ,", ",")


def _place(document: Document, section: str, key: str = "") -> str:
    line = document.line_of(section, key)
    return shown(document.path) if line is None else f"{shown(document.path)}:{line}"


def _complaint(layers: _Layers, exc: ValidationError) -> PenstockError:
    """Return the first thing wrong as an error, and say how many more there are."""
    found = list(_complaints(layers, exc))
    place, text = found[0]
    more = len({text for _, text in found}) - 1
    message = f"{place}: {text}{f' (and {more} more)' if more else ''}"
    return UsageError(message) if place == COMMAND_LINE else ConfigError(message)


def _complaints(layers: _Layers, exc: ValidationError) -> Iterator[tuple[str, str]]:
    for error in exc.errors(include_url=False):
        section = str(error["loc"][0])
        kind = sections().get(section)
        conflict = error.get("ctx", {}).get("error")
        key = conflict.key if isinstance(conflict, Conflict) else str((*error["loc"], "")[1])
        place, name = layers.where(section, key), _name(f"{section}.{key}")
        if kind is None or key not in kind.model_fields:
            yield place, f"{name}: unknown key"
        elif isinstance(conflict, Conflict):
            yield place, f"{name}: {printable(conflict.seen)}, wanted {conflict.wanted}"
        elif error["type"] == "missing":
            yield place, f"{name}: missing, wanted {wanted(kind.model_fields[key])}"
        else:
            seen = layers.tree[section][key]
            seen = without_user_or_all(seen) if key == "url" else seen
            yield place, f"{name}: {_seen(seen)}, wanted {wanted(kind.model_fields[key])}"


def without_user_or_all(value: Any) -> Any:
    """Return an address without user and password, however broken it is; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return without_user(value) if "@" in value else value
    except ValueError:
        return value.rpartition("@")[2]


def _seen(value: Any) -> str:
    return printable(brief(value, MOST_SHOWN))


def _name(name: str) -> str:
    """Return the name of a key, which a file may have made very long."""
    text = printable(name)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."
