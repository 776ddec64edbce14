"""The command line of `penstock`: finds the command, runs it, and turns every error into one line and an exit code.

A command's module is imported only when it is called, so that `penstock --help` does not wait for a network runtime.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from contracts.program import INTERRUPTED, Parser, run_program

COMMANDS = {
    "run": "watch interfaces, score their devices, write and send alerts",
    "replay": "read captures, score their devices, write and send alerts",
    "features": "write the flow records of captures, or of an interface, as CSV with CICIDS2017's columns",
    "demo": "replay the capture that comes with penstock and say who attacked whom",
    "check-config": "say whether penstock run could start with its configuration",
    "doctor": "say what on this machine keeps the agent from working well, and what to do about it",
    "bench": "measure what scoring costs on this device, and which settings suit it",
    "status": "show what the running agent sees, judges and delivers",
    "outbox": "show the alerts that wait for the broker: how many, how bad, how old",
    "mute": "silence alerts of a device, class or peer for a time; list what is silenced; undo it",
    "feedback": "say of an alert that it was benign or malicious",
    "explain": "show why an incident was raised: its flows, and what its device does otherwise",
    "model": "list the bundles kept on this gateway, let the agent take another one, or go back",
    "forget": "remove what is kept of a device on this machine",
    "bridge": "take alerts from a broker and write them where a SIEM reads: eve.json, stdout or syslog",
}

EPILOG = """\
examples:
  penstock demo
  penstock replay capture.pcap
  penstock replay monday.pcap tuesday.pcapng --home-net 192.168.1.0/24 --eve eve.json --json
  penstock replay capture.pcap --mqtt mqtt://127.0.0.1:1883 --gateway cellar --speed 10
  penstock features capture.pcap -o flows.csv
  sudo penstock run --interface eth0 --eve eve.json

exit codes:
    0  done
    1  demo: what was found is not what the ground truth says; doctor: something fails
   64  the command line cannot work
   65  a capture or ground truth is not what it must be: empty, truncated, of an unknown link type
   66  a file is missing or cannot be read
   69  something needed is not there: the broker (absent or refusing), an optional package, an agent that answers
   70  a mistake of ours; the traceback says where
   71  an interface cannot be captured
   73  an output file cannot be written
   74  the outbox on disk cannot be used
   77  capturing needs CAP_NET_RAW
   78  a setting cannot work; or the bundle cannot be run: unreadable, corrupt, not trusted, made for other columns
  130  stopped by Ctrl-C (143: by SIGTERM)
  141  who read our output went away
Where several things went wrong, each has its line and the first gives the code; what was read is reported all the same.
"""


class _Version(argparse.Action):
    """--version, which looks the version up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        from importlib.metadata import version

        print(f"penstock {version('penstock')}")
        parser.exit()


def build_parser(filled: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """Return the parser; only the commands in `filled` know their options, since that imports their modules."""
    parser = Parser(
        prog="penstock",
        description="Watch the flows through an IoT gateway and say which device is under attack or taken over.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for command, summary in COMMANDS.items():
        subparser = subparsers.add_parser(
            command,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command in filled:
            _module(command).add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run_program("penstock", lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def _run(arguments: Sequence[str]) -> int:
    # SIGHUP asks a running agent to read its settings anew, a bridge to open its file; one that starts does so anyway.
    if {"run", "bridge"} & set(arguments):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    args = build_parser([each for each in arguments if each in COMMANDS][:1]).parse_args(arguments)
    return int(_module(args.command).run(args))


def _module(command: str) -> Any:
    with _ending_at_once():
        return importlib.import_module(f"agent.commands.{command.replace('-', '_')}")


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process without a word: raised inside an import, it comes out as an error of the library."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
