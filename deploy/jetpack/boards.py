"""The JetPacks, by what decides which wheels they take, as NVIDIA's pages say; no board was at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.tags import Target

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Board:
    """One way to install on a JetPack: `extra` names the runtime, `python` whose interpreter it is."""

    jetpack: str
    system: str
    whose_python: str
    extra: str
    target: Target

    @property
    def constraints(self) -> Path:
        """The versions that were found to fit."""
        suffix = "" if self.extra == "cpu" else f"-{self.extra}"
        return FOLDER / f"{self.jetpack}{suffix}.txt"

    @property
    def name(self) -> str:
        """As the table calls it."""
        return f"JetPack {self.jetpack}" + ("" if self.extra == "cpu" else f", {self.extra}")


def aarch64(python: str, glibc: str) -> Target:
    """Return a Jetson."""
    return Target(python=python, glibc=glibc, machine="aarch64")


BOARDS: Final = (
    Board("4.6", "Ubuntu 18.04", "own", "cpu", aarch64("3.11", "2.27")),
    Board("5", "Ubuntu 20.04", "own", "cpu", aarch64("3.11", "2.31")),
    Board("6", "Ubuntu 22.04", "system", "cpu", aarch64("3.10", "2.35")),
    Board("7", "Ubuntu 24.04", "system", "cpu", aarch64("3.12", "2.39")),
    Board("7", "Ubuntu 24.04", "system", "gpu", aarch64("3.12", "2.39")),
)
