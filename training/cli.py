"""`penstock-train`: teach a network, judge a bundle, set it beside others.

`evaluate` needs a runtime only; everything that needs torch is imported where it is used.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from contracts.errors import GroundTruthError, MissingExtra
from contracts.program import Parser, folder, give_examples, run_program
from contracts.terminal import complain, printable
from flowfeatures import FlowFeaturesError
from training.commands import add_commands
from training.shapes import NAMES

PROGRAM = "penstock-train"
EPILOG = """\
examples:
  penstock-train evaluate --bundle models/default --captures lab/demo/ground_truth.json
  penstock-train fit --network gru --seeds 1 2 3 4 -o .cache/checkpoints/gru
  penstock-train report --bundle models/default -o report.json
  penstock-train compare --networks gru conv_bilstm_small --ablate -o compare.json
  penstock-train networks --networks gru transformer --baselines none -o networks.json
  penstock-train ablations --parts attention windows -o ablations.json
  penstock-train kinds --seeds 1 2 -o kinds-left-out.json
  penstock-train unknown -o unknown.json
  penstock-train devices --seeds 1 2 -o devices.json
  penstock-train adversaries --bundle models/default -o adversaries.json
  penstock-train page --bundle models/default --compare networks.json --unknown unknown.json -o out/page

evaluate wants a runtime only, the rest the train extra. docs/train.md and docs/judging.md say what each answers.
"""
CHECKPOINTS = Path(__file__).resolve().parents[1] / ".cache" / "checkpoints"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    return int(arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Teach and judge detectors.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="teach a network on the captures of training/splits.toml")
    fit.add_argument("--network", choices=NAMES, default="gru", metavar="NAME", help=f"{', '.join(NAMES)} (gru)")
    fit.add_argument("-o", "--output", type=Path, metavar="DIR", help="checkpoint folder (.cache/checkpoints/NAME)")
    fit.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N",
        help="of the networks that teach the one that is kept (1 2 3 4); one alone is kept itself",
    )  # fmt: skip
    fit.add_argument("--epochs", type=int, default=None, metavar="N")
    fit.add_argument("--threads", type=int, default=1, metavar="N")
    fit.set_defaults(run=_fit)
    evaluate = commands.add_parser("evaluate", help="run a bundle over labelled captures and count what it found")
    evaluate.add_argument("--bundle", type=folder, required=True, metavar="DIR")
    evaluate.add_argument("--captures", type=Path, required=True, metavar="GROUND_TRUTH.json")
    evaluate.add_argument("--json", action="store_true", help="print the whole report as JSON")
    evaluate.set_defaults(run=_evaluate)
    report = commands.add_parser("report", help="evaluate a bundle on every side of the split, by source")
    report.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    report.set_defaults(run=_report)
    compare = commands.add_parser("compare", help="window figures of the network, of trees, and without some columns")
    compare.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    compare.add_argument("--networks", choices=NAMES, nargs="+", default=["gru"], metavar="NAME", help="which (gru)")
    compare.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    compare.add_argument("--ablate", action="store_true", help="also fit without groups of context columns")
    compare.add_argument("--threads", type=int, default=1, metavar="N")
    compare.add_argument(
        "--baseline-windows", type=int, default=60_000, metavar="N", help="that teach the trees (60000); 0: no trees"
    )
    compare.add_argument("--add", action="store_true", help="keep what the file already holds of other models")
    compare.set_defaults(run=_compare)
    add_commands(commands)
    give_examples(commands.choices, EPILOG)
    return parser


def _fit(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch is not installed: pip install 'penstock[train]'")
    from dataclasses import replace

    from training.captures import find_captures
    from training.fit import FitSettings
    from training.splits import load_splits
    from training.teach import teach

    splits = load_splits()
    settings = FitSettings(network=arguments.network, threads=arguments.threads)
    output = arguments.output or CHECKPOINTS / arguments.network
    if arguments.epochs is not None:
        settings = replace(settings, epochs=arguments.epochs)
    checkpoint = teach(find_captures(splits), splits, seeds=arguments.seeds, settings=settings, folder=output)
    taught_by = " ".join(map(str, checkpoint.facts["teachers"])) or "labels alone"
    print(f"{printable(str(output))}: seed {checkpoint.facts['seed']}, taught by {taught_by}")
    for side, figures in checkpoint.facts["figures"].items():
        values = {name: "-" if value is None else f"{value:.4g}" for name, value in figures["values"].items()}
        print(f"  {side}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from contracts.bundle import load_bundle
    from detection.onnx_engine import OnnxEngine
    from training.captures import find_captures
    from training.report import markdown, report_sides
    from training.splits import load_splits

    bundle = load_bundle(arguments.bundle)
    told = report_sides(bundle, OnnxEngine(bundle), find_captures(load_splits()))
    _write_json(arguments.output, told)
    print(markdown(told))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    for module in ("torch", "sklearn"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"{module} is not installed: pip install 'penstock[train]'")
    from training.captures import find_captures
    from training.compare import compare
    from training.fit import FitSettings
    from training.splits import load_splits

    settings = FitSettings(threads=arguments.threads)
    told = compare(
        find_captures(load_splits()),
        settings,
        networks=arguments.networks,
        seeds=arguments.seeds,
        ablate=arguments.ablate,
        baseline_windows=arguments.baseline_windows,
    )
    before = json.loads(arguments.output.read_text()) if arguments.add and arguments.output.exists() else {}
    _write_json(arguments.output, before | told)
    for model, sides in told.items():
        told_sides = (
            f"{side} " + "/".join(_short(figures[key]) for key in ("tpr", "fpr", "auc"))
            for side, figures in sides.items()
        )
        print(f"{model}: " + ", ".join(told_sides))
    return 0


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _write_json(path: Path, told: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")


def _evaluate(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtra("onnxruntime is not installed: pip install 'penstock[cpu]'")
    from contracts.bundle import load_bundle
    from contracts.ground_truth import load
    from detection.onnx_engine import OnnxEngine
    from training.captures import is_capture
    from training.evaluate import evaluate, report
    from training.stream import LabelledStream

    bundle = load_bundle(arguments.bundle)
    truths = load(arguments.captures)
    if not truths:
        raise GroundTruthError(f"{arguments.captures}: seen a list without entries, wanted one capture or more")
    for truth in (passed_over := [truth for truth in truths if not is_capture(truth)]):
        complain(f"{truth.path}: no capture, passed over", program=PROGRAM)
    judged = [truth for truth in truths if truth not in passed_over]
    outcomes = evaluate(bundle, OnnxEngine(bundle), judged, stream=partial(LabelledStream, forgives=FlowFeaturesError))
    told = report(bundle, outcomes)
    print(json.dumps(told, indent=1, allow_nan=False) if arguments.json else _table(told), flush=True)
    for outcome in outcomes:
        for note in outcome.notes:
            complain(f"{outcome.truth.path}: {note}", program=PROGRAM)
    broken = [each.broken for each in outcomes if each.broken is not None]
    for error in broken:
        complain(error, program=PROGRAM)
    return broken[0].exit_code if broken else 0


TABLE_COLUMNS = (
    ("windows_benign", "benign"), ("windows_attack", "attack"), ("tpr", "tpr"), ("fpr", "fpr"), ("auc", "auc"),
    ("incidents", "incidents"), ("false_incidents", "false"), ("days", "days"),
    ("false_incidents_per_day", "false/day"), ("first_alert_s", "first s"),
)  # fmt: skip


def _table(told: dict[str, Any]) -> str:
    """Return the report as a table: captures, classes, total."""
    bundle = told["bundle"]
    unsigned = ", unsigned" if bundle["unsigned"] else ""
    lines = [f"bundle {printable(bundle['path'])} ({bundle['name']} release {bundle['release']}{unsigned})"]
    rows = [(printable("/".join(Path(each["capture"]).parts[-2:])), each) for each in told["captures"]]
    rows += [(f"class {name}", each) for name, each in told["classes"].items()]
    rows += [("total", told["total"])]
    width = max(len(name) for name, _ in rows)
    lines.append(" " * width + "".join(f"{title:>10}" for _, title in TABLE_COLUMNS))
    lines += [f"{name:<{width}}" + "".join(_cell(row[key]) for key, _ in TABLE_COLUMNS) for name, row in rows]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:>10d}" if isinstance(value, int) else f"{value:>10.4g}"


if __name__ == "__main__":
    sys.exit(main())
