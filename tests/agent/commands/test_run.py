"""`penstock run` before it watches anything: what it says to somebody who has just installed it."""

from __future__ import annotations

import pytest

from agent.commands import run
from contracts.program import Parser, run_program


def test_with_nothing_to_watch_it_says_how_to_name_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(run, "default_file", lambda: None)
    monkeypatch.delenv("PENSTOCK_CAPTURE__INTERFACES", raising=False)
    parser = Parser(prog="penstock run")
    run.add_arguments(parser)

    code = run_program("penstock", lambda: run.run(parser.parse_args([])))

    said = capsys.readouterr().err
    assert code == 78
    assert said.startswith("penstock: no /etc/penstock/agent.toml: capture.interfaces: missing")
    assert "--interface IFACE" in said
    assert said.count("\n") == 1
