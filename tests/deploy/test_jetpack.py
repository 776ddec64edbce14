"""`make matrix`: what pip leaves out for another interpreter is asked for again, and a row that fails is told."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from deploy.jetpack import __main__ as program
from deploy.jetpack.boards import BOARDS, Board
from deploy.jetpack.resolution import CannotResolve, Report, applying, missing, resolve
from deploy.tags import Target

ROOT = Path(__file__).resolve().parents[2]
ORIN = Target(python="3.10", glibc="2.35", machine="aarch64")
JP7 = Target(python="3.12", glibc="2.39", machine="aarch64")


def entry(name: str, *requires: str, extras: Sequence[str] = ()) -> Report:
    """Return what pip's report says of one wheel."""
    return {
        "metadata": {"name": name, "version": "1.0", "requires_dist": list(requires)},
        "download_info": {"url": f"https://index.invalid/ab/{name}-1.0-py3-none-any.whl"},
        "requested_extras": list(extras),
    }


class Index:
    """Answers as pip does: with everything named, and with what it names in turn where this interpreter wants that."""

    def __init__(self, *entries: Report) -> None:
        self.entries = {each["metadata"]["name"]: each for each in entries}
        self.asked: list[list[str]] = []

    def __call__(self, wanted: Sequence[str], target: Target, constraints: Path | None) -> Report:
        self.asked.append(list(wanted))
        return {"install": [self.entries[Requirement(each).name] for each in wanted]}


def test_a_requirement_for_the_targets_python_that_pip_left_out_is_asked_for_again():
    index = Index(entry("pydantic", "backport>=1; python_version < '3.11'"), entry("backport", "tomli"), entry("tomli"))

    old = resolve(["pydantic"], target=ORIN, constraints=None, ask=index)
    new = resolve(["pydantic"], target=JP7, constraints=None, ask=index)

    assert [wheel.name for wheel in old] == ["backport", "pydantic", "tomli"]
    assert [wheel.name for wheel in new] == ["pydantic"]
    assert index.asked == [
        ["pydantic"],
        ["pydantic", "backport>=1"],
        ["pydantic", "backport>=1", "tomli"],
        ["pydantic"],
    ]


def test_what_never_comes_ends_with_its_name_instead_of_asking_for_ever():
    def stubborn(wanted: Sequence[str], target: Target, constraints: Path | None) -> Report:
        return {"install": [entry("a", "never")]}

    with pytest.raises(CannotResolve, match="never"):
        resolve(["a"], target=JP7, constraints=None, ask=stubborn)


def test_names_are_compared_as_the_index_writes_them():
    report = {"install": [entry("Typing_Inspection"), entry("b", "typing.inspection>=0.4")]}

    assert missing(report, target=JP7) == []


def test_a_requirement_of_an_extra_counts_only_where_the_extra_was_asked_for():
    requires = ["c>=2; extra == 'fast'"]

    assert missing({"install": [entry("a", *requires)]}, target=JP7) == []
    assert missing({"install": [entry("a", *requires, extras=["fast"])]}, target=JP7) == ["c>=2"]


def test_markers_are_judged_for_the_target():
    wanted = ["tomli>=2; python_version < '3.11'", "x; platform_machine == 'x86_64'", "y"]

    assert [str(each) for each in applying(wanted, target=ORIN)] == ["tomli>=2", "y"]
    assert [str(each) for each in applying(wanted, target=JP7)] == ["y"]


def run_with(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> int:
    """Run the program over boards of which some cannot be resolved."""

    def resolved(wanted: Sequence[str], *, target: Target, constraints: Path | None) -> list[Any]:
        answer = answers.get(target.glibc)
        if answer is not None:
            raise CannotResolve(answer)
        return [program.Wheel("onnxruntime", "1.2", "onnxruntime-1.2-cp312-cp312-manylinux_2_27_aarch64.whl")]

    monkeypatch.setattr(program, "resolve", resolved)
    monkeypatch.setattr(sys, "argv", ["jetpack"])
    return program.main()


def test_every_row_resolving_ends_with_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    code = run_with(monkeypatch, {})

    said = capsys.readouterr().out.splitlines()
    assert (code, len(said)) == (0, 1 + len(BOARDS))
    assert re.split(r"  +", said[1]) == [
        "JetPack 4.6",
        "Ubuntu 18.04",
        "3.11 (own)",
        "2.27",
        "onnxruntime 1.2",
        "1",
        "2.27",
    ]


def test_one_row_failing_ends_with_1_says_why_and_the_others_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code = run_with(monkeypatch, {"2.27": "No matching distribution found for onnxruntime"})

    said = capsys.readouterr().out
    assert code == 1
    assert "FAILS" in said.splitlines()[1]
    assert said.splitlines()[-1] == "JetPack 4.6: No matching distribution found for onnxruntime"
    assert said.count("onnxruntime 1.2") == len(BOARDS) - 1


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_constraints_file_pins_all_the_gateway_asks_for_within_the_bounds_it_asks_for(board: Board):
    """Without the network: names and versions are there; that wheels are is for `make matrix` to say."""
    lines = [line for line in board.constraints.read_text().splitlines() if line and not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    wanted = applying(program.wanted(program.tomllib.loads(program.PYPROJECT.read_text()), board), target=board.target)

    assert [str(each) for each in wanted if not each.specifier.contains(pinned.get(each.name.lower(), "0"))] == []


def test_the_original_nano_stays_below_the_runtime_that_its_glibc_cannot_load():
    assert "\nonnxruntime==1.28.0\n" in BOARDS[0].constraints.read_text()


@pytest.mark.slow
def test_the_whole_matrix_resolves_today():
    run = subprocess.run(
        [sys.executable, "-m", "deploy.jetpack"], cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False
    )
    if "No matching distribution" in run.stdout and "from versions: none" in run.stdout:
        pytest.skip("the index cannot be reached")

    assert run.returncode == 0, run.stdout + run.stderr
