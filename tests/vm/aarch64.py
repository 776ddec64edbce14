"""The arm64 package on an aarch64 Debian without a board: `python -m tests.vm.aarch64 PACKAGE`.

Programs of the other processor run by qemu-user, registered in a binfmt_misc of its own in a user namespace, so that
this machine stays as it is (Linux 6.7 or later). The packages of the guest are unpacked and not configured, which would
take an hour: dpkg is told to believe that they are there. It is far slower than a board: function, never time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

from tests.vm.machine import SUITE, CannotRun, call, need
from tests.vm.page import faults, page, rows_of, section, table

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).parent
INCLUDED: Final = ("python3", "libstdc++6", "libgcc-s1", "init-system-helpers")
EMULATOR: Final = "/usr/bin/qemu-aarch64-static"
# The ELF header of a program for aarch64, and which of its octets count; F: the emulator is opened once, here.
MAGIC: Final = (
    r":aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
    rf"{EMULATOR}:F"
)
CLONE_NEWUSER_AND_NEWNS: Final = 0x10000000 | 0x20000
APART: Final = f"""
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).unshare({CLONE_NEWUSER_AND_NEWNS}):
    sys.exit(f"no user namespace here: {{os.strerror(ctypes.get_errno())}}")
sys.stdin.read()
os.execvp(sys.argv[1], sys.argv[1:])
"""
WRITTEN: Final = (
    "Written by `python -m tests.vm.aarch64 --page`: the package that was cross-built here, installed by dpkg where all"
    " programs are aarch64's and qemu-user runs them; its compiled core's tests; the demo, whose alerts"
    " are compared with those of x86-64, octet by octet ([how](../install.md), `tests/vm/aarch64.py`)."
)
TESTED: Final = (
    *(f"tests/flowfeatures/test_{name}.py" for name in ("packet", "vector")),
    *(f"tests/contracts/test_{name}.py" for name in ("bundle", "bundle_refusals", "classes", "ground_truth", "trust")),
)


def main() -> int:
    """Install, test and remove, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm.aarch64", description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, metavar="DEB")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache/vm", metavar="DIR")
    parser.add_argument("--within", type=float, default=5400, metavar="S", help="how long it may take (5400)")
    parser.add_argument("--expected", type=Path, metavar="FILE", help="eve.json of the demo, made on this machine")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of results there")
    args = parser.parse_args()
    try:
        need("debootstrap", "dpkg-deb", "unshare", EMULATOR)
        said = live(args.package, work=args.work.resolve(), within_s=args.within, expected=args.expected)
    except CannotRun as exc:
        print(f"aarch64: {exc}", file=sys.stderr)
        return 69
    if args.page:
        args.page.write_text(results(said, package=args.package))
    wrong = faults(rows_of(said), said=said)
    print("\n".join([*table(rows_of(said)), *wrong]))
    return 1 if wrong else 0


def results(said: str, *, package: Path) -> str:
    """Return the page of results for what the guest printed."""
    emulator = subprocess.run([EMULATOR, "--version"], capture_output=True, text=True, check=True).stdout
    facts = {
        "run by": emulator.splitlines()[0],
        "package": f"`{package.name}`, {package.stat().st_size / 1e6:.1f} MB",
        "not in it": "a board, systemd, how long anything takes",
    }
    return page({"The arm64 package": section(said, facts=facts)}, title="On aarch64, without a board", written=WRITTEN)


def unpacked(work: Path) -> Path:
    """Return a folder with an aarch64 Debian's files, none of its packages configured."""
    root = work / "arm64"
    if (root / "unpacked").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    command = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", f"--include={','.join(INCLUDED)}"]
    call([*command, SUITE, str(root)], within_s=3600)
    finish(root)
    return root


def finish(root: Path) -> None:
    """Unpack what debootstrap's first stage only fetched, and write what configuring would have."""
    for package in sorted(root.glob("var/cache/apt/archives/*.deb")):
        call(["dpkg-deb", "-x", str(package), str(root)], within_s=300)
        package.unlink()
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    for name in ("proc", "sys", "dev"):  # debootstrap may have made links of them, to this machine's
        if (root / name).is_symlink():
            (root / name).unlink()
    for folder in ("proc", "sys", "dev", "mnt", "opt", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "usr/bin/awk").unlink(missing_ok=True)
    (root / "usr/bin/awk").symlink_to("mawk")
    (root / "unpacked").touch()


def live(package: Path, *, work: Path, within_s: float, expected: Path | None) -> str:
    """Let the package live in the guest, and return what was printed."""
    root = unpacked(work)
    payload = root / "mnt"
    shutil.copy(package, payload / "this.deb")
    shutil.copy(HERE / "guest.sh", payload / "guest.sh")
    shutil.copy(HERE / "life_aarch64.sh", payload / "script.sh")
    for folder in ("tests", "docs"):
        shutil.rmtree(payload / folder, ignore_errors=True)
        shutil.copytree(ROOT / folder, payload / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (payload / "pyproject.toml").write_text(
        re.sub(r"^addopts = .*$", 'addopts = "-q --import-mode=importlib -p no:cacheprovider"',
               (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    )  # fmt: skip
    if expected is not None:
        shutil.copy(expected, payload / "expected.json")
    wheels = payload / "test-wheels"
    wheels.mkdir(exist_ok=True)
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--dest", str(wheels)]
    # Pure Python, all of them: the same wheels for every processor.
    fetch += ["--only-binary=:all:", "--platform=any", "--python-version=3.11", "pytest>=8", "hypothesis>=6.100,<6.150"]
    call(fetch, within_s=600)
    registry = work / "binfmt"
    registry.mkdir(exist_ok=True)
    begin = (
        f"mount -t binfmt_misc none {registry} && printf '%s' '{MAGIC}' >{registry}/register && "
        f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && "
        f"exec chroot {root} /bin/sh /mnt/script.sh {' '.join(TESTED)}"
    )
    command = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", begin]
    with open(work / "aarch64.said", "w") as file:
        code = run_apart(command, output=file, within_s=within_s)
    said = (work / "aarch64.said").read_text(errors="replace")
    if code != 0 and not rows_of(said):
        raise CannotRun(said[-600:])
    return said


def run_apart(command: list[str], *, output: IO[str], within_s: float) -> int:
    """Run a program in a user and mount namespace of its own in which every user is who they are, and return its code.

    unshare(1) asks newuidmap for such a map, which refuses even root; and a program started before there is a map has
    lost its rights. So the child waits for the map between the two.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", APART, *command], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        own = os.readlink("/proc/self/ns/user")
        while child.poll() is None and os.readlink(f"/proc/{child.pid}/ns/user") == own:
            time.sleep(0.05)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{name}").write_text("0 0 65536")
        child.communicate(b"go", timeout=within_s)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"not done after {within_s:,.0f} s") from None
    finally:
        child.kill()
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
