"""What a check of the doctor may look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from agent.config import AgentConfig
from contracts.findings import Finding


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
