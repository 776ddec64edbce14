"""Floods of `benchmarks.floods`, sent from the far end of a test's wire by a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys

from lab.namespaces import entered
from tests.conftest import ROOT
from tests.faults.running import PATIENCE_S


class Flood:
    """A sender at work in a namespace, from `with` to its end."""

    def __init__(self, namespace: str, *, kind: str, packets: int, rate_per_s: int) -> None:
        command = [sys.executable, "-m", "benchmarks.floods", "eth0", kind, str(packets), str(rate_per_s)]
        with entered(namespace):
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Flood:
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def sent(self) -> dict[str, float]:
        """Return what was sent, once all of it was."""
        said, _ = self._process.communicate(timeout=10 * PATIENCE_S)
        return json.loads(said)
