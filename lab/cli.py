"""The command `penstock-lab`: record a labelled capture, show a plan, check a capture against its truth."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from contracts.errors import UsageError
from contracts.program import Parser, run_program
from contracts.terminal import brief, complain, printable

PROGRAM = "penstock-lab"

EXAMPLES = """examples:
  sudo penstock-lab record -o out/seed-7 --seed 7
  sudo penstock-lab record -o out/calm --seed 8 --attacks none --duration 300
  sudo penstock-lab record -o out/three --seed 9 --attacks telnet,syn_flood,port_scan --json
  sudo penstock-lab record -o lab/demo --demo --snap-bytes 128
  sudo penstock-lab series -o .cache/lab --seeds 1,2,3
  penstock-lab plan --seed 7
  penstock-lab check out/seed-7/capture.pcap out/seed-7/ground_truth.json
  penstock-lab tools

exit codes: 0 done, 1 check found a disagreement, 64 wrong usage, 65 not a capture or no ground truth, 69 a tool is
missing (its apt line is printed), 71 the network could not be built or the recording lost packets, 77 not root
"""
SHORT_NAMES = {"telnet": "telnet_hydra"}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A small gateway network in Linux namespaces: real tools, real attacks, labelled captures.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    record = commands.add_parser("record", help="play a plan and write capture.pcap and ground_truth.json (root)")
    record.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    record.add_argument(
        "--snap-bytes",
        type=int,
        default=262144,
        metavar="N",
        help="bytes kept of each packet (default: all); the original length is kept in any case",
    )
    plan = commands.add_parser("plan", help="print the plan of a seed as JSON")
    for command in (record, plan):
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("--seed", type=int, metavar="N", help="what everything is drawn from")
        which.add_argument("--demo", action="store_true", help="the plan of the committed demo capture")
        command.add_argument("--duration", type=float, default=90.0, metavar="S", help="seconds at least (default 90)")
        command.add_argument("--attacks", metavar="LIST", help="techniques in their order, or none (default: drawn)")
        command.add_argument("--count", type=int, default=4, metavar="N", help="attacks to draw (default 4)")
        command.add_argument("--devices", type=int, default=0, metavar="N", help="devices at least 6 (default: drawn)")
    series = commands.add_parser("series", help="record what training uses and is not there yet (root; hours)")
    series.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="gets a folder seed-N for each")
    series.add_argument("--list", type=Path, default=None, metavar="FILE", help="default: lab/recordings.txt")
    series.add_argument("--seeds", metavar="N,N", help="only these of the list")
    series.add_argument("--snap-bytes", type=int, default=128, metavar="N", help="default 128")
    check = commands.add_parser("check", help="compare a capture with its ground truth")
    check.add_argument("capture", type=Path, metavar="CAPTURE")
    check.add_argument("truth", type=Path, metavar="GROUND_TRUTH")
    tools = commands.add_parser("tools", help="say which tools are there, and the apt line for those that are not")
    for command in (record, check, tools):
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _techniques(text: str | None) -> list[str] | None:
    from lab.attacks import TECHNIQUES

    if text is None:
        return None
    names = [SHORT_NAMES.get(name, name) for name in text.split(",") if name and name != "none"]
    for name in names:
        if name not in TECHNIQUES:
            raise UsageError(f"no attack named {brief(name)}; there are {', '.join(TECHNIQUES)}")
    return names


def _draw(arguments: argparse.Namespace) -> Any:
    from lab.demo_plan import draw_demo_plan
    from lab.scenario import draw_plan

    if arguments.demo:
        return draw_demo_plan()
    return draw_plan(
        arguments.seed,
        duration_s=arguments.duration,
        attacks=_techniques(arguments.attacks),
        count=arguments.count,
        devices=arguments.devices,
    )


def _say(text: str) -> None:
    complain(text, program=PROGRAM)


def _record(arguments: argparse.Namespace) -> int:
    from lab.record import record
    from lab.tools import require_all
    from lab.truth import check

    require_all()
    plan = _draw(arguments)
    _say(f"recording {plan.duration_s:.0f} s")
    done = record(plan, arguments.output, snap_bytes=arguments.snap_bytes, say=_say)
    problems = check(done.capture, done.truth)
    summary = {
        "capture": str(done.capture),
        "ground_truth": str(done.truth),
        "packets": done.packets,
        "bytes": done.bytes,
        "attacks": [interval["tool"] for interval in done.intervals],
        "problems": problems,
    }
    if arguments.json:
        print(json.dumps(summary))
    else:
        print(f"{printable(str(done.capture))}: {done.packets} packets, {len(done.intervals)} attacks")
    for problem in problems:
        _say(problem)
    return 1 if problems else 0


def _series(arguments: argparse.Namespace) -> int:
    from lab.series import DEFAULT_LIST, folder_of, read_series, still_missing
    from lab.tools import require_all

    require_all()
    series = read_series(arguments.list or DEFAULT_LIST)
    if arguments.seeds:
        series = {seed: series[seed] for seed in _seeds_of(arguments.seeds, known=series)}
    missing = still_missing(series, arguments.output)
    for number, seed in enumerate(missing, start=1):
        _say(f"seed {seed}, {number} of {len(missing)}")
        command = ["record", "-o", str(folder_of(seed, arguments.output)), "--seed", str(seed)]
        code = _record(_parser().parse_args([*command, "--snap-bytes", str(arguments.snap_bytes), *series[seed]]))
        if code:
            return code
    print(f"{printable(str(arguments.output))}: {len(series)} recordings, {len(missing)} of them new")
    return 0


def _seeds_of(text: str, *, known: Collection[int]) -> list[int]:
    seeds = [int(word) for word in text.split(",") if word.strip().isdecimal()]
    if not seeds or not set(seeds) <= set(known):
        raise UsageError(f"--seeds {brief(text)}: expected seeds that stand on the list")
    return seeds


def _plan(arguments: argparse.Namespace) -> int:
    print(json.dumps(dataclasses.asdict(_draw(arguments)), indent=1))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from lab.truth import check

    problems = check(arguments.capture, arguments.truth)
    if arguments.json:
        print(json.dumps({"capture": str(arguments.capture), "problems": problems}))
    else:
        said = problems or [f"{arguments.capture}: agrees with its ground truth"]
        print("\n".join(map(printable, said)))
    return 1 if problems else 0


def _tools(arguments: argparse.Namespace) -> int:
    from lab.tools import TOOL_PACKAGES, missing

    lacking = missing()
    if arguments.json:
        print(json.dumps({tool: tool not in lacking for tool in TOOL_PACKAGES}))
    elif lacking:
        print(f"missing: {', '.join(lacking)}: apt-get install {' '.join(sorted(set(lacking.values())))}")
    else:
        print("all tools are there")
    return 1 if lacking else 0


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # unwinds, so that the network is removed


COMMANDS = {"record": _record, "series": _series, "plan": _plan, "check": _check, "tools": _tools}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        return COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        _say("stopped; the network is removed")
        raise


if __name__ == "__main__":
    sys.exit(main())
