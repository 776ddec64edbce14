"""The machine's own sensors and this process, read from /sys, /proc and /etc under a root that tests can fake.

Temperatures, power rails (ina3221), GPU load, power mode, model and L4T release where the board has them; memory, CPU
time, files and threads of this process. Nothing is run and nothing is assumed: a file that is absent is a sensor the
board has not, one that does not answer with a number is counted. The paths are those that NVIDIA's boards are known
by; none was measured on a board. Trap: one i2c rail may take milliseconds to read, so a thread of its own looks.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.monitoring.facts import BoardFacts, Reading
from contracts.files import open_regular
from contracts.terminal import printable

EVERY_S: Final = 10.0
MAX_READ_BYTES: Final = 4096
MAX_SENSORS: Final = 64
MAX_NAME: Final = 32
MAX_MODEL: Final = 128  # boards are called at length, kits more so
CELSIUS: Final = (-60.0, 200.0)  # a zone that is off says -256
UNUSED_RAIL: Final = "NC"
RAILS: Final = ("1", "2", "3", "4", "5", "6")  # on the Orin, 7 is a sum of others
GPU_LOADS: Final = (
    "sys/devices/57000000.gpu/load",
    "sys/devices/gpu.0/load",
    "sys/devices/17000000.ga10b/load",
    "sys/devices/17000000.gv11b/load",
    "sys/devices/platform/*gpu/load",
    "sys/class/devfreq/*gpu*/device/load",
    "sys/class/devfreq/*ga10b*/device/load",
    "sys/class/devfreq/*gv11b*/device/load",
)
NO_LIMIT: Final = 1 << 60  # cgroup v1 writes a number near 2^63 where there is no limit


class Board:
    """Looks at the machine; not thread-safe. `root` is / or a faked tree."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._unreadable = 0
        self._model = (self._text("proc/device-tree/model") or "").rstrip("\0")
        self._l4t = _l4t(self._text("etc/nv_tegra_release") or "")

    def look(self) -> BoardFacts:
        """Return what the sensors say now."""
        status = self._text("proc/self/status") or ""
        return BoardFacts(
            model=printable(self._model[:MAX_MODEL]),
            l4t=self._l4t,
            power_mode=self._power_mode(),
            temperatures_celsius=_distinct(self._temperatures()),
            power_watts=_distinct(self._rails()),
            gpu_load_ratio=self._gpu_load(),
            memory_bytes=_kib(status, "VmRSS"),
            memory_peak_bytes=_kib(status, "VmHWM"),
            memory_limit_bytes=self._memory_limit(),
            cpu_seconds=self._cpu_seconds(),
            open_files=self._open_files(),
            threads=_number(match[1]) if (match := re.search(r"^Threads:\s+(\d+)$", status, re.M)) else None,
            unreadable=self._unreadable,
        )

    def _temperatures(self) -> Iterator[Reading]:
        for zone in self._glob("sys/class/thermal/thermal_zone*"):
            celsius = self._value(zone / "temp", scale=1000)
            if celsius is not None and CELSIUS[0] <= celsius <= CELSIUS[1]:
                yield Reading(name=_name(self._text(zone / "type") or zone.name), value=celsius)

    def _rails(self) -> Iterator[Reading]:
        for device in self._ina3221():
            for iio in sorted(device.glob("iio:device*"))[:MAX_SENSORS]:
                yield from self._rails_of_iio(iio)
            for hwmon in sorted(device.glob("hwmon/hwmon*"))[:MAX_SENSORS]:
                yield from self._rails_of_hwmon(hwmon)

    def _ina3221(self) -> list[Path]:
        """Return the folders of the power monitors, each once, whatever its driver is called."""
        named = [path.parent for path in self._glob("sys/bus/i2c/devices/*/name") if _is_ina3221(self._text(path))]
        found = [*named, *self._glob("sys/bus/i2c/drivers/ina3221*/*-00*")]
        return list({os.path.realpath(path): path for path in found}.values())

    def _rails_of_iio(self, iio: Path) -> Iterator[Reading]:
        """Give the rails of the original Nano's driver: milliwatts, by themselves."""
        for name in sorted(iio.glob("rail_name_*"))[:MAX_SENSORS]:
            label, number = self._text(name) or "", name.name.rpartition("_")[2]
            watts = self._value(iio / f"in_power{number}_input", scale=1000)
            if watts is not None and label != UNUSED_RAIL:
                yield Reading(name=_name(label or number), value=watts)

    def _rails_of_hwmon(self, hwmon: Path) -> Iterator[Reading]:
        """Give the rails of the driver in Linux: millivolts and milliamperes."""
        for number in RAILS:
            label = self._text(hwmon / f"in{number}_label")
            if label is None or label in ("", UNUSED_RAIL):
                continue
            volts = self._value(hwmon / f"in{number}_input", scale=1000)
            amperes = self._value(hwmon / f"curr{number}_input", scale=1000)
            if volts is not None and amperes is not None:
                yield Reading(name=_name(label), value=volts * amperes)

    def _gpu_load(self) -> float | None:
        for pattern in GPU_LOADS:
            for path in self._glob(pattern):
                load = self._value(path, scale=1000)
                if load is not None and 0 <= load <= 1:
                    return load
        return None

    def _power_mode(self) -> str:
        """Return the name of nvpmodel's mode, or its number where its table does not name it; empty without any."""
        mode = re.search(r"pmode:(\d{1,8})", self._text("var/lib/nvpmodel/status") or "")
        if mode is None:
            return ""
        number = int(mode[1])
        table = self._text("etc/nvpmodel.conf", most=64 << 10) or ""
        name = re.search(rf"POWER_MODEL\s+ID=0*{number}\s+NAME=([\w.-]{{1,{MAX_NAME}}})", table)
        return name[1] if name else str(number)

    def _memory_limit(self) -> int | None:
        """Return the memory this process' control group may take, None where there is no limit."""
        for line in (self._text("proc/self/cgroup") or "").splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if not path.startswith("/") or ".." in path:
                continue
            if controllers == "":
                text = self._text(f"sys/fs/cgroup{path}/memory.max")
            elif "memory" in controllers.split(","):
                text = self._text(f"sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
            else:
                continue
            limit = _number(text or "")
            if limit is not None and limit < NO_LIMIT:
                return limit
        return None

    def _cpu_seconds(self) -> float | None:
        stat = self._text("proc/self/stat") or ""
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        if len(fields) < 13:
            return None
        user, system = _number(fields[11]), _number(fields[12])
        return None if user is None or system is None else (user + system) / os.sysconf("SC_CLK_TCK")

    def _open_files(self) -> int | None:
        try:
            return len(os.listdir(self._root / "proc/self/fd"))
        except OSError:
            return None

    def _glob(self, pattern: str) -> list[Path]:
        return sorted(self._root.glob(pattern))[:MAX_SENSORS]

    def _value(self, path: Path, *, scale: int) -> float | None:
        """Return a sensor's number; None where there is no such file, and counted where it holds no number."""
        text = self._text(path)
        if text is None:
            return None
        number = _number(text)
        if number is None:
            self._unreadable += 1
            return None
        return number / scale

    def _text(self, path: Path | str, *, most: int = MAX_READ_BYTES) -> str | None:
        """Return what a file holds, without the white space around it; None where it is absent or does not answer."""
        try:
            with open_regular(self._root / path) as file:
                return file.read(most).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError:
            self._unreadable += 1
            return None


class BoardWatch:
    """A thread that looks every ten seconds; `latest` is what it saw last, and never waits."""

    def __init__(self, root: Path = Path("/"), *, every_s: float = EVERY_S) -> None:
        self._board = Board(root)
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-board", daemon=True)
        self.latest = self._board.look()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a sensor that hangs is not waited for."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _watch(self) -> None:
        while not self._is_over.wait(self._every_s):
            self.latest = self._board.look()


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else None


def _kib(status: str, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d{{1,15}}) kB$", status, re.M)
    return int(match[1]) * 1024 if match else None


def _l4t(text: str) -> str:
    """Return the release of NVIDIA's Linux.

    >>> _l4t("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref")
    'R32.7.1'
    """
    match = re.match(r"#\s*(R\d{1,4}) \(release\), REVISION: ([\d.]{1,16})", text)
    return f"{match[1]}.{match[2]}" if match else ""


def _is_ina3221(name: str | None) -> bool:
    return name is not None and name.startswith("ina3221")


def _name(text: str) -> str:
    return printable(text[:MAX_NAME])


def _distinct(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """Return the readings under names of their own: two zones may say the same, two metrics may not."""
    seen: dict[str, int] = {}
    found = []
    for reading in readings:
        seen[reading.name] = number = seen.get(reading.name, 0) + 1
        name = reading.name if number == 1 else f"{reading.name}#{number}"
        found.append(Reading(name=name, value=reading.value))
    return tuple(found[:MAX_SENSORS])
