"""Writes build/penstock_VERSION_ARCH.deb for the architectures named (default: amd64 and arm64).

Wants dpkg-deb, and for another processor than this one a cross-compiler; no root. The package wants the Python minor
that runs this: `make deb PYTHON=python3.12 VENV=.venv-3.12` makes one for 3.12. Times in the package are those of
SOURCE_DATE_EPOCH (default: the last commit), so that the same wheels pack to the same octets.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.deb.cross import CannotBuild
from deploy.deb.tree import WHEELS, changelog, control, plant
from deploy.deb.wheels import oldest_glibc, wheelhouse
from deploy.tags import MACHINES

ROOT: Final = Path(__file__).resolve().parents[2]
FAILED: Final = 71
SOME_DATE: Final = "1767225600"  # 2026-01-01, where there is neither a variable nor git


def main() -> int:
    """Build what the command line names and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.deb", description=__doc__.splitlines()[0])
    parser.add_argument("arch", nargs="*", choices=[*MACHINES, []], metavar="ARCH", help="amd64, arm64 (default both)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build", metavar="DIR", help="default build/")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache/deb", metavar="DIR", help="kept between runs")
    parser.add_argument("--version", default=version(), help="default: pyproject's")
    args = parser.parse_args()
    os.environ.setdefault("SOURCE_DATE_EPOCH", last_commit_s())
    os.umask(0o022)
    args.output.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        for arch in args.arch or MACHINES:
            made = build(arch, version_=args.version, work=args.work.resolve(), output=args.output.resolve())
            print(f"{made}  {made.stat().st_size / 1e6:.1f} MB")
    except CannotBuild as exc:
        print(f"deb: {exc}", file=sys.stderr)
        return FAILED
    return 0


def build(arch: str, *, version_: str, work: Path, output: Path) -> Path:
    """Build the package of one architecture and return where it is."""
    if shutil.which("dpkg-deb") is None:
        raise CannotBuild("missing: dpkg-deb; on Debian: sudo apt-get install dpkg")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        wheels, root = Path(folder) / "wheels", Path(folder) / "root"
        wheels.mkdir()
        root.mkdir()
        wheelhouse(ROOT, arch=arch, work=work, into=wheels)
        maintainer = os.environ.get("DEBMAINTAINER", "Penstock <maintainers@penstock.invalid>")
        epoch_s = int(os.environ["SOURCE_DATE_EPOCH"])
        entry = changelog(version=version_, maintainer=maintainer, epoch_s=epoch_s)
        plant(root, source=ROOT, wheels=wheels, changelog=entry)
        glibc = oldest_glibc(root / WHEELS)
        control(root, version=version_, arch=arch, glibc=glibc, maintainer=maintainer)
        root.chmod(0o755)
        made = output / f"penstock_{version_}_{arch}.deb"
        pack(root, made)
    return made


def pack(root: Path, made: Path) -> None:
    """Let dpkg-deb pack a tree; what it packs is root's, whoever runs this."""
    # Wheels are compressed already: packing them hard costs minutes and saves nothing.
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(made)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise CannotBuild(f"dpkg-deb: {run.stderr.strip()}")


def version() -> str:
    """Return the version that pyproject.toml names."""
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def last_commit_s() -> str:
    """Return when the last commit was made, in seconds since the epoch."""
    git = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return SOME_DATE


if __name__ == "__main__":
    sys.exit(main())
