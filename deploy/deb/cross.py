"""The compiled core as a wheel for the processor of the target: here as here, elsewhere by a cross-compiler.

For another processor three things come from Debian's archive for that processor, into a folder and never onto this
machine: Python's headers, pyconfig.h and _sysconfigdata, from which setuptools learns how extensions are named there.
The trap: it must be the same Python minor as the one that runs this, since that is the one whose bytecode and ABI tag
the wheel gets.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.tags import MACHINES

MINOR: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES: Final = [f"libpython{MINOR}-{part}" for part in ("dev", "minimal", "stdlib")]
LEFT_OUT: Final = (".git", ".venv*", ".cache", "build", "tests", "*.so", "__pycache__", "*.egg-info", "*.c")


class CannotBuild(Exception):
    """Something is missing or failed; the message names it and what to do."""


def own_wheel(source: Path, *, arch: str, work: Path, into: Path) -> Path:
    """Build Penstock's wheel for a Debian architecture from a copy of the sources, and return where it is."""
    copy = work / f"source-{arch}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    environ = dict(os.environ)
    # Debug information holds the folder of the build; without it the same sources give the same octets.
    environ["CFLAGS"] = "-g0"
    if MACHINES[arch] != platform.machine():
        environ |= cross_environ(arch, work=work)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(into)]
    run = subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise CannotBuild(f"the core does not compile for {arch}:\n{(run.stdout + run.stderr)[-2000:]}")
    shutil.rmtree(copy)
    (wheel,) = into.glob(f"penstock-*_{MACHINES[arch]}.whl")
    return wheel


def cross_environ(arch: str, *, work: Path) -> dict[str, str]:
    """Return the variables under which setuptools compiles for another architecture."""
    triplet = f"{MACHINES[arch]}-linux-gnu"
    if shutil.which(f"{triplet}-gcc") is None:
        raise CannotBuild(
            f"missing: {triplet}-gcc; on Debian: sudo apt-get install gcc-{triplet} libc6-dev-{arch}-cross"
        )
    root = headers(arch, work=work)
    include = root / "usr/include"
    compiler = f"{triplet}-gcc"
    return {
        "_PYTHON_HOST_PLATFORM": f"linux-{MACHINES[arch]}",
        "_PYTHON_SYSCONFIGDATA_NAME": f"_sysconfigdata__{triplet}",
        # The folder must hold that one module and no other: it goes before this interpreter's own library.
        "PYTHONPATH": str(root / "sysconfig"),
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared",
        # Before the headers of this machine, which setuptools names after those of CFLAGS.
        "CFLAGS": f"-g0 -O3 -fwrapv -DNDEBUG -I{include}/python{MINOR} -I{include}",
    }


def headers(arch: str, *, work: Path) -> Path:
    """Unpack Python's headers and build facts for another architecture, once, and return the folder."""
    root = work / f"{arch}-python{MINOR}"
    if (root / "sysconfig").is_dir():
        return root
    if shutil.which("apt-get") is None:
        raise CannotBuild(f"missing: apt-get, which brings Python's headers for {arch}")
    apt = work / "apt"
    for folder in (apt / "lists/partial", apt / "cache/archives/partial", apt / "debs"):
        folder.mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = {
        "APT::Architecture": arch, "APT::Architectures::": arch, "Dir::State": apt, "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    (apt / "conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    environ = {**os.environ, "APT_CONFIG": str(apt / "conf")}
    for command in (["update", "-qq"], ["download", "-qq", *(f"{name}:{arch}" for name in PACKAGES)]):
        run = subprocess.run(
            ["apt-get", *command], cwd=apt / "debs", env=environ, capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            wanted = " ".join(PACKAGES)
            raise CannotBuild(f"this machine's archive gives no {wanted} for {arch}: {run.stderr.strip()[-300:]}")
    for package in sorted((apt / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    name = f"_sysconfigdata__{MACHINES[arch]}-linux-gnu.py"
    found = next(root.glob(f"usr/lib/python3*/{name}"))
    (root / "sysconfig").mkdir()
    shutil.copy(found, root / "sysconfig" / name)
    shutil.rmtree(apt)
    return root
