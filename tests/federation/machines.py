"""A server and a gateway as their pages make them, in two throw-away roots that stay open while a test runs.

`deploy/install.sh` and the blocks of docs/aggregator.md are run as they stand; users, units, folders and rights are
theirs. What stands in for what is not there: `sudo` (we are root), `scp` (both roots see one folder), `systemctl`
(`tests/deploy/manager.py`), and an environment whose programs run the checkout, so that nothing is compiled or fetched.
All that runs there ends with `Machines`, or with the test's process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.steps import steps
from tests.deploy.throw_away import HOMES, MEMORY, OVERLAY, ROOT

PATIENCE_S = 180.0  # a guard against hanging
HOSTS = {"server": "fleet.example", "gateway": "attic", "authority": "authority"}
SHIMS = {
    "sudo": 'exec "$@"',
    "scp": 'for last; do :; done\nfor each; do [ "$each" = "$last" ] || cp "$each" "/desk/${last%:}/"; done',
    "systemctl": f"exec {sys.executable} /src/tests/deploy/manager.py " + '"$@"',
}
# Where these roots are a busy machine's, a board would wait with learning until that is over.
CALM = """
printf '0.10 0.10 0.10 1/100 1\\n' >{folder}/calm
mount --bind {folder}/calm {root}/proc/loadavg
for each in thermal power_supply; do [ ! -d {root}/sys/class/$each ] || mount -t tmpfs none {root}/sys/class/$each; done
"""
BEGIN = """
mkdir {root}/desk
mount --bind {desk} {root}/desk
printf '127.0.0.1 localhost fleet.example\\n' >{root}/etc/hosts
"""
# What install.sh takes for a Python: of an environment it makes the programs alone, and pip has nothing to do.
PYTHON = """#!/bin/sh
export PYTHONPATH=/src PYTHONDONTWRITEBYTECODE=1
case "${{1-}} ${{2-}}" in
"-m venv")
    for made; do :; done
    mkdir -p "$made/bin"
    cp "$0" "$made/bin/python"
    cp {shims}/program/* "$made/bin/" ;;
"-m pip") ;;
*) exec {python} "$@" ;;
esac
"""
PROGRAM = """#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -c \
    "import sys; from {module} import main; sys.exit(main())" "$@"
"""


class Machine:
    """One of the roots: commands are run in it, its files looked at."""

    def __init__(self, name: str, holder: subprocess.Popen[str], folder: Path) -> None:
        self.name, self._holder, self._root = name, holder, folder / name
        self.desk = f"/desk/{HOSTS[name]}"

    def path(self, place: str) -> Path:
        """Return where a file of it is seen from here."""
        return Path(f"/proc/{self._holder.pid}/root{self._root}{place}")

    def sh(self, text: str, *, is_ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run lines of sh as root on its desk; what ends with another code than 0 fails the test unless told so."""
        enter = [f"--{kind}=/proc/{self._holder.pid}/ns/{name}" for kind, name in
                 (("mount", "mnt"), ("pid", "pid_for_children"))]  # fmt: skip
        command = ["nsenter", *enter, "chroot", str(self._root), "/bin/sh", "-ec", f"cd {self.desk}\n{text}"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0 or not is_ok, f"{self.name}: {text}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done

    def json(self, text: str) -> Any:
        return json.loads(self.sh(text).stdout)

    def kill(self, unit: str) -> None:
        """End a service as a power cut would; return when it is gone."""
        self.sh(
            f"pid=$(cat /run/{unit}.service.pid); kill -KILL $pid\n"
            "while grep -q '^State:.[^Z]' /proc/$pid/status 2>/dev/null; do sleep 0.02; done"
        )

    def stop(self, unit: str) -> None:
        """End a service as systemd would."""
        self.sh(
            f"pid=$(cat /run/{unit}.service.pid); kill -TERM $pid\n"
            "while grep -q '^State:.[^Z]' /proc/$pid/status 2>/dev/null; do sleep 0.02; done"
        )

    def log(self, unit: str) -> str:
        path = self.path(f"/run/{unit}.service.log")
        return path.read_text() if path.exists() else ""


class Machines:
    """Both, installed and furnished by the page; `more` gateways get certificates beside the first one."""

    def __init__(self, folder: Path, *, captures: Path, more: tuple[str, ...], interface: str) -> None:
        self.folder, self.desk = folder / "roots", folder / "desk"
        self._more, self._interface = more, interface
        shims = folder / "shims"
        _write_shims(shims)
        for host in HOSTS.values():
            (self.desk / host).mkdir(parents=True)
        self.folder.mkdir()
        begin = ["set -e", MEMORY.format(folder=self.folder)]
        for name in ("server", "gateway"):
            root = self.folder / name
            told = {"room": self.folder / f"{name}.room", "root": root, "folder": self.folder, "desk": self.desk}
            begin.append(OVERLAY.format(source=ROOT, wheels=shims, homes=HOMES, **told))
            begin += [BEGIN.format(**told), CALM.format(**told)]
        begin.append("echo made; cat; :")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(begin)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "made\n":
            _, said = self._holder.communicate()
            pytest.skip(f"no overlay can be mounted here: {said.strip()[:300]}")
        self.server, self.gateway = (Machine(name, self._holder, self.folder) for name in ("server", "gateway"))
        for name in ("teaching", "judging"):
            self.server.sh(f"cp -r {captures / name} .")

    def install(self) -> None:
        """Run the installer on both, and let commands be found that are not there."""
        python = "--python /wheels/python3 --wheelhouse /wheels"
        self.server.sh(f"sh /src/deploy/install.sh --role aggregator {python}")
        self.gateway.sh(f"sh /src/deploy/install.sh --interface {self._interface} {python}")
        for machine in (self.server, self.gateway):
            machine.sh("cp /wheels/shim/* /usr/local/bin/")

    def follow(self, *, before: dict[int, str] | None = None) -> None:
        """Run the page's blocks in their order; `before` one, by its place, other lines in the same root."""
        for number, (place, text) in enumerate(steps()):
            machine = self.gateway if place == "gateway" else self.server
            if before is not None and number in before:
                machine.sh(before[number])
            more = f"attic {shlex.join(self._more)}; do"  # certificates
            lines = text.replace("attic; do", more) if place == "authority" else text
            machine.sh(f"cd /desk/{HOSTS[place]}\n{lines}")

    def close(self) -> None:
        """End all that runs there; nothing of it stays."""
        self._holder.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.communicate(timeout=PATIENCE_S)


def _write_shims(folder: Path) -> None:
    import tomllib  # there from 3.11 on, as the aggregator is

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    files = {f"shim/{name}": f"#!/bin/sh\n{text}\n" for name, text in SHIMS.items()}
    files |= {f"program/{name}": PROGRAM.format(module=told.partition(":")[0]) for name, told in scripts.items()}
    files["python3"] = PYTHON.format(python=sys.executable, shims="/wheels")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


@contextlib.contextmanager
def made(folder: Path, **options: Any) -> Iterator[Machines]:
    """Give machines, installed and not furnished yet; they do not outlive the block."""
    machines = Machines(folder, **options)
    try:
        machines.install()
        yield machines
    finally:
        machines.close()
