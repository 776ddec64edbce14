"""New settings: applied whole, or not at all and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import AgentConfig, load_config
from agent.live.reload import APPLIED, Reload
from contracts.errors import ConfigError, OutputError


def settings(**changes: object) -> AgentConfig:
    overrides = {"capture.interfaces": ["eth0"]} | {name.replace("__", "."): value for name, value in changes.items()}
    return load_config(None, environ={}, overrides=overrides)


class Part:
    """A part of the agent that remembers what was applied to it."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.holds: list[int] = []

    def __call__(self, before: AgentConfig, after: AgentConfig) -> Callable[[], None]:
        if self.refuses:
            raise OutputError("eve: /nowhere: cannot be written")
        return lambda: self.holds.append(after.scoring.deadline_ms)


def test_every_part_takes_up_what_is_new():
    first, second = Part(), Part()
    reload = Reload(settings(), load=lambda: settings(scoring__deadline_ms=20), parts=(first, second))

    assert reload()
    assert (first.holds, second.holds) == ([20], [20])
    assert (reload.config.scoring.deadline_ms, reload.applied, reload.last) == (20, 1, APPLIED)


def test_where_one_part_refuses_none_takes_anything_up(capsys: pytest.CaptureFixture[str]):
    first, second = Part(), Part(refuses=True)
    reload = Reload(settings(), load=lambda: settings(scoring__deadline_ms=20), parts=(first, second))

    assert not reload()
    assert first.holds == []
    assert (reload.config.scoring.deadline_ms, reload.refused) == (50, 1)
    assert "reload refused, the settings of before hold: eve: /nowhere" in capsys.readouterr().err


def test_what_wants_a_restart_is_named_and_refuses_all_the_rest():
    part = Part()
    after = settings(scoring__deadline_ms=20, capture__max_flows=2000, gateway__state_dir=Path("/elsewhere"))
    reload = Reload(settings(), load=lambda: after, parts=(part,))

    assert not reload()
    assert part.holds == []
    assert reload.last.startswith("gateway.state_dir, capture.max_flows: changed, wanted a restart")


def test_settings_that_cannot_be_read_change_nothing():
    def load() -> AgentConfig:
        raise ConfigError("agent.toml:3: scoring.deadline_ms: 0, wanted more")

    reload = Reload(settings(), load=load, parts=(Part(),))

    assert not reload()
    assert reload.last.startswith("agent.toml:3")


def test_after_a_refusal_the_next_attempt_may_do():
    answers = iter([settings(capture__max_flows=2000), settings(scoring__deadline_ms=20)])
    part = Part()
    reload = Reload(settings(), load=lambda: next(answers), parts=(part,))

    assert [reload(), reload()] == [False, True]
    assert part.holds == [20]
    assert (reload.refused, reload.applied) == (1, 1)
