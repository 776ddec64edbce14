"""The judging commands: what they ask for, and what they say without it."""

from __future__ import annotations

import importlib

import pytest

from contracts.errors import MissingExtra
from contracts.program import Parser
from training.commands import PARTS, add_commands

LINES = {
    "page": ["--bundle", "models/default", "-o", "out", "--unknown", "u.json"],
    "kinds": ["-o", "out.json", "--classes", "scan", "flood", "--seeds", "1", "2"],
    "unknown": ["-o", "out.json", "--seeds", "4", "5"],
    "devices": ["-o", "out.json"],
    "networks": ["-o", "out.json", "--networks", "gru", "dnn", "--baselines", "none", "--add"],
    "ablations": ["-o", "out.json", "--parts", "windows", "--epochs", "2"],
    "adversaries": ["--bundle", "models/default", "-o", "out.json", "--teach"],
}


def parsed(command):
    parser = Parser(prog="penstock-train")
    add_commands(parser.add_subparsers(dest="command", required=True))
    return parser.parse_args([command, *LINES[command]])


@pytest.mark.parametrize("command", LINES)
def test_a_command_without_what_it_needs_says_what_to_install(command, monkeypatch):
    arguments = parsed(command)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[train,cpu\]'"):
        arguments.run(arguments)


@pytest.mark.parametrize("command", LINES)
def test_a_command_runs_the_module_of_its_work_with_its_arguments(command, monkeypatch):
    ran = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    module = type("Module", (), {"run_command": staticmethod(lambda arguments: ran.append(arguments.command) or 0)})
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    arguments = parsed(command)

    assert arguments.run(arguments) == 0
    assert ran == [command]


def test_every_part_of_a_page_can_be_named():
    arguments = parsed("page")

    assert all(hasattr(arguments, part) for part in PARTS)
    assert str(arguments.unknown) == "u.json"


def test_a_study_may_leave_the_networks_out():
    parser = Parser(prog="penstock-train")
    add_commands(parser.add_subparsers(dest="command", required=True))

    assert parser.parse_args(["networks", "-o", "out.json", "--networks"]).networks == []
