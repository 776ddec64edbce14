"""Which wheels a Linux machine takes, as options of pip that let another machine resolve for it.

The trap: given `--platform`, pip takes exactly the tags it is given. A machine of glibc 2.28 takes manylinux_2_17 too,
but pip asked for manylinux_2_28 alone does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

OLDEST_GLIBC_MINOR: Final = 17  # manylinux2014, the oldest that there are aarch64 wheels for
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}  # as Debian and as Python call them
MANYLINUX: Final = re.compile(r"manylinux_2_(\d+)_")


@dataclass(frozen=True)
class Target:
    """A machine by what decides which wheels it takes, as "3.11", "2.36" and "aarch64"."""

    python: str
    glibc: str
    machine: str

    def platforms(self) -> Iterator[str]:
        """Give the platform tags this machine takes, the newest first."""
        newest = int(self.glibc.partition(".")[2])
        for minor in range(newest, OLDEST_GLIBC_MINOR - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
        yield f"manylinux2014_{self.machine}"
        yield f"linux_{self.machine}"

    def pip_options(self) -> list[str]:
        """Return the options that make pip resolve for this machine, from wheels alone."""
        options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}"]
        options += [f"--abi={abi}" for abi in (f"cp{self.python.replace('.', '')}", "abi3", "none")]
        return options + [f"--platform={tag}" for tag in self.platforms()]

    def environment(self) -> dict[str, str]:
        """Return what a requirement's marker sees on this machine; pip shows it the interpreter that runs pip."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def glibc_minor_wanted(wheel_name: str) -> int:
    """Return the oldest glibc 2.N that a wheel runs on by its name, 0 where the name asks for none."""
    return min((int(minor) for minor in MANYLINUX.findall(wheel_name)), default=0)
