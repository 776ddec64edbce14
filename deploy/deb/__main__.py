"""Writes build/PACKAGE_VERSION_ARCH.deb, of both roles, for the architectures named (default: amd64 and arm64).

Wants dpkg-deb, and for another processor than this one a cross-compiler; no root. A package wants the Python minor
that runs this: `make deb PYTHON=python3.12 VENV=.venv-3.12` makes one for 3.12. Times in a package are those of
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.deb.cross import CannotBuild, own_wheel
from deploy.deb.role import AGGREGATOR, ROLES, Role
from deploy.deb.tree import changelog, control, plant
from deploy.deb.wheels import oldest_glibc, wheelhouse
from deploy.tags import MACHINES

ROOT: Final = Path(__file__).resolve().parents[2]
FAILED: Final = 71
AGGREGATORS_OLDEST: Final = (3, 11)
SOME_DATE: Final = "1767225600"  # 2026-01-01, where there is neither a variable nor git


def main() -> int:
    """Build what the command line names and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.deb", description=__doc__.splitlines()[0])
    parser.add_argument("arch", nargs="*", choices=[*MACHINES, []], metavar="ARCH", help="amd64, arm64 (default both)")
    parser.add_argument("--role", choices=[*ROLES], action="append", help="default both, each a package of its own")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build", metavar="DIR", help="default build/")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache/deb", metavar="DIR", help="kept between runs")
    parser.add_argument("--version", default=version(), help="default: pyproject's")
    args = parser.parse_args()
    roles = [ROLES[name] for name in args.role or ROLES]
    if sys.version_info < AGGREGATORS_OLDEST:
        print("deb: left out: the aggregator's, which runs on Python 3.11 or later", file=sys.stderr)
        roles.remove(AGGREGATOR)
    os.environ.setdefault("SOURCE_DATE_EPOCH", last_commit_s())
    os.umask(0o022)
    args.output.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        for arch in args.arch or MACHINES:
            wanted = {"version_": args.version, "work": args.work.resolve(), "output": args.output.resolve()}
            for made in build(arch, roles, **wanted):
                print(f"{made}  {made.stat().st_size / 1e6:.1f} MB")
    except CannotBuild as exc:
        print(f"deb: {exc}", file=sys.stderr)
        return FAILED
    return 0


def build(arch: str, roles: Sequence[Role], *, version_: str, work: Path, output: Path) -> Iterator[Path]:
    """Build the packages of one architecture, and give where each is. Our own wheel, the same in all, is built once."""
    if shutil.which("dpkg-deb") is None:
        raise CannotBuild("missing: dpkg-deb; on Debian: sudo apt-get install dpkg")
    maintainer = os.environ.get("DEBMAINTAINER", "Penstock <maintainers@penstock.invalid>")
    epoch_s = int(os.environ["SOURCE_DATE_EPOCH"])
    with tempfile.TemporaryDirectory(dir=work) as folder:
        own = own_wheel(ROOT, arch=arch, work=work, into=Path(folder))
        for role in roles:
            wheels, root = Path(folder) / f"{role.name}-wheels", Path(folder) / role.name
            wheels.mkdir()
            root.mkdir()
            wheelhouse(own, extra=role.extra, arch=arch, into=wheels)
            entry = changelog(role, version=version_, maintainer=maintainer, epoch_s=epoch_s)
            plant(root, role, source=ROOT, wheels=wheels, changelog=entry)
            control(root, role, version=version_, arch=arch, glibc=oldest_glibc(wheels), maintainer=maintainer)
            root.chmod(0o755)
            made = output / f"{role.package}_{version_}_{arch}.deb"
            pack(root, made)
            yield made


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
