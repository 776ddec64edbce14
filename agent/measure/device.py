"""What a measurement ran on: board, mode, clocks, governors, temperatures, rails, versions. Read, never typed in."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from agent.monitoring.board import Board
from contracts.terminal import printable

PACKAGES: Final = ("penstock", "numpy", "onnxruntime", "onnxruntime-gpu")
MAX_POLICIES: Final = 64


def fingerprint(root: Path = Path("/")) -> dict[str, Any]:
    """Return what does not change while we measure; what the machine does not tell is None."""
    facts = Board(root).look()
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"))[:MAX_POLICIES]
    gpus = [path for pattern in ("*gpu*", "*ga10b*", "*gv11b*") for path in root.glob(f"sys/class/devfreq/{pattern}")]
    return {
        "board": facts.model or None,
        "l4t": facts.l4t or None,
        "power_mode": facts.power_mode or None,
        "processor": _processor(root),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "cpu_clocks": [_clock(path, "scaling_") for path in policies] or None,
        "gpu_clocks": [_clock(path, "") for path in sorted(set(gpus))[:MAX_POLICIES]] or None,
        "memory_mib": _memory_mib(root),
        "kernel": _text(root / "proc/sys/kernel/osrelease") or platform.release(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def moment(root: Path = Path("/")) -> dict[str, Any]:
    """Return what does: temperatures, rails, load; taken before and after."""
    facts = Board(root).look()
    load = re.match(r"[\d.]{1,16}", _text(root / "proc/loadavg"))
    return {
        "temperatures_celsius": {each.name: each.value for each in facts.temperatures_celsius} or None,
        "power_watts": {each.name: each.value for each in facts.power_watts} or None,
        "load_1min": None if load is None else float(load[0]),
    }


def clock_words(device: dict[str, Any]) -> str:
    """Return the clocks of a fingerprint in words, alike processors once; empty where none is told."""
    words = []
    for kind in ("cpu", "gpu"):
        for each in device[f"{kind}_clocks"] or ():
            mhz = each["mhz"]
            span = "locked" if each["locked"] else f"{_mhz(mhz['least'])} .. {_mhz(mhz['most'])}"
            words.append(f"{kind} {_mhz(mhz['now'])} MHz ({span}, {each['governor'] or 'no governor'})")
    return ", ".join(dict.fromkeys(words))


def _mhz(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _clock(folder: Path, prefix: str) -> dict[str, Any]:
    """Return a clock's governor and megahertz; locked is where it can only be one."""
    scale = 1e3 if prefix else 1e6  # processors are told in kHz, devices in Hz
    names = {"now": ("cur_freq",), "least": ("min_freq",), "most": ("max_freq",)}
    mhz = {key: _number(folder / f"{prefix}{name}", scale) for key, (name,) in names.items()}
    return {
        "name": printable(folder.name[:32]),
        "governor": _text(folder / f"{prefix}governor")[:32] or None,
        "mhz": mhz,
        "locked": mhz["least"] is not None and mhz["least"] == mhz["most"],
    }


def _processor(root: Path) -> str | None:
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.{1,80})", _text(root / "proc/cpuinfo"), re.M)
    return printable(match[1]) if match else None


def _memory_mib(root: Path) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d{1,15}) kB", _text(root / "proc/meminfo"), re.M)
    return int(match[1]) // 1024 if match else None


def _number(path: Path, scale: float) -> float | None:
    text = _text(path)
    return int(text) / scale if re.fullmatch(r"\d{1,15}", text) else None


def _text(path: Path) -> str:
    """Return a file's lines, empty where it does not answer; nothing in them steers a terminal."""
    try:
        with path.open("rb") as file:
            lines = file.read(1 << 16).decode(errors="replace").strip("\0 \n").split("\n")
    except OSError:
        return ""
    return "\n".join(printable(line.replace("\t", " ")) for line in lines)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
