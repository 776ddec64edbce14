"""A stand-in for systemctl where no systemd runs: `systemctl start|restart|enable --now UNIT...` and nothing else.

It reads of a unit what decides whether a program starts: its command, user, environment, folders, capabilities and
condition; a unit of type notify is started once it says so. The rest of the sandbox is a booted machine's to show.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FOLDERS = [Path(each) for each in ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system")]
PREFIXES = {"StateDirectory": "/var/lib", "RuntimeDirectory": "/run", "LogsDirectory": "/var/log"}
PATIENCE_S = 300
STARTERS = (".timer", ".path")


def unit_text(name: str) -> str:
    for folder in FOLDERS:
        if (folder / name).exists():
            return (folder / name).read_text()
    sys.exit(f"Unit {name} not found.")


def start(name: str) -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", unit_text(name), re.MULTILINE))
    if (wanted := unit.get("ConditionPathExists")) and not Path(wanted).exists():
        return  # as systemd: passed over in silence
    user = unit.get("User", "root")
    for key, prefix in PREFIXES.items():
        for each in unit.get(key, "").split():
            subprocess.run(["install", "-d", "-o", user, "-g", user, "-m", "0700", f"{prefix}/{each}"], check=True)
    told = dict(each.split("=", 1) for each in shlex.split(unit.get("Environment", "")))
    environ = {**os.environ, "HOME": "/", **told}
    command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    if rights := unit.get("AmbientCapabilities", "").lower().replace("cap_", "+").split():
        command += [f"--inh-caps={','.join(rights)}", f"--ambient-caps={','.join(rights)}"]
    command += shlex.split(unit["ExecStart"])
    for before in re.findall(r"^ExecStartPre=[-+!@:]*(.*)$", unit_text(name), re.MULTILINE):
        subprocess.run(shlex.split(before), check=True)
    if unit.get("Type") == "oneshot":
        subprocess.run(command, env=environ, check=True, cwd="/")
    else:
        _serve(name, command, environ=environ)


def _serve(name: str, command: list[str], *, environ: dict[str, str]) -> None:
    pid_file = Path("/run") / f"{name}.pid"
    if pid_file.exists():
        _end(int(pid_file.read_text()))
    place = f"/run/{name}.notify"
    Path(place).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, open(f"/run/{name}.log", "ab") as log:
        manager.bind(place)
        os.chmod(place, 0o777)
        manager.settimeout(1)
        process = subprocess.Popen(
            command, env={**environ, "NOTIFY_SOCKET": place}, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
        pid_file.write_text(str(process.pid))
        deadline_s = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                if b"READY=1" in manager.recv(4096):
                    return
            except TimeoutError:
                continue
    sys.exit(f"{name} did not start:\n{Path(f'/run/{name}.log').read_text()[-2000:]}")


def _end(pid: int) -> None:
    # It ended by itself, was killed, or is gone between two looks: the kernel says so in either way.
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGTERM)
        while " Z " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.1)


if __name__ == "__main__":
    words = [each for each in sys.argv[1:] if not each.startswith("-")]
    if words[0] not in ("start", "restart", "enable"):
        sys.exit(f"not built here: {words[0]}")
    for each in words[1:]:
        unit_name = each if "." in each else f"{each}.service"
        if unit_name.endswith(STARTERS):
            unit_text(unit_name)  # it is there; time does not pass here
        else:
            start(unit_name)
