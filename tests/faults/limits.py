"""A limit that the kernel holds a process to: memory, or a share of a processor, by a control group made for a test."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CGROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 50_000


class Group:
    """One control group, of version 1 or 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, pid: int) -> None:
        """Put a process under the limit; what it starts from then on is under it too."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def read(self, *names: str) -> str:
        """Return what the first of these files that is there holds."""
        return next(((self.folder / name).read_text() for name in names if (self.folder / name).exists()), "")

    @property
    def peak_mib(self) -> float:
        """The most memory that was charged to the group, in MiB."""
        return int(self.read("memory.max_usage_in_bytes", "memory.peak").strip() or 0) / (1 << 20)

    @property
    def kills(self) -> int:
        """How many processes the kernel killed for memory."""
        lines = self.read("memory.events", "memory.oom_control").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextlib.contextmanager
def limited(*, memory_bytes: int | None = None, cores: float | None = None) -> Iterator[Group]:
    """Give a group with a limit on memory or on processor time; the test is skipped where none can be made."""
    controller = "memory" if memory_bytes is not None else "cpu"
    is_first = (CGROUPS / controller).is_dir()
    folder = CGROUPS / (controller if is_first else "") / f"penstock-test-{os.getpid()}-{secrets.token_hex(3)}"
    if memory_bytes is not None:
        settings = {"memory.limit_in_bytes" if is_first else "memory.max": str(memory_bytes)}
    else:
        quota = str(round((cores or 1.0) * PERIOD_US))
        settings = (
            {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota}
            if is_first
            else {"cpu.max": f"{quota} {PERIOD_US}"}
        )
    try:
        folder.mkdir()
        for name, value in settings.items():
            (folder / name).write_text(value)
    except OSError as exc:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group for {controller} can be made here: {exc.strerror}")
    try:
        yield Group(folder)
    finally:
        for _ in range(100):  # what was killed in it is gone a moment later
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)
