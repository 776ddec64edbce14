"""What a fleet's learning weighs: octets of 10 gateways over 100 rounds in both modes, and the cost of a fine-tuning.

Messages are made as in the field and counted (`federation_bytes`); fine-tuning runs in children (`finetune_cost`). Both
modes carry anchors, an order and one bundle a gateway; FedAvg in float32 of head and network stands beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import harness
from benchmarks.federation_bytes import Weighed, next_release, plain_of, rounds_of
from benchmarks.finetune_cost import WINDOWS, measured
from benchmarks.harness import Spread
from benchmarks.marks import MET, Marked, mark_lines, number
from contracts.bundle import default_bundle
from contracts.program import Parser, run_program
from contracts.update import MAX_UPDATE_BYTES

PROGRAM: Final = "benchmarks.federation"
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "results" / "federation.md"
MODES: Final = ("robust", "private")
WANTED_MB: Final = 10.0
WANTED_PEAK_MB: Final = 120.0
WANTED_S: Final = 60.0
PAPERS: Final = {"paper A, whole network": 55.2, "paper D, whole network": 85.0}
EXAMPLES: Final = """examples:
  python -m benchmarks.federation
  python -m benchmarks.federation --keep
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    return run_program(PROGRAM, lambda: _run(_parser().parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    result = measure(gateways=args.gateways, rounds=args.rounds, runs=args.runs)
    if args.keep:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        harness.write_json(result, PAGE.with_suffix(".json"))
        PAGE.write_text(page(result), encoding="utf-8")
    print(json.dumps(result, indent=1) if args.json else "\n".join(lines(result)))
    return 0


def measure(*, gateways: int, rounds: int, runs: int) -> dict[str, Any]:
    """Return octets by kind of each way to learn, and what fine-tuning cost."""
    bundle = default_bundle()
    numbers = bundle.manifest.parameters
    archive, change = next_release(bundle)
    ways = {mode: rounds_of(bundle, mode=mode, gateways=gateways, rounds=rounds) for mode in MODES}
    ways["FedAvg, float32, head"] = plain_of(bundle, gateways=gateways, rounds=rounds)
    ways["FedAvg, float32, whole network"] = plain_of(bundle, gateways=gateways, rounds=rounds, numbers=numbers)
    tuned = {mode: measured(mode=mode, runs=runs) for mode in MODES} if runs else {}
    return {
        "benchmark": "federation",
        "gateways": gateways,
        "rounds": rounds,
        "release": bundle.manifest.release,
        "numbers": {"network": numbers},
        "bundle": {"archive_bytes": len(archive), "change_bytes": len(change)},
        "machine": harness.fingerprint(["numpy", "onnxruntime", "cryptography"]),
        "ways": {name: _told(each, gateways=gateways, rounds=rounds) for name, each in ways.items()},
        "finetune": tuned,
        "marks": [each.record() for each in _marked(ways, tuned, gateways=gateways, rounds=rounds)],
    }


def _told(weighed: Weighed, *, gateways: int, rounds: int) -> dict[str, Any]:
    once = {"anchors", "order", "bundle"}
    each = {
        "up": {kind: octets / gateways / rounds for kind, octets in weighed.up.items()},
        "down": {kind: octets / gateways / rounds for kind, octets in weighed.down.items() if kind not in once},
    }
    return {
        "total_bytes": weighed.total,
        "up_bytes": dict(weighed.up),
        "down_bytes": dict(weighed.down),
        "mqtt_bytes": dict(weighed.around),
        "messages": dict(weighed.messages),
        "of_a_gateway_in_a_round": {**each, "up_in_all": sum(each["up"].values())},
    }


def _marked(
    ways: Mapping[str, Weighed], tuned: Mapping[str, Sequence[Mapping[str, Any]]], *, gateways: int, rounds: int
) -> list[Marked]:
    found = []
    for mode in MODES:
        up = ways[mode].up.total() / gateways / rounds
        found.append(Marked.at_most(f"{mode}: messages up of a gateway in a round", up, MAX_UPDATE_BYTES, "bytes"))
        found.append(
            Marked.at_most(
                f"{mode}: all rounds, both ways, with MQTT's octets", ways[mode].total / 1e6, WANTED_MB, "MB"
            )
        )
    for mode, runs in tuned.items():
        peak, wall = max(run["peak_bytes"] for run in runs) / 1e6, max(run["wall_s"] for run in runs)
        found.append(Marked.at_most(f"{mode}: fine-tuning on {WINDOWS} windows, peak", peak, WANTED_PEAK_MB, "MB"))
        found.append(Marked.at_most(f"{mode}: fine-tuning on {WINDOWS} windows, wall", wall, WANTED_S, "s"))
    return found


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the tables a terminal shows."""
    told = [f"{result['gateways']} gateways, {result['rounds']} rounds, with MQTT's own octets, without TLS's"]
    for name, way in result["ways"].items():
        told.append(f"  {name:32} {way['total_bytes'] / 1e6:8.2f} MB in {sum(way['messages'].values()):,} messages")
    told += [f"  {name:32} {megabytes:8.2f} MB, as published" for name, megabytes in PAPERS.items()]
    for mode in MODES:
        each = result["ways"][mode]["of_a_gateway_in_a_round"]
        for way in ("up", "down"):
            cells = ", ".join(f"{kind} {octets:.0f}" for kind, octets in each[way].items())
            told.append(f"  {mode}, a gateway in a round, {way}: {cells} bytes; {sum(each[way].values()):.0f} in all")
    for mode, runs in result["finetune"].items():
        told.append(f"  penstock-finetune, {mode}, {WINDOWS} windows: {_cost(runs)}")
    return told + mark_lines([_mark_of(each) for each in result["marks"]])


def _mark_of(told: Mapping[str, Any]) -> Marked:
    return Marked(**{key: value for key, value in told.items() if key != "met"})


def _cost(runs: Sequence[Mapping[str, Any]]) -> str:
    peak, cpu, wall = (
        Spread.of([run[key] for run in runs]).scaled(factor)
        for key, factor in (("peak_bytes", 1e-6), ("cpu_s", 1.0), ("wall_s", 1.0))
    )
    return f"peak {peak.text()} MB, CPU {cpu.text(2)} s, wall {wall.text(1)} s"


def page(result: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    machine = result["machine"]
    told = [
        "# What a fleet's learning weighs",
        "",
        "Written by `python -m benchmarks.federation --keep`; every figure stands in",
        "[federation.json](federation.json).",
        f"Commit {machine['commit']}, {machine['processor']}, {machine['cores']} cores shared with other work,",
        f"load {machine['load_1min']}; nothing here was measured on a board.",
        "",
        f"## {result['gateways']} gateways, {result['rounds']} rounds",
        "",
        "Signed messages as they travel between gateway and broker, both ways, key exchange, anchors, orders and one",
        "bundle a gateway included, and what MQTT 5 puts around each: fixed header, topic, packet id, properties and",
        "PUBACK.",
        "Assumed: every message travels once; the session is there for alerts, so connecting, subscribing and",
        "keep-alives (4 octets in 30 s of silence, at most 11.5 KB a gateway and day) are not federation's. TLS's",
        "octets are not counted.",
        f"The bundle travels as a change to the first one: {result['bundle']['change_bytes']:,} bytes in place of",
        f"{result['bundle']['archive_bytes']:,}; a gateway that does not have that one asks for the whole.",
        "",
        "| | up, MB | down, MB | MQTT, MB | in all, MB | messages |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for name, way in result["ways"].items():
        up, down = (sum(way[key].values()) / 1e6 for key in ("up_bytes", "down_bytes"))
        total, messages = way["total_bytes"] / 1e6, sum(way["messages"].values())
        around = sum(way["mqtt_bytes"].values()) / 1e6
        told.append(f"| {name} | {up:.2f} | {down:.2f} | {around:.2f} | {total:.2f} | {messages:,} |")
    told += [f"| {name}, as published | | | | {megabytes} | |" for name, megabytes in PAPERS.items()]
    told += [
        "",
        f"FedAvg sends float32 numbers in the same signed form: {result['numbers']['network']:,} of the whole network.",
        "",
        "## A gateway in a round",
        "",
        "| mode | way | message | bytes |",
        "| --- | --- | --- | --: |",
    ]
    for mode in MODES:
        each = result["ways"][mode]["of_a_gateway_in_a_round"]
        for way in ("up", "down"):
            told += [f"| {mode} | {way} | {kind} | {octets:,.0f} |" for kind, octets in each[way].items()]
            told.append(f"| {mode} | {way} | in all | {sum(each[way].values()):,.0f} |")
    told += [
        "",
        f"## penstock-finetune on {WINDOWS:,} windows",
        "",
        "In a process of its own: reading, learning, gate, message. Peak is VmHWM, libraries included; median,",
        "smallest and largest of the runs.",
        "",
        "| mode | runs | cost |",
        "| --- | --: | --- |",
        *(f"| {mode} | {len(runs)} | {_cost(runs)} |" for mode, runs in result["finetune"].items()),
        "",
        "## Goals",
        "",
        "| | measured | at most | |",
        "| --- | --: | --: | --- |",
    ]
    for each in map(_mark_of, result["marks"]):
        cells = f"{number(each.measured)} | {number(each.mark)} {each.unit} | {MET[each.met]}"
        told.append(f"| {each.figure} | {cells} |")
    told += ["", "Detection beside a running fine-tuning is not in it, nor what a broker adds by sending again."]
    return "\n".join(told) + "\n"


def _parser() -> argparse.ArgumentParser:
    made = Parser(
        prog=f"python -m {PROGRAM}", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--gateways", type=int, default=10, help="of the fleet (%(default)s)")
    made.add_argument("--rounds", type=int, default=100, help="held (%(default)s)")
    made.add_argument("--runs", type=int, default=5, help="fine-tunings of each mode; 0 leaves them out (%(default)s)")
    made.add_argument("--json", action="store_true", help="print the whole result as JSON")
    made.add_argument("--keep", action="store_true", help="also write docs/results/federation.md and its JSON")
    return made


if __name__ == "__main__":
    sys.exit(main())
