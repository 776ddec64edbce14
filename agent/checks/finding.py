"""One line of the doctor, and what a check may look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from agent.config import AgentConfig

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
State: TypeAlias = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What a check saw. `remedy` is what to do, empty where all is well."""

    check: str
    state: State
    seen: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """The machine as the checks see it: settings (None where they do not hold), and a root that tests fake.

    `packages` are the folders to look for installed packages in, None: where this interpreter looks.
    """

    config: AgentConfig | None = None
    interfaces: tuple[str, ...] = ()
    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    packages: tuple[str, ...] | None = None
    timeout_s: float = 5.0

    def text(self, name: str, *, most: int = 1 << 16) -> str:
        """Return what a file below the root holds, empty where it is not there or does not answer."""
        try:
            with open(self.root / name, "rb") as file:
                return file.read(most).decode(errors="replace")
        except OSError:
            return ""


Check: TypeAlias = Callable[[Patient], Iterator[Finding]]


def ok(check: str, seen: str) -> Finding:
    """Return a finding that is well."""
    return Finding(check, OK, seen)


def warn(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding the agent can work with, and that will be noticed."""
    return Finding(check, WARN, seen, remedy)


def fail(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding the agent cannot work with, or that makes what it says wrong."""
    return Finding(check, FAIL, seen, remedy)
