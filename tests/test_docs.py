"""The docs name every command, option, exit code, make target and extra, and nothing in them points nowhere."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from contracts.errors import PenstockError
from flowfeatures import COLUMNS, CONTEXT_COLUMNS, UNDECODED_REASONS, FlowFeaturesError

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXIT_CODES = (ROOT / "docs" / "exit-codes.md").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def table_of(name: str) -> dict[str, str]:
    """Return the keys and values of one table of pyproject.toml (Python 3.10 has no tomllib)."""
    body = re.search(rf"^\[{re.escape(name)}\]\n(.*?)(?=^\[|\Z)", PYPROJECT, re.MULTILINE | re.DOTALL).group(1)
    return dict(re.findall(r'^([\w-]+) = "?([^"\n]*)', body, re.MULTILINE))


PROGRAMS = table_of("project.scripts")


def help_of(program: str, *words: str) -> str:
    """Return what `PROGRAM WORDS --help` prints."""
    module, _, function = PROGRAMS[program].partition(":")
    main = getattr(importlib.import_module(module), function)
    printed = io.StringIO()
    wide = mock.patch.dict(os.environ, COLUMNS="1000")  # argparse breaks lines at any hyphen
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue()


def commands_of(program: str) -> list[str]:
    """Return the commands that argparse lists under positional arguments, four columns in."""
    positional = re.search(r"^positional arguments:\n((?: +.*\n)+)", help_of(program), re.MULTILINE)
    return re.findall(r"^ {4}([a-z][\w-]*)", positional.group(1), re.MULTILINE) if positional else []


def command_lines() -> Iterator[tuple[str, ...]]:
    for program in PROGRAMS:
        yield (program,)
        yield from ((program, command) for command in commands_of(program))


def all_pages() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def subclasses(base: type) -> Iterator[type]:
    for child in base.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("line", list(command_lines()), ids=" ".join)
def test_every_command_and_each_of_its_options_is_documented(line: tuple[str, ...]):
    docs = all_pages()
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_of(*line))) - {"--help", "--version"}

    missing = [option for option in sorted(options) if not re.search(rf"{option}(?![\w-])", docs)]

    assert " ".join(line) in docs
    assert missing == []


@pytest.mark.parametrize("line", list(command_lines()), ids=" ".join)
def test_the_help_of_every_command_holds_an_example_of_it(line: tuple[str, ...]):
    examples = help_of(*line).partition("examples:\n")[2]

    assert re.search(rf"^  .*\b{re.escape(' '.join(line))}(?: |$)", examples, re.MULTILINE), examples


@pytest.mark.parametrize("base", [PenstockError, FlowFeaturesError], ids=lambda base: base.__name__)
def test_every_error_stands_in_the_row_of_its_exit_code(base: type):
    rows = {int(code): row for code, row in re.findall(r"^\| (\d+) \|(.*)$", EXIT_CODES, re.MULTILINE)}
    shipped = [kind for kind in [base, *subclasses(base)] if not kind.__module__.startswith("tests")]

    astray = [kind.__name__ for kind in shipped if f"`{kind.__name__}`" not in rows.get(kind.exit_code, "")]

    assert astray == []


def test_every_exit_code_that_penstock_prints_is_explained():
    printed = re.findall(r"^ +(\d+)  ", help_of("penstock").partition("exit codes:")[2], re.MULTILINE)

    assert len(printed) > 5
    assert [code for code in printed if f"| {code} |" not in EXIT_CODES] == []


def test_the_excerpt_in_the_readme_is_what_the_demo_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Devices, parties, classes and verdicts are compared; scores and times may differ between machines."""
    pytest.importorskip("onnxruntime")

    def said(text: str) -> list[str]:
        cells = [re.split(r"  +", line.strip()) for line in text.splitlines()]
        rows = ["  ".join(each[:3]) for each in cells if len(each) == 7]
        return rows + re.findall(r"(?:found|MISSED|false alarm) *:? *[^;\n]+", text)

    importlib.import_module("agent.cli").main(
        ["demo", "--eve", str(tmp_path / "eve.json"), "--record", str(tmp_path / "incidents.db")]
    )

    assert said(re.search(r"^```\n(device .*?)^```", README, re.MULTILINE | re.DOTALL).group(1)) == said(
        capsys.readouterr().out
    )


def committed_result(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_the_ratios_in_the_readme_are_those_of_the_committed_result():
    result = committed_result("extract")
    ratios = [case[unit]["penstock"] for case in result["comparisons"] for unit in ("cpu_ratio", "wall_ratio")]

    told = [f"{ratio['median']:.1f} ({ratio['low']:.1f} .. {ratio['high']:.1f}) x" for ratio in ratios]

    assert [text for text in told if text not in README] == []
    assert min(ratio["runs"] for ratio in ratios) >= 5


def test_the_million_flows_in_the_readme_are_those_of_the_committed_result():
    sides = committed_result("extract")["million"]["sides"]
    rates = {name: side["packets_per_cpu_s"]["median"] / 1e6 for name, side in sides.items()}
    peaks = {
        name: side["peak_mib"]["high" if name != "nfstream" else "median"] * 1.048576 for name, side in sides.items()
    }

    told = [
        f"{rates['penstock']:.2f} M packets per CPU second, {peaks['penstock']:.0f} MB at most",
        f"{rates['nfstream']:.2f} M, {peaks['nfstream']:,.0f} MB",
        f"{rates['penstock_default']:.2f} M packets per CPU second, {peaks['penstock_default']:.1f} MB at most",
    ]

    assert [text for text in told if text not in README] == []


def test_the_other_rows_in_the_readme_are_those_of_the_committed_results():
    points = committed_result("scaling")["points"]
    crafted = {mark["figure"].split()[0]: mark["measured"] for mark in committed_result("collisions")["marks"]}
    runs = committed_result("capture")["runs"]
    ring, sniff = runs["ring, flat out"], runs["sniff, flat out"]

    told = [
        ", ".join(f"{point['packet_ns']['median']:.0f} ns ({point['flows']:,})" for point in points),
        f"{crafted['worst']:.2f} x random keys ({crafted['strongest']:.0f} x",
        f"{ring['cpu_us_per_packet']['median']:.2f} CPU-us per packet, {ring['lost']['high']} lost",
        f"sniff`: {sniff['cpu_us_per_packet']['median']:.0f} CPU-us, {sniff['lost_percent']['median']:.1f} % lost",
    ]

    assert [text for text in told if text not in README] == []


def test_every_make_target_is_in_the_readme():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()

    assert [target for target in targets if target != "help" and f"make {target}" not in README] == []


def test_every_extra_is_in_the_readme():
    extras = table_of("project.optional-dependencies")

    assert [extra for extra in extras if f"`{extra}`" not in README] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_a_page_names_exists(page: Path):
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", page.read_text())
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    paths = {name for name in named if "/" in name and name.split("/")[0] in folders}
    paths |= {name for name in named if page.name == "README.md" and name.endswith((".md", ".toml", ".py"))}

    assert [name for name in sorted(paths) if not any((base / name).exists() for base in (ROOT, page.parent))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]

    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_page_of_columns_is_the_table_of_columns():
    page = (ROOT / "docs" / "FEATURES.md").read_text()

    listed = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", page, re.MULTILINE)

    assert listed == [(str(column.number), column.name, column.header) for column in COLUMNS]
    assert [reason for reason in UNDECODED_REASONS if f"`{reason}`" not in page] == []


def test_every_context_column_is_explained():
    page = next((ROOT / "docs" / "decisions").glob("*-context-columns.md")).read_text()

    assert [column for column in CONTEXT_COLUMNS if f"`{column}`" not in page] == []


def test_decisions_are_numbered_without_gaps_and_say_what_would_change_them():
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    parts = ("Context", "Options", "Decision", "Costs", "What would change our mind")

    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert [part for part in parts if f"**{part}.**" not in page.read_text()] == [], page.name
