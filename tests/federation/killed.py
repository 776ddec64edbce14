"""A program run again and again, killed at one place after the other: `python -m tests.federation.killed WHICH WORDS`.

`trainer` and `agent` are killed before their first file takes its place, their second, and so on, until they come to
their end; `release` at each step of a release, the last being behind all. Every run is a fork of one process, so that
imports are paid once. The last line of the output is the number of kills. `at_change` kills once, at a change on disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
PATIENCE_S = 180.0  # a guard against hanging
MOST_FILES = 30
STEPS = (
    ("federation.aggregator.releasing", "rehead", False),
    ("federation.aggregator.releasing", "rehead", True),
    ("federation.aggregator.releasing", "load_bundle", False),
    ("federation.aggregator.rollout.Rollouts", "begin", False),
    ("federation.aggregator.rollout.Rollouts", "begin", True),
)


def through_kills(which: str, words: Sequence[str]) -> int:
    """Run a program killed everywhere, in a process of its own; return the kills."""
    command = [sys.executable, "-m", "tests.federation.killed", which, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, timeout=PATIENCE_S, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{which} {words} ended with {done.returncode}: {done.stdout} {done.stderr}"
    return int(done.stdout.splitlines()[-1])


CHANGES = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from federation.aggregator.ledger import Ledger
from tests.federation import homes

kill_at, statements = int(sys.argv[3]), 0

class Dying(Ledger):
    def run(self, *told):
        global statements
        statements += 1
        if statements == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(*told)

homes.Ledger = Dying
import_module(sys.argv[1]).one_round(Path(sys.argv[2]))
"""


def at_change(module: str, folder: Path, number: int) -> None:
    """Run a test module's `one_round` in a process that is killed at the nth change of its ledger."""
    command = [sys.executable, "-c", CHANGES, module, str(folder), str(number)]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, timeout=PATIENCE_S, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def at_file(number: int) -> None:
    """Let this process be killed before its nth file takes its place."""
    left = number

    def dying(whole: Callable[..., None]) -> Callable[..., None]:
        def move(*places: Any, **options: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            whole(*places, **options)

        return move

    os.replace, os.rename = dying(os.replace), dying(os.rename)


def at_step(number: int) -> None:
    """Let this process be killed before or after what it does in a step of a release."""
    from pydoc import locate

    place, name, is_after = STEPS[number - 1]
    whole = getattr(locate(place), name)

    def dying(*given: Any, **named: Any) -> None:
        if is_after:
            whole(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(locate(place), name, dying)


def program_of(which: str) -> Callable[[Sequence[str]], int]:
    """Return what to run, imported."""
    import onnxruntime  # noqa: F401  (once, and not in every fork)

    if which == "trainer":
        from federation.gateway.program import main
    elif which == "agent":
        from tests.federation.house import serve as main
    else:
        from federation.aggregator.program import main
    return main


def run(which: str, words: Sequence[str]) -> int:
    """Run a program until it comes to its end; return how that was."""
    os.nice = lambda _: 0  # it would add up
    program, code = program_of(which), 0
    most = len(STEPS) if which == "release" else MOST_FILES
    for number in range(1, most + 1):
        if (child := os.fork()) == 0:
            (at_step if which == "release" else at_file)(number)
            code = program(["release", *words] if which == "release" else words)
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != -signal.SIGKILL:
            print(number - 1)
            return code
    print(most)
    return 0 if which == "release" else 1


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
