"""What the lab needs is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab
from contracts.errors import MissingTool, NeedsRoot
from lab import tools


def test_apt_txt_lists_the_packages_of_all_tools():
    lines = (Path(lab.__file__).parent / "apt.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]

    assert packages == sorted(set(tools.TOOL_PACKAGES.values()))


def test_without_root_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(tools.os, "geteuid", lambda: 1000)

    with pytest.raises(NeedsRoot, match="uid 1000"):
        tools.require_all()


def test_missing_tools_come_with_one_apt_line(monkeypatch):
    monkeypatch.setattr(tools.os, "geteuid", lambda: 0)
    monkeypatch.setattr(tools.shutil, "which", lambda tool, path: None if tool in ("hydra", "nmap") else f"/bin/{tool}")

    with pytest.raises(MissingTool, match=r"^not installed: hydra, nmap: apt-get install hydra nmap$"):
        tools.require_all()


def test_a_tool_that_is_not_there_names_its_package(monkeypatch):
    monkeypatch.setattr(tools.shutil, "which", lambda tool, path: None)

    with pytest.raises(MissingTool, match="apt-get install bind9-dnsutils"):
        tools.find("dig")
