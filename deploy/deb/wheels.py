"""The wheelhouse inside a package: our own wheel, what it depends on, and the pip that installs them on the target.

Versions are pinned in constraints.txt, so that the same sources make the same package next year. The environment is
made on the target from this folder alone: nothing is fetched there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from deploy.deb.cross import MINOR, CannotBuild
from deploy.tags import MACHINES, Target, glibc_minor_wanted

CONSTRAINTS: Final = Path(__file__).with_name("constraints.txt")
GLIBC: Final = "2.36"  # Debian 12's
SYMBOL: Final = re.compile(rb"GLIBC_2\.(\d{1,3})\b")


def wheelhouse(own: Path, *, extra: str, arch: str, into: Path) -> None:
    """Fill a folder with every wheel the target needs: our own, its extras', and pip's."""
    target = Target(python=MINOR, glibc=GLIBC, machine=MACHINES[arch])
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-input", "--disable-pip-version-check"]
    command += [f"--dest={into}", f"--constraint={CONSTRAINTS}", *target.pip_options(), f"{own}[{extra}]", "pip"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise CannotBuild(f"the dependencies do not resolve for {arch}:\n{(run.stdout + run.stderr)[-2000:]}")


def oldest_glibc(wheels: Path) -> str:
    """Return the oldest glibc on which all of a folder's wheels run: by their names, and our own by its symbols."""
    minors = [glibc_minor_wanted(path.name) for path in wheels.glob("*.whl")]
    for own in wheels.glob("penstock-*.whl"):
        with zipfile.ZipFile(own) as archive:
            cores = [archive.read(name) for name in archive.namelist() if name.endswith(".so")]
        minors += [int(minor) for octets in cores for minor in SYMBOL.findall(octets)]
    return f"2.{max(minors)}"
