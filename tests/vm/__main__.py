"""`make vm`: boots a Debian per way of installing, lets it live through it, and prints and writes what was seen.

Wants root (debootstrap), QEMU, and the packages (`make deb`): the gateway's wheels are what deploy/install.sh installs
too. Nothing of this machine changes but the folder of work.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tests.deploy.steps import steps
from tests.vm import container
from tests.vm.machine import CannotRun, boot, call, debian, need
from tests.vm.page import faults, page, rows_of, section, sections_of, table

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).parent
LIVES: Final = {
    "install": "deploy/install.sh",
    "deb": "The package",
    "aggregator": "The aggregator",
    "aggregator_deb": "The aggregator's package",
}
# deploy/install.sh takes the wheels of the gateway's, whatever the role.
PACKAGE_OF: Final = dict.fromkeys(LIVES, "penstock") | {"aggregator_deb": "penstock-aggregator"}
SOMETHING_FAILED: Final = 1
CANNOT_RUN: Final = 69


def main() -> int:
    """Run the lives asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__.splitlines()[0])
    parser.add_argument("lives", nargs="*", metavar="LIFE", help=f"{', '.join(LIVES)} (default: all)")
    parser.add_argument("--deb", type=Path, metavar="FILE", help="default: the newest build/penstock_*_amd64.deb")
    parser.add_argument("--aggregator-deb", type=Path, metavar="FILE", help="likewise, build/penstock-aggregator_*")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache/vm", metavar="DIR")
    parser.add_argument("--within", type=float, default=5400, metavar="S", help="how long a life may take (5400)")
    parser.add_argument(
        "--container", action="store_true", help="systemd-nspawn instead of QEMU: native speed, our kernel"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write results there; what it says of lives not run now stays"
    )
    args = parser.parse_args()
    try:
        need("qemu-system-x86_64", "debootstrap", "mke2fs", "dpkg-deb")
        packages = {"penstock": args.deb or newest_package("penstock")}
        if "aggregator_deb" in (args.lives or LIVES):
            packages["penstock-aggregator"] = args.aggregator_deb or newest_package("penstock-aggregator")
        args.work.mkdir(parents=True, exist_ok=True)
        debian(args.work)
        start = container.boot if args.container else boot
        lives = args.lives or [*LIVES]
        where = {each: facts(args.work, each, packages, is_container=args.container) for each in lives}
        begin, work = partial(start, within_s=args.within), args.work.resolve()
        said = {each: live(each, packages=packages, work=work, start=begin) for each in lives}
    except CannotRun as exc:
        print(f"vm: {exc}", file=sys.stderr)
        return CANNOT_RUN
    wrong = []
    for each, text in said.items():
        print(f"{LIVES[each]}\n" + "\n".join(table(rows_of(text))))
        wrong += [f"{each}: {fault}" for fault in faults(rows_of(text), said=text)]
    print("\n".join(wrong) or "every check holds")
    if args.page:
        seen = sections_of(args.page.read_text()) if args.page.exists() else {}
        for each, text in said.items():
            seen[LIVES[each]] = section(text, facts=where[each])
        args.page.write_text(page({name: seen[name] for name in LIVES.values() if name in seen}))
    return SOMETHING_FAILED if wrong else 0


def newest_package(name: str) -> Path:
    """Return the package of a name that was built last."""
    found = sorted((ROOT / "build").glob(f"{name}_*_amd64.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CannotRun(f"no build/{name}_*_amd64.deb: make deb")
    return found[-1]


def live(name: str, *, packages: Mapping[str, Path], work: Path, start: Callable[..., str]) -> str:
    """Let a guest live through one way of installing, and return what it printed."""
    payload = work / name
    shutil.rmtree(payload, ignore_errors=True)
    payload.mkdir()
    for script in ("guest.sh", "aggregator.sh"):
        shutil.copy(HERE / script, payload / script)
    shutil.copy(HERE / f"life_{name}.sh", payload / "script.sh")
    if name.endswith("deb"):
        package = packages[PACKAGE_OF[name]]
        shutil.copy(package, payload / "this.deb")
        next_package(package, work=work, into=payload / "next.deb")
    else:
        call(["dpkg-deb", "-x", str(packages["penstock"]), str(work / "unpacked")], within_s=300)
        shutil.move(work / "unpacked/usr/lib/penstock/wheels", payload / "wheels")
        shutil.rmtree(work / "unpacked")
        for folder in ("deploy", "systemd", "docs"):
            left_out = shutil.ignore_patterns("results", "*.png", "__pycache__")
            shutil.copytree(ROOT / folder, payload / "source" / folder, ignore=left_out)
    if name.startswith("aggregator"):
        first_steps(payload)
    if name == "aggregator_deb":
        shutil.copy(packages["penstock"], payload / "gateway.deb")
    started = time.monotonic()
    said = start(work, payload=payload)
    shutil.rmtree(payload, ignore_errors=True)
    (work / f"{name}.txt").write_text(said)
    print(f"{LIVES[name]}: {time.monotonic() - started:,.0f} s", file=sys.stderr)
    return said


def first_steps(payload: Path) -> None:
    """Give the guest the blocks of docs/aggregator.md that a server runs before a gateway joins, and two captures."""
    (payload / "steps").mkdir()
    for number, (place, text) in enumerate(steps()):
        if place != "gateway":
            (payload / "steps" / f"{number}.sh").write_text(text)
    for name in ("teaching", "judging"):
        shutil.copytree(ROOT / "lab" / "demo", payload / "desk" / name)
    with open(payload / "desk" / "judging" / "capture.pcap", "ab") as file:
        file.write(bytes(16))  # the header of an empty packet: another capture


def next_package(package: Path, *, work: Path, into: Path) -> None:
    """Pack the same files under a later version, with a line more in the configuration file."""
    tree = work / "next-version"
    shutil.rmtree(tree, ignore_errors=True)
    call(["dpkg-deb", "-R", str(package), str(tree)], within_s=300)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:", 1))
    (settings,) = tree.glob("etc/penstock/*.toml")
    with open(settings, "a") as file:
        file.write("# A line of the next version.\n")
    call(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(into)], within_s=300)
    shutil.rmtree(tree)


def facts(work: Path, life: str, packages: Mapping[str, Path], *, is_container: bool) -> dict[str, str]:
    """Return where a life was seen."""
    package = packages[PACKAGE_OF[life]]
    host = ["systemd-nspawn" if is_container else "qemu-system-x86_64", "--version"]
    told = subprocess.run(host, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    booted = f"{told}, on this machine's Linux {platform.release()}" if is_container else f"{told}, no KVM"
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    release = (work / "debian.txt").read_text()
    if is_container:
        release = release.partition(",")[0]
    return {
        "guest": f"{release}, {platform.machine()}",
        "booted by": booted,
        "package" if life.endswith("deb") else "wheels of": f"`{package.name}`, {package.stat().st_size / 1e6:.1f} MB",
        "commit": commit.stdout.strip() or "not told",
        "not in it": "how long anything takes",
    }


if __name__ == "__main__":
    sys.exit(main())
