"""`penstock-export`: prune a checkpoint, pack it as a bundle, check a bundle that stands, make the key that signs."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import DataMissing, MissingExtra, SchemaMismatch
from contracts.program import Parser, folder, give_examples, run_program
from contracts.terminal import printable
from training.commands import STUDY_EPOCHS
from training.shapes import NAMES

if TYPE_CHECKING:
    from contracts.bundle import Bundle
    from exporter.gate import Measured
    from training.captures import CapturesBySide

PROGRAM = "penstock-export"
EPILOG = """\
examples:
  penstock-export keygen ./vendor                   # vendor (keep it) and vendor.pub (for trust.d of gateways)
  penstock-export pack .cache/checkpoints/gru --release 3 --key ./vendor -o ./bundle-3
  penstock-export check ./bundle-3 --checkpoint .cache/checkpoints/gru
  penstock-export prune .cache/checkpoints/gru --keep 0.5 -o .cache/checkpoints/gru-half
  penstock-export compression --networks gru -o compression.json

Where the gate refuses, nothing is written and every rule that was broken is named. docs/train.md has the rules.
"""
ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "models" / "default"
MAX_JSON_BYTES = 8 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(PROGRAM, lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    return int(arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description="Turn a trained network into a bundle.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="write a bundle, if the gate lets it pass")
    pack.add_argument("checkpoint", type=folder, metavar="CHECKPOINT", help="folder written by fit or prune")
    pack.add_argument("-o", "--output", type=folder, default=DEFAULT, metavar="DIR")
    pack.add_argument("--release", type=int, required=True, metavar="N", help="monotonic number of this bundle")
    pack.add_argument("--key", type=Path, metavar="PATH", help="sign with this private key")
    pack.add_argument(
        "--baselines", type=Path, metavar="FILE.json", help="what penstock-train networks or compare wrote"
    )
    pack.add_argument("--pin", action="store_true", help="make this build trust the bundle (contracts/pinned.py)")
    _add_replaces(pack)
    pack.set_defaults(run=_pack)
    check = commands.add_parser("check", help="hold a bundle that stands to the gate")
    check.add_argument("bundle", type=folder, metavar="BUNDLE")
    check.add_argument("--checkpoint", type=folder, required=True, metavar="DIR", help="what the bundle was made from")
    _add_replaces(check)
    check.set_defaults(run=_check)
    prune = commands.add_parser("prune", help="take away units, teach on, beside the same size taught from scratch")
    prune.add_argument("checkpoint", type=folder, metavar="CHECKPOINT", help="folder written by penstock-train fit")
    prune.add_argument("-o", "--output", type=folder, required=True, metavar="DIR", help="folder of the pruned one")
    prune.add_argument("--keep", type=_share, default=0.75, metavar="SHARE", help="of the units of every size (0.75)")
    prune.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    prune.add_argument("--epochs", type=int, default=8, metavar="N", help="of teaching on (8)")
    prune.add_argument("--threads", type=int, default=1, metavar="N")
    prune.set_defaults(run=_prune)
    compression = commands.add_parser("compression", help="what int8 storage and pruning cost, beside scratch")
    compression.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    compression.add_argument(
        "--networks", choices=NAMES, nargs="+", default=["gru", "conv_bilstm_small"], metavar="NAME"
    )
    compression.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    compression.add_argument("--epochs", type=int, default=STUDY_EPOCHS, metavar="N", help=f"({STUDY_EPOCHS})")
    compression.add_argument("--threads", type=int, default=1, metavar="N")
    compression.add_argument("--add", action="store_true", help="keep what the file already holds of other networks")
    compression.set_defaults(run=_compression)
    keygen = commands.add_parser("keygen", help="write a private key and, as PATH.pub, what gateways trust")
    keygen.add_argument("path", type=Path, metavar="PATH")
    keygen.set_defaults(run=_keygen)
    give_examples(commands.choices, EPILOG)
    return parser


def _add_replaces(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--replaces", type=folder, default=DEFAULT, metavar="DIR", help="must not be worse than this (models/default)"
    )
    choice.add_argument("--replaces-nothing", action="store_true", help="compare with no other bundle")
    parser.add_argument(
        "--louder", default="", metavar="WHY", help="why it may be worse on benign captures; stands on its card"
    )


def _pack(arguments: argparse.Namespace) -> int:
    _need("onnx", "onnxruntime", "torch")
    from exporter.measure import validation_labels
    from exporter.pack import Release, Validation, pack, pin
    from exporter.sign import load_key
    from training.checkpoint import load_checkpoint, load_parity_windows

    key = None if arguments.key is None else load_key(arguments.key)
    checkpoint = load_checkpoint(arguments.checkpoint)
    windows, mask = load_parity_windows(arguments.checkpoint)
    label = validation_labels(arguments.checkpoint)
    replaces, why = _replaced(arguments)
    release = Release(
        number=arguments.release,
        replaces=replaces,
        replaced_why=why,
        louder=arguments.louder,
        captures=_captures(arguments, replaces),
        key=key,
        baselines={} if arguments.baselines is None else _read_json(arguments.baselines),
        commands=_commands(arguments),
    )
    packed = pack(
        checkpoint,
        arguments.output,
        release=release,
        validation=Validation(windows=windows, mask=mask, label=label),
    )
    if arguments.pin:
        pin(packed.manifest_sha256)
    signed = "unsigned" if key is None else "signed"
    print(f"{printable(str(packed.folder))}: release {arguments.release}, {signed}, sha256 {packed.manifest_sha256}")
    print(f"on {packed.int8_parity.windows} validation windows, classes changed {packed.int8_parity.changed}")
    _tell(packed.measured, why)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    _need("onnx", "onnxruntime", "torch")
    from contracts.bundle import load_bundle
    from exporter.gate import check
    from exporter.measure import measure_bundle
    from training.checkpoint import load_checkpoint

    bundle = load_bundle(arguments.bundle)
    replaces, why = _replaced(arguments)
    measured = measure_bundle(
        bundle,
        load_checkpoint(arguments.checkpoint),
        checkpoint_folder=arguments.checkpoint,
        replaces=replaces,
        captures=_captures(arguments, replaces),
    )
    _tell(measured, why)
    check(replace(measured, louder=arguments.louder))
    print("the gate lets it pass")
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    _need("onnx", "onnxruntime", "torch")
    from exporter.shrink import save, shrink, table, who_is_ahead, windows_for
    from training.captures import find_captures
    from training.checkpoint import load_checkpoint
    from training.fit import FitSettings
    from training.splits import load_splits

    checkpoint = load_checkpoint(arguments.checkpoint)
    settings = FitSettings(threads=arguments.threads, epochs=arguments.epochs)
    sets = windows_for(find_captures(load_splits()))
    shrunk = shrink(checkpoint, sets, keep=arguments.keep, seeds=arguments.seeds, settings=settings)
    save(shrunk, arguments.output, beside=arguments.checkpoint)
    print("\n".join(table(shrunk.sides)))
    print(who_is_ahead(shrunk.sides))
    return 0


def _compression(arguments: argparse.Namespace) -> int:
    _need("onnx", "onnxruntime", "torch")
    from exporter.compression import run_command

    return run_command(arguments)


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share, wanted above 0 and below 1")
    return share


def _keygen(arguments: argparse.Namespace) -> int:
    from exporter.sign import make_key, public_path

    digits = make_key(arguments.path)
    public = printable(str(public_path(arguments.path)))
    print(f"{printable(str(arguments.path))}: private key, keep it off gateways; {public}: public key {digits}")
    return 0


def _need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"{module} is not installed: pip install 'penstock[train,cpu]'")


def _replaced(arguments: argparse.Namespace) -> tuple[Bundle | None, str]:
    """Return the bundle to be replaced, or None and why there is none to compare with."""
    from contracts.bundle import MANIFEST, load_bundle

    if arguments.replaces_nothing:
        return None, "asked for with --replaces-nothing"
    if arguments.replaces == DEFAULT and not (DEFAULT / MANIFEST).exists():
        return None, "no bundle is shipped yet"
    try:
        return load_bundle(arguments.replaces), ""
    except SchemaMismatch as exc:
        return None, f"this build cannot run it ({exc})"


def _captures(arguments: argparse.Namespace, replaces: Bundle | None) -> CapturesBySide | None:
    """Return the captures to judge on; None where there are none and nothing is to be replaced."""
    from exporter.measure import HELD_OUT_SIDES, benign_only
    from training.captures import find_captures
    from training.splits import load_splits

    captures = find_captures(load_splits())
    if any(benign_only(captures).sides[side] for side in HELD_OUT_SIDES):
        return captures
    if replaces is not None:
        raise DataMissing(
            "no benign capture held out, wanted some to compare with the bundle it replaces: "
            "set PENSTOCK_SHARED, record lab seeds of the test side, or give --replaces-nothing"
        )
    return None


def _commands(arguments: argparse.Namespace) -> list[str]:
    """Return the commands that made the bundle, with names of folders as given and none of this machine's own."""
    words = [PROGRAM, "pack", _plain(arguments.checkpoint), "--release", str(arguments.release)]
    if arguments.key is not None:
        words += ["--key", "PATH"]
    if arguments.baselines is not None:
        words += ["--baselines", _plain(arguments.baselines)]
    if arguments.louder:
        words += ["--louder", arguments.louder]
    return ["penstock-train fit -o " + shlex.quote(_plain(arguments.checkpoint)), shlex.join(words)]


def _plain(path: Path) -> str:
    """Return a path as seen from the tree, or its last name where it lies elsewhere: a card is read by others."""
    try:
        return path.resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return path.name


def _read_json(path: Path) -> dict[str, Any]:
    from contracts.files import open_regular

    try:
        with open_regular(path) as file:
            told = json.loads(file.read(MAX_JSON_BYTES))
    except OSError as exc:
        raise DataMissing(f"{path}: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise DataMissing(f"{path}: not what penstock-train compare writes: {exc}") from exc
    if isinstance(told, dict) and set(told) == {"runs", "models"}:  # what `networks` writes
        told = told["models"]
    if not isinstance(told, dict) or not all(isinstance(each, dict) for each in told.values()):
        raise DataMissing(f"{path}: not what penstock-train compare writes: wanted an object of objects")
    return told


def _tell(measured: Measured, why: str) -> None:
    print(f"torch to float graph: {measured.float_parity.largest:.1e} on {measured.float_parity.windows} windows")
    for step in measured.steps:
        print(
            f"{step.name}: {step.bytes_before} to {step.bytes_after} bytes, accuracy {step.accuracy_before:.4f} to "
            f"{step.accuracy_after:.4f}, {step.points_lost:.2f} points lost"
        )
    for side, benign in measured.benign.items():
        print(f"benign {side} captures: false incidents {benign.incidents_text()}; FPR {benign.fpr_text()}")
        if (old := measured.replaced_benign.get(side)) is not None:
            print(f"  the bundle it replaces: false incidents {old.incidents_text()}; FPR {old.fpr_text()}")
    if why:
        print(f"compared with no other bundle: {printable(why)}")


if __name__ == "__main__":
    sys.exit(main())
