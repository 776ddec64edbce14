"""The sample file and the tables of docs/configuration.md, written from the model: `python -m agent.config.pages`.

A test holds both against the model, so a setting cannot be added, renamed or given another default in one place alone.
In the sample every setting stands once, behind a `#` unless it must be set: what is commented out takes the default of
the version that runs.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from agent.config.model import sections
from agent.config.section import Section, restarts, wanted

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLE: Final = ROOT / "deploy" / "agent.toml"
PAGE: Final = ROOT / "docs" / "configuration.md"
BEGIN: Final = "<!-- written by python -m agent.config.pages: from here -->"
END: Final = "<!-- to here -->"
WIDTH: Final = 100

HEAD: Final = """\
# Settings of `penstock run`. Each key stands here once with its default; docs/configuration.md explains.
# Files of conf.d/ beside this one (*.toml, in order of their names) override it, then the environment
# (PENSTOCK_SCORING__DEADLINE_MS=20), then the command line. After a change: penstock check-config
"""


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it.

    >>> toml_value(16777216), toml_value(("a", "b")), toml_value(True), toml_value(300.0)
    ('16_777_216', '["a", "b"]', 'true', '300.0')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:_}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)  # a basic string of TOML is one of JSON, but for DEL


def sample(*, active: bool = False) -> str:
    """Return the sample file; `active` without the `#` before settings, for tests that read every one of them."""
    blocks = [HEAD]
    for name, section in sections().items():
        lines = [*_comment(_first_line(section)), f"[{name}]"]
        for key, field in section.model_fields.items():
            lines += ["", *_comment(f"{field.description} ({wanted(field)})"), _line(key, field, active=active)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def tables() -> str:
    """Return the tables of docs/configuration.md, one per section."""
    parts = []
    for name, section in sections().items():
        rows = [
            f"### `[{name}]`",
            "",
            _first_line(section),
            "",
            "| key | default | wanted | |",
            "| --- | --- | --- | --- |",
        ]
        for key, field in section.model_fields.items():
            restart = " *Restart.*" if restarts(field) else ""
            told = f"{field.description}{restart}"
            rows.append(f"| `{key}` | {_default_cell(field)} | {_cell(wanted(field))} | {_cell(told)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def page(text: str) -> str:
    """Return the text of docs/configuration.md with its tables anew. Raises ValueError without the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"wanted the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def write() -> None:
    """Write both files."""
    SAMPLE.parent.mkdir(exist_ok=True)
    SAMPLE.write_text(sample(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().split("\n")[0]


def _comment(text: str) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False))


def _line(key: str, field: FieldInfo, *, active: bool) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    value = extra.get("sample", _default_or_example(field))
    return f"{'' if active or 'sample' in extra else '#'}{key} = {toml_value(value)}"


def _default_or_example(field: FieldInfo) -> Any:
    default = None if field.default_factory is not None else field.get_default()
    if (default is None or field.is_required()) and field.examples:
        return field.examples[0]
    return default


def _is_unset(field: FieldInfo) -> bool:
    return not field.is_required() and field.default_factory is None and field.get_default() is None


def _default_cell(field: FieldInfo) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if field.is_required():
        return "must be set"
    if "default_text" in extra:
        return _cell(str(extra["default_text"]))
    return "unset" if _is_unset(field) else f"`{toml_value(field.get_default())}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write()
