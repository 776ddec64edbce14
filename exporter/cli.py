"""`penstock-export`: pack a checkpoint of `penstock-train fit` as a bundle."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from contracts.errors import MissingExtra
from contracts.program import Parser, run_program
from contracts.terminal import printable

PROGRAM = "penstock-export"
ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(PROGRAM, lambda: _pack(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Turn a trained network into a bundle.")
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="write DIR/model.onnx and DIR/manifest.json, checked against torch")
    pack.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder written by penstock-train fit")
    pack.add_argument("-o", "--output", type=Path, default=ROOT / "models" / "default", metavar="DIR")
    pack.add_argument("--release", type=int, required=True, metavar="N", help="monotonic number of this bundle")
    pack.add_argument("--pin", action="store_true", help="make this build trust the bundle (contracts/pinned.py)")
    return parser


def _pack(arguments: argparse.Namespace) -> int:
    for module in ("onnx", "onnxruntime", "torch"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"{module} is not installed: pip install 'penstock[train,cpu]'")
    from exporter.pack import pack, pin
    from training.checkpoint import load_checkpoint, load_parity_windows

    checkpoint = load_checkpoint(arguments.checkpoint)
    windows, mask = load_parity_windows(arguments.checkpoint)
    packed = pack(checkpoint, arguments.output, release=arguments.release, windows=windows, mask=mask)
    if arguments.pin:
        pin(packed.manifest_sha256)
    folder = printable(str(packed.folder))
    print(f"{folder}: model.onnx {packed.model_bytes} bytes, manifest sha256 {packed.manifest_sha256}")
    print(
        f"on {packed.float_parity.windows} validation windows: torch to float graph {packed.float_parity.largest:.1e}, "
        f"float to int8 {packed.int8_parity.largest:.1e}, verdicts changed {packed.int8_parity.changed}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
