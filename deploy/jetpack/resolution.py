"""What pip would install on another machine, from wheels alone.

The trap: pip, asked for another machine, still judges markers (`python_version < "3.11"`, `platform_machine == ...`) by
the interpreter that runs it. So what pip answers is checked here, wheel by wheel, against the target's own markers, and
pip is asked again with what it left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.tags import Target

ROUNDS: Final = 5  # each adds what the one before left out; two are enough for what there is today
WITHIN_S: Final = 600

Report: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[[Sequence[str], Target, Path | None], Report]


class CannotResolve(Exception):
    """Pip found no set of wheels; the message is pip's own last word."""


@dataclass(frozen=True)
class Wheel:
    """One wheel pip would install."""

    name: str
    version: str
    file: str


def resolve(wanted: Iterable[str], *, target: Target, constraints: Path | None, ask: Ask | None = None) -> list[Wheel]:
    """Return the wheels that satisfy requirements on a target, in order of their names. Raises CannotResolve."""
    ask = ask or ask_pip
    asked = [str(each) for each in applying(wanted, target=target)]
    for _ in range(ROUNDS):
        report = ask(asked, target, constraints)
        left_out = missing(report, target=target)
        if not left_out:
            return sorted((wheel_of(each) for each in report["install"]), key=lambda wheel: wheel.name)
        asked += left_out
    raise CannotResolve(f"still left out after {ROUNDS} rounds: {', '.join(left_out)}")


def applying(requirements: Iterable[str], *, target: Target, extras: Iterable[str] = ()) -> list[Requirement]:
    """Return the requirements whose markers hold on the target, without their markers."""
    kept = []
    environments = [target.environment() | {"extra": extra} for extra in ("", *extras)]
    for text in requirements:
        each = Requirement(text)
        if each.marker is None or any(each.marker.evaluate(environment) for environment in environments):
            each.marker = None
            kept.append(each)
    return kept


def missing(report: Report, *, target: Target) -> list[str]:
    """Return the requirements of a report's wheels that hold on the target and that the report has no wheel for."""
    there = {canonicalize_name(each["metadata"]["name"]) for each in report["install"]}
    found: dict[str, None] = {}
    for each in report["install"]:
        requires = each["metadata"].get("requires_dist") or []
        for requirement in applying(requires, target=target, extras=each.get("requested_extras") or ()):
            if canonicalize_name(requirement.name) not in there:
                found[str(requirement)] = None
    return list(found)


def wheel_of(entry: Report) -> Wheel:
    """Return one entry of pip's report as a wheel."""
    file = str(entry["download_info"]["url"]).rpartition("/")[2]
    return Wheel(canonicalize_name(entry["metadata"]["name"]), entry["metadata"]["version"], file)


def ask_pip(wanted: Sequence[str], target: Target, constraints: Path | None) -> Report:
    """Let pip resolve, and return its report. Raises CannotResolve."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--report=-", "--target=unused", *target.pip_options()]
    if constraints is not None:
        command.append(f"--constraint={constraints}")
    run = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    if run.returncode != 0:
        said = [line.removeprefix("ERROR: ") for line in run.stderr.splitlines() if line.startswith("ERROR: ")]
        raise CannotResolve(said[-1] if said else f"pip ended with {run.returncode}")
    report: Report = json.loads(run.stdout)
    return report
