"""The commands of `penstock-train` that judge beyond `evaluate`: a bundle's page, and studies beside it.

Their parsers stand here and their work in the modules they name, imported when a command runs: two of them need torch.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.classes import HEAD_NAMES
from contracts.errors import MissingExtra
from training.baselines import CLASSICAL
from training.shapes import NAMES, PLAIN_NAMES

STUDY_EPOCHS = 6
ABLATED_PARTS = ("columns", "each", "attention", "windows", "partials")
PARTS = {
    "compare": "penstock-train networks",
    "unknown": "penstock-train unknown",
    "devices": "penstock-train devices",
    "adversaries": "penstock-train adversaries",
}
"""Files a page can take in, and the command that writes each."""


def add_commands(commands: Any) -> None:
    """Add the commands to a parser's."""
    _add_page(commands)
    unknown = commands.add_parser("unknown", help="compare unknown scores, leaving one attack class after another out")
    _add_teaching(unknown)
    unknown.set_defaults(run=_runs("training.unknown_compare", needs=("torch",)))
    devices = commands.add_parser(
        "devices", help="false alarms on each maker's devices, when nothing was taught on them"
    )
    _add_teaching(devices)
    devices.set_defaults(run=_runs("training.leave_device", needs=("torch",)))
    adversaries = commands.add_parser("adversaries", help="judge a bundle on attacks that pad, pace, split or mimic")
    adversaries.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    adversaries.add_argument(
        "--captures", type=Path, metavar="GROUND_TRUTH.json", help="instead of the lab's recordings of the test side"
    )
    adversaries.add_argument("--teach", action="store_true", help="also teach networks with and without evasions")
    _add_teaching(adversaries)
    adversaries.set_defaults(run=_runs("training.adversaries", needs=("onnxruntime",)))
    _add_studies(commands)


def _add_studies(commands: Any) -> None:
    networks = commands.add_parser(
        "networks", help="networks and classical learners through the detector, side by side"
    )
    networks.add_argument(
        "--networks", choices=(*NAMES, *PLAIN_NAMES), nargs="*", default=list(NAMES), metavar="NAME",
        help=f"of {', '.join((*NAMES, *PLAIN_NAMES))}",
    )  # fmt: skip
    networks.add_argument(
        "--baselines", nargs="+", metavar="NAME", default=None, choices=(*CLASSICAL, "none"),
        help=f"of {', '.join(CLASSICAL)} (all), or none",
    )  # fmt: skip
    ablations = commands.add_parser("ablations", help="the network without columns, attention, records, rows")
    ablations.add_argument(
        "--parts", choices=ABLATED_PARTS, nargs="+", default=list(ABLATED_PARTS), metavar="PART",
        help=f"of {', '.join(ABLATED_PARTS)}",
    )  # fmt: skip
    ablations.add_argument("--lines", nargs="+", default=[], metavar="NAME", help="only these lines of the parts")
    kinds = commands.add_parser("kinds", help="attacks of a class that nobody taught, through the detector")
    kinds.add_argument(
        "--classes", choices=HEAD_NAMES[1:], nargs="+", default=[], metavar="NAME",
        help=f"to leave out one after another, of {', '.join(HEAD_NAMES[1:])} (all)",
    )  # fmt: skip
    for study in (networks, ablations, kinds):
        _add_teaching(study)
        study.add_argument("--epochs", type=int, default=STUDY_EPOCHS, metavar="N", help=f"({STUDY_EPOCHS})")
        study.add_argument("--add", action="store_true", help="keep what the file already holds of other models")
    networks.set_defaults(run=_runs("training.networks_compared", needs=("torch", "sklearn")))
    ablations.set_defaults(run=_runs("training.ablations", needs=("torch",)))
    kinds.set_defaults(run=_runs("training.leave_class", needs=("torch",)))


def _add_page(commands: Any) -> None:
    page = commands.add_parser("page", help="write a bundle's page: tables, plots, probes, other commands' figures")
    page.add_argument("--bundle", type=Path, required=True, metavar="DIR")
    page.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of page and plots")
    page.add_argument(
        "--checkpoint", type=Path, nargs="*", default=[], metavar="DIR", help="whose losses to draw, one line a seed"
    )
    for key, command in PARTS.items():
        page.add_argument(f"--{key}", type=Path, metavar="FILE.json", help=f"what {command} wrote")
    page.set_defaults(run=_runs("training.report_page", needs=("onnxruntime", "matplotlib", "sklearn")))


def _add_teaching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N")


def _runs(module: str, *, needs: tuple[str, ...]) -> Callable[[argparse.Namespace], int]:
    """Return what runs a module's `run_command`, once what it needs is there."""

    def run(arguments: argparse.Namespace) -> int:
        for each in needs:
            if importlib.util.find_spec(each) is None:
                raise MissingExtra(f"{each} is not installed: pip install 'penstock[train,cpu]'")
        return int(importlib.import_module(module).run_command(arguments))

    return run
