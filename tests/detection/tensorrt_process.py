"""The TensorRT worker as a real process over a real socket, with the fake `tensorrt` and libcudart in their places."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from detection.tensorrt_client import TensorrtEngine
from tests.detection.onnx_model import F, W

ROOT = Path(__file__).resolve().parents[2]
FAKES = Path(__file__).with_name("fake_tensorrt")
WORKER = ROOT / "detection" / "tensorrt_worker.py"
HANG_GUARD_S = 60.0
RELEASES = ["8.2.1", "10.3.0"]
Batch = tuple[np.ndarray, np.ndarray]


def windows(count: int) -> Batch:
    values = np.random.default_rng(count).normal(size=(count, W, F)).astype(np.float32)
    return values, np.ones((count, W), np.float32)


class Clock:
    """A clock that only tests move."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def build_cudart(folder: Path) -> Path:
    """Compile the fake libcudart into a folder and return that; skips where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / "libcudart.so.12"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, FAKES / "cudart.c"], check=True, timeout=120)
    return folder


def is_running(pid: str) -> bool:
    """Tell whether a process is neither gone nor only waiting to be asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class WorkerProcess:
    """A worker of one release; ends with the `with` block."""

    interpreter = sys.executable

    def __init__(self, folder: Path, libraries: Path, *, version: str = "10.3.0", device: str = "Fake Tegra") -> None:
        self.folder, self.libraries, self.version, self.device = folder, libraries, version, device
        self.socket_path = str(folder / "socket")
        self.cache = folder / "cache"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, limits: str = "") -> WorkerProcess:
        """Start it, and return when it says that it listens; `limits` sets a constant of its: `SCORE_WITHIN_S = 2`."""
        self.folder.mkdir(exist_ok=True)
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.settimeout(HANG_GUARD_S)
        ready.bind(f"\0penstock-test-{os.getpid()}-{id(self)}-{time.monotonic_ns()}")
        environment = os.environ | {
            "PYTHONPATH": str(FAKES),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "LD_LIBRARY_PATH": str(self.libraries),
            "FAKE_TENSORRT": str(self.folder),
            "FAKE_TENSORRT_VERSION": self.version,
            "FAKE_CUDA_DEVICE": self.device,
            "NOTIFY_SOCKET": ready.getsockname().decode().replace("\0", "@"),
        }
        program = [str(WORKER)]
        if limits:
            environment["PYTHONPATH"] = f"{ROOT}:{FAKES}"
            script = f"import sys, detection.tensorrt_worker as worker; worker.{limits}; sys.exit(worker.main())"
            program = ["-c", script]
        command = [self.interpreter, *program, "--socket", self.socket_path, "--cache", str(self.cache)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            assert ready.recv(64) == b"READY=1"
        ready.close()
        return self

    def __enter__(self) -> WorkerProcess:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()  # its sessions die with it
            self.process.wait(HANG_GUARD_S)
            self.process = None

    def switch(self, name: str, word: str = "on") -> None:
        """Make the fakes misbehave: see them for the names."""
        (self.folder / name).write_text(word)

    def switch_off(self, name: str) -> None:
        (self.folder / name).unlink()

    def sessions(self) -> list[int]:
        """Return the process ids of its sessions that still run."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if is_running(pid)]

    def signal_session(self, number: signal.Signals) -> None:
        (pid,) = self.sessions()
        os.kill(pid, number)

    def calls(self) -> list[str]:
        """Return what TensorRT was asked to build and load so far."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def builds(self) -> int:
        return sum(each.startswith("build") for each in self.calls())

    def log(self) -> str:
        return (self.folder / "log").read_text()


def until(engine: TensorrtEngine, holds: Callable[[], bool]) -> None:
    """Have one window scored after the other until something holds, waiting for the worker's answers in between."""
    give_up_at = time.monotonic() + HANG_GUARD_S
    while not holds():
        assert time.monotonic() < give_up_at, (engine.tally, engine.last_problem)
        engine.score(*windows(1))
        link = engine._link
        if link is not None and not engine._is_ready:
            link.wait(0.2)


def until_trusted(engine: TensorrtEngine) -> TensorrtEngine:
    """Bring the engine to where the worker's scores count; clear its tally."""
    until(engine, lambda: engine.tally.scored > 0)
    engine.tally.scored = engine.tally.compared = 0
    engine.tally.fallbacks.clear()
    return engine


def fake_module(version: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("FAKE_TENSORRT_VERSION", version)
    monkeypatch.syspath_prepend(FAKES)
    spec = importlib.util.spec_from_file_location("fake_tensorrt_module", FAKES / "tensorrt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
