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
from contracts.program import Parser, give_examples, run_program
from contracts.terminal import brief, complain, printable

PROGRAM = "penstock-lab"

EXAMPLES = """examples:
  sudo penstock-lab record --plan train --seed 7 --minutes 15 -o out/seed-7
  sudo penstock-lab record -o out/short --seed 7
  sudo penstock-lab record -o out/calm --seed 8 --attacks none --duration 300
  sudo penstock-lab record -o out/three --seed 9 --attacks telnet,syn_flood,port_scan --json
  sudo penstock-lab record -o lab/demo --demo --snap-bytes 128
  sudo penstock-lab series -o .cache/lab --seeds 1,2,3
  penstock-lab plans
  penstock-lab plan --plan train --seed 7
  penstock-lab check out/seed-7
  penstock-lab check --leakage out/seed-7
  penstock-lab tools

exit codes: 0 done, 1 check found a disagreement, 64 wrong usage, 65 not a capture or no ground truth, 69 a tool or
scikit-learn is missing (the line that brings it is printed), 71 the network could not be built or the recording lost
packets, 77 not root
"""
MOST_MINUTES = 24 * 60
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    commands.add_parser("plans", help="list the plans that --plan knows by name")
    for command in (record, plan):
        command.add_argument("--seed", type=int, metavar="N", help="what everything is drawn from")
        which = command.add_mutually_exclusive_group()
        which.add_argument("--plan", metavar="NAME|FILE", help="what is drawn: a name `plans` lists, or a .toml file")
        which.add_argument("--demo", action="store_true", help="the plan of the committed demo capture")
        command.add_argument("--minutes", type=float, metavar="M", help="with --plan: so long (default: what it says)")
        command.add_argument(
            "--duration", type=float, metavar="S", help="without --plan: seconds at least (default 90)"
        )
        command.add_argument("--attacks", metavar="LIST", help="techniques in their order, or none (default: drawn)")
        command.add_argument("--count", type=int, metavar="N", help="attacks to draw (default 4)")
        command.add_argument("--devices", type=int, metavar="N", help="devices at least 6 (default: drawn)")
    series = commands.add_parser("series", help="record what training uses and is not there yet (root; an hour)")
    series.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="gets a folder seed-N for each")
    series.add_argument("--list", type=Path, default=None, metavar="FILE", help="default: lab/recordings.txt")
    series.add_argument("--seeds", metavar="N,N", help="only these of the list")
    series.add_argument("--at-once", type=int, default=2, metavar="N", help="labs that run at a time (default 2)")
    series.add_argument("--snap-bytes", type=int, default=128, metavar="N", help="default 128")
    check = commands.add_parser("check", help="compare recordings with their ground truth, and say what they hold")
    check.add_argument("where", type=Path, metavar="DIR|CAPTURE", help="a recording, a folder of recordings, a capture")
    check.add_argument("truth", type=Path, nargs="?", metavar="GROUND_TRUTH", help="of CAPTURE")
    check.add_argument("--leakage", action="store_true", help="can attacks be told by the lab's artefacts alone?")
    tools = commands.add_parser("tools", help="say which tools are there, and the apt line for those that are not")
    for command in (record, check, tools):
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    give_examples(commands.choices, EXAMPLES)
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

    own = ("duration", "attacks", "count", "devices")
    given = [f"--{name}" for name in own if getattr(arguments, name) is not None]
    if arguments.plan and given:
        raise UsageError(f"{', '.join(given)}: the plan decides that (--minutes does not)")
    if arguments.minutes is not None and not (arguments.plan and 0 < arguments.minutes <= MOST_MINUTES):
        raise UsageError(f"--minutes: with --plan, above 0, at most {MOST_MINUTES}")
    if arguments.plan:
        return _from_file(arguments)
    if arguments.demo:
        return draw_demo_plan()
    if arguments.seed is None:
        raise UsageError("--seed is needed, or --demo")
    return draw_plan(
        arguments.seed,
        duration_s=90.0 if arguments.duration is None else arguments.duration,
        attacks=_techniques(arguments.attacks),
        count=4 if arguments.count is None else arguments.count,
        devices=arguments.devices or 0,
    )


def _from_file(arguments: argparse.Namespace) -> Any:
    from lab.demo_plan import draw_demo_plan
    from lab.plan_file import read_plan
    from lab.timetable import draw

    file = read_plan(arguments.plan)
    if file.fixed:
        if arguments.minutes is not None:
            raise UsageError(f"--minutes: plan {file.name} is one plan that lasts what it lasts")
        return draw_demo_plan()
    if arguments.seed is None:
        raise UsageError("--plan needs --seed")
    return draw(file, arguments.seed, minutes=arguments.minutes)


def _say(text: str) -> None:
    complain(text, program=PROGRAM)


def _record(arguments: argparse.Namespace) -> int:
    from lab.agreement import check
    from lab.progress import Progress
    from lab.record import record
    from lab.tally import as_json, table, tally
    from lab.tools import require_all

    require_all()
    plan = _draw(arguments)
    _say(f"recording {plan.duration_s:.0f} s")
    with Progress(plan.duration_s, say=_say) as progress:
        done = record(plan, arguments.output, snap_bytes=arguments.snap_bytes, say=progress.say, began=progress.begin)
    problems = check(done.capture, done.truth)
    rows = tally(done.capture, done.truth)
    summary = {
        "capture": str(done.capture),
        "ground_truth": str(done.truth),
        "packets": done.packets,
        "bytes": done.bytes,
        "attacks": [interval["tool"] for interval in done.intervals],
        "labels": as_json(rows),
        "problems": problems,
    }
    if arguments.json:
        print(json.dumps(summary))
    else:
        print(table(rows))
        print(f"{printable(str(done.capture))}: {done.packets} packets, {len(done.intervals)} attacks")
    for problem in problems:
        _say(problem)
    return 1 if problems else 0


def _series(arguments: argparse.Namespace) -> int:
    from lab.series import DEFAULT_LIST, folder_of, read_series, record_all, still_missing
    from lab.tools import require_all

    require_all()
    series = read_series(arguments.list or DEFAULT_LIST)
    if arguments.seeds:
        series = {seed: series[seed] for seed in _seeds_of(arguments.seeds, known=series)}
    if arguments.at_once < 1:
        raise UsageError(f"--at-once {arguments.at_once}: expected 1 or more")
    missing = still_missing(series, arguments.output)
    snap = ["--snap-bytes", str(arguments.snap_bytes)]
    commands = {
        seed: ["record", "-o", str(folder_of(seed, arguments.output)), "--seed", str(seed), *series[seed], *snap]
        for seed in missing
    }
    for seed in missing:  # a mistake in the list is told before an hour has passed
        _draw(_parser().parse_args(commands[seed]))
    code = record_all(commands, at_once=arguments.at_once, say=_say)
    if not code:
        print(f"{printable(str(arguments.output))}: {len(series)} recordings, {len(missing)} of them new")
    return code


def _seeds_of(text: str, *, known: Collection[int]) -> list[int]:
    seeds = [int(word) for word in text.split(",") if word.strip().isdecimal()]
    if not seeds or not set(seeds) <= set(known):
        raise UsageError(f"--seeds {brief(text)}: expected seeds that stand on the list")
    return seeds


def _plan(arguments: argparse.Namespace) -> int:
    print(json.dumps(dataclasses.asdict(_draw(arguments)), indent=1))
    return 0


def _plans(_: argparse.Namespace) -> int:
    from lab.plan_file import read_plan, shipped

    for name in shipped():
        file = read_plan(name)
        print(f"{name:<10} {file.minutes:>5g} min  {file.about}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from lab.agreement import check, recordings_of
    from lab.tally import as_json, table, tally

    pairs = [(arguments.where, arguments.truth)] if arguments.truth else recordings_of(arguments.where)
    if arguments.leakage:
        return _leakage(arguments, pairs)
    results = [(capture, check(capture, truth), tally(capture, truth)) for capture, truth in pairs]
    if arguments.json:
        found = [{"capture": str(path), "labels": as_json(rows), "problems": said} for path, said, rows in results]
        print(json.dumps(found[0] if len(found) == 1 else {"recordings": found}))
    else:
        for path, problems, rows in results:
            said = problems or [f"{path}: agrees with its ground truth"]
            print("\n".join([printable(line) for line in (*table(rows).splitlines(), *said)]))
    return 1 if any(problems for _, problems, _ in results) else 0


def _leakage(arguments: argparse.Namespace, pairs: Sequence[tuple[Path, Path]]) -> int:
    from lab.leakage import MOST_AUC, look_for_leaks

    found = look_for_leaks(pairs)
    if arguments.json:
        print(json.dumps(found.as_json()))
    else:
        print("\n".join(found.lines()))
    return 1 if found.auc > MOST_AUC else 0


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
    """Unwind, so that the network is removed; a second signal does not disturb that."""
    for each in ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


COMMANDS = {
    "record": _record,
    "series": _series,
    "plan": _plan,
    "plans": _plans,
    "check": _check,
    "tools": _tools,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for number in ENDINGS if arguments.command in ("record", "series") else ():
        signal.signal(number, _end)
    try:
        return COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        _say("stopped; the network is removed")
        raise


if __name__ == "__main__":
    sys.exit(main())
