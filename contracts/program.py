"""What every command line of the project shares: how it reads arguments, and what an error becomes.

A program's `main` hands its work to `run_program`, which returns an exit code whatever happens: one line on standard
error for what was raised on purpose, a traceback for a mistake of ours, nothing for a reader that went away.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from contracts.terminal import complain, printable

USAGE: Final = 64
INTERNAL: Final = 70
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_log = logging.getLogger("penstock")


class Parser(argparse.ArgumentParser):
    """An argument parser that ends with one line and the documented code instead of argparse's three and 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


def give_examples(commands: Mapping[str, argparse.ArgumentParser], examples: str) -> None:
    """Show below the help of each command those lines of its program's examples that call it."""
    for command in commands.values():
        calls = re.compile(rf"  (?:sudo )?{re.escape(command.prog)}(?: |$)")
        own = [line for line in examples.splitlines() if calls.match(line)]
        command.epilog = "\n".join(["examples:", *own])
        command.formatter_class = argparse.RawDescriptionHelpFormatter


class PlainFormatter(logging.Formatter):
    """One line for a message, as many as it takes for a traceback, and nothing in them that steers a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def run_program(name: str, work: Callable[[], int]) -> int:
    """Do the work of a program and return its exit code.

    SystemExit, which argparse raises for --help and for usage, passes.
    """
    _replace_closed_streams()
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        code = _flushed(work)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_stdout()
        return PIPE_CLOSED
    except Exception as exc:
        return _code_of(exc, name)
    return code


def folder(text: str) -> Path:
    """Return the folder an option names; an empty name is none, and not the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("its name is empty")
    return Path(text)


def discard_stdout() -> None:
    """Point standard output at nothing: Python flushes it once more at exit, and would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace_closed_streams() -> None:
    """Give a program started with stdout or stderr closed something to write to, lest its files take their places."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _flushed(work: Callable[[], int]) -> int:
    """Do the work and see to it that what it printed, --help too, has gone out."""
    try:
        code = work()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def _code_of(error: Exception, name: str) -> int:
    """Say an error on standard error and return its exit code. Those raised on purpose carry one and need one line."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        complain(error, program=name)
        return code
    _log.error("internal error, please report it", exc_info=error)
    return INTERNAL
