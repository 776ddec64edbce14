"""The sample and the page hold every setting, with the default that the model has, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config import load_config
from agent.config.model import AgentConfig, changed, fields, sections, want_restart
from agent.config.pages import PAGE, SAMPLE, page, sample
from agent.config.section import wanted

ACTIVE = [
    name for name, key, field in fields() for name in [f"{name}.{key}"] if "sample" in (field.json_schema_extra or {})
]


def settings_in(text: str) -> list[str]:
    """Return the settings of a file in order, commented out or not."""
    found, section = [], ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif key := re.match(r"#?(\w+) = ", line):
            found.append(f"{section}.{key[1]}")
    return found


def loaded(text: str, folder: Path) -> AgentConfig:
    (folder / "agent.toml").write_text(text)
    return load_config(folder / "agent.toml", environ={}, overrides={})


def test_the_sample_is_the_one_the_model_writes():
    assert SAMPLE.read_text() == sample(), "write it: python -m agent.config.pages"


def test_the_page_is_the_one_the_model_writes():
    text = PAGE.read_text()

    assert text == page(text), "write it: python -m agent.config.pages"


def test_every_setting_stands_in_the_sample_once():
    assert settings_in(sample()) == [f"{section}.{key}" for section, key, _ in fields()]


def test_every_setting_and_every_section_is_on_the_page():
    text = PAGE.read_text()

    assert [name for name in sections() if f"### `[{name}]`" not in text] == []
    assert [key for _, key, _ in fields() if f"| `{key}` |" not in text] == []


def test_the_sample_as_shipped_loads_and_changes_only_what_must_be_set(tmp_path: Path):
    config = loaded(sample(), tmp_path)

    assert changed(config, AgentConfig.model_validate({"capture": {"interfaces": ["eth0"]}})) == ["eve.path"]
    assert ACTIVE == ["capture.interfaces", "eve.path"]


def test_the_sample_with_nothing_commented_out_loads_and_shows_the_defaults(tmp_path: Path):
    """Settings without a default show an example, which must be valid too."""
    config = loaded(sample(active=True).replace('transport = "udp"', 'transport = "tls"'), tmp_path)

    plain = AgentConfig.model_validate({"capture": {"interfaces": ["eth0"]}})
    without_default = {
        f"{section}.{key}"
        for section, key, field in fields()
        if not field.is_required() and (field.default_factory is not None or field.get_default() is None)
    }
    assert set(changed(config, plain)) - {"syslog.transport"} <= without_default


@pytest.mark.parametrize(("section", "key", "field"), [pytest.param(*each, id=".".join(each[:2])) for each in fields()])
def test_a_setting_says_what_it_is_for_and_what_it_wants(section: str, key: str, field):
    assert field.description
    assert field.description.endswith((".", ")"))
    assert wanted(field)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", key)


def test_a_page_without_its_marks_is_not_written():
    with pytest.raises(ValueError, match="wanted the lines"):
        page("# Configuration\n")


def test_settings_that_a_reload_cannot_change_are_told():
    before = AgentConfig.model_validate({"capture": {"interfaces": ["eth0"]}})
    after = AgentConfig.model_validate({"capture": {"interfaces": ["eth1"]}, "scoring": {"deadline_ms": 20}})

    assert changed(before, after) == ["capture.interfaces", "scoring.deadline_ms"]
    assert want_restart(changed(before, after)) == ["capture.interfaces"]
