"""Memory and CPU of a process, as the kernel counts them.

`resident` is every page a process has (Rss of /proc/PID/smaps_rollup): libraries, which others may share, and the ring
of a packet socket, among them. The trap: the kernel's own copy of a ring is that same memory, so it is counted once;
what it keeps for sockets and files beside that is nobody's resident memory and in no figure here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")


@dataclass(frozen=True)
class Memory:
    """In MiB, of one moment; `ring` are the pages of packet sockets among the resident ones."""

    resident: float
    ring: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Raises FileNotFoundError where there is no such process."""
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        sizes = {name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE)}
        ring_kib, is_ring = 0, False
        for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
            if MAPPING.match(line):
                is_ring = "socket:[" in line
            elif is_ring and line.startswith("Rss:"):
                ring_kib += int(line.split()[1])
        return cls(resident=sizes["Rss"], ring=ring_kib / 1024)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
