"""Network namespaces of a lab by name: entering one, ending what runs in it, and sweeping what killed labs left.

Names carry the process id, so that what a lab left behind is told from what one that still runs needs. The trap:
setns() acts on one thread; a process or thread started from inside `entered` stays there, everything else does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from contracts.errors import LabError
from lab.tools import find

NAMESPACE_PREFIX = "plab"
NETNS_FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise LabError(f"setns failed: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Let the calling thread, and what it starts, be in a namespace; come back at the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        target = os.open(NETNS_FOLDER / namespace, os.O_RDONLY)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def ip(arguments: Sequence[str], *, batch: Sequence[str] = ()) -> str:
    """Run `ip` with arguments, or with a batch of commands on its stdin; raises LabError with its first complaint."""
    done = subprocess.run(
        [find("ip"), *arguments], input="\n".join(batch) + "\n", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise LabError(f"ip {' '.join(arguments)}: {reason[0] if reason else done.returncode}")
    return done.stdout


def _namespace_pids(namespace: str) -> list[int]:
    """Return the processes in a namespace; none where it is gone."""
    with contextlib.suppress(LabError):
        return [int(pid) for pid in ip(["netns", "pids", namespace]).split() if int(pid) != os.getpid()]
    return []


def remove_namespace(namespace: str) -> None:
    """End every process in a namespace and delete it; nothing happens where it is gone."""
    for signal_number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 2.0)):
        for pid in _namespace_pids(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        deadline = time.monotonic() + patience_s
        while _namespace_pids(namespace) and time.monotonic() < deadline:
            time.sleep(0.05)
    with contextlib.suppress(LabError):
        ip(["netns", "del", namespace])


def stale_names(names: Sequence[str], *, is_alive: Callable[[int], bool]) -> list[str]:
    """Return those of the names that a lab made whose process is no longer there.

    >>> stale_names(["plab7-ab-cam", "plab8-cd-cam", "other"], is_alive=lambda pid: pid == 8)
    ['plab7-ab-cam']
    """
    stale = []
    for name in names:
        owner = name.removeprefix(NAMESPACE_PREFIX).split("-")[0]
        if name.startswith(NAMESPACE_PREFIX) and owner.isdigit() and not is_alive(int(owner)):
            stale.append(name)
    return stale


def sweep() -> list[str]:
    """Remove what labs that were killed left behind, namespaces and run folders; return the names of both."""
    temporary = Path(tempfile.gettempdir())
    swept = []
    for folder, remove in ((NETNS_FOLDER, remove_namespace), (temporary, _remove_run_folder)):
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for name in stale_names(names, is_alive=lambda pid: Path(f"/proc/{pid}").exists()):
            remove(name)
            swept.append(name)
    return swept


def make_run_folder() -> Path:
    """Return a new temporary folder whose name tells `sweep` whose it is; hosts' servers may read in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{NAMESPACE_PREFIX}{os.getpid()}-"))
    folder.chmod(0o755)
    return folder


def _remove_run_folder(name: str) -> None:
    shutil.rmtree(Path(tempfile.gettempdir(), name), ignore_errors=True)
