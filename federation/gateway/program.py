"""`penstock-finetune`: learn from this gateway's windows, once, and end. A timer unit starts it; it opens no socket.

Settings are read here and nowhere else below. Exit code 0 also where nothing was to be learnt or the gate refused:
that is told, and is no failure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contracts.agent_card import read_card, run_ended, taken_up
from contracts.bundle import Bundle, default_bundle, load_bundle
from contracts.errors import OutputError, UsageError
from contracts.head import read_head
from contracts.program import Parser, folder, run_program
from contracts.samples import SAMPLES_FILE, SampleBook
from contracts.terminal import printable
from contracts.trust import TRUST_DIR, trusted_keys
from contracts.whole_file import read_bounded
from detection.onnx_engine import OnnxEngine
from detection.rules import Rules, Verdict
from detection.state import StateRefused
from federation.gateway.conditions import reason_for, reasons_against
from federation.gateway.desk import Desk, Learnt
from federation.gateway.finetune import Report, finetune
from federation.gateway.identity import own_key
from federation.gateway.private import PrivateDesk, known_peers

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NAME: Final = "penstock-finetune"
STATE_DIR: Final = Path("/var/lib/penstock")
AGGREGATORS_DIR: Final = Path("/etc/penstock/aggregators.d")
PEERS_DIR: Final = Path("/etc/penstock/peers.d")
RULES_FILE: Final = "rules.json"
MAX_RULES_BYTES: Final = 4 << 20
LOW_PRIORITY: Final = 10

DESCRIPTION = """\
Learn from this gateway's windows, once, and end. A timer unit starts it; it opens no socket.

The exit code is also 0 where nothing was to be learnt or the gate refused: that is told, and is no failure.
"""
EPILOG = """\
What is not given is as the agent beside it has it: it leaves a card in DIR/federation (docs/federation.md).
Nothing leaves but what the report says: an update of some hundred octets in DIR/federation/out, which the agent sends.
With --dry-run nothing is written. docs/federation.md says what is learnt from.

examples:
  penstock-finetune --dry-run
  penstock-finetune --fleet homes --gateway attic
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    with contextlib.suppress(OSError):
        os.nice(max(0, LOW_PRIORITY - os.nice(0)))  # a unit may have set it lower
    return run_program(NAME, lambda: run(_parser().parse_args(argv)))


def run(args: argparse.Namespace, *, root: Path = Path("/")) -> int:
    """Learn once; print the report."""
    asked = set() if args.dry_run else _asked(args.state_dir)
    try:
        _fill_in(args)
        report = _report(args, asked, root=root, now_us=time.time_ns() // 1000)
    finally:
        if not args.dry_run:
            run_ended(args.state_dir)
    if args.json:
        print(json.dumps(asdict(report), indent=1, sort_keys=True, allow_nan=False))
    else:
        print("\n".join(lines(report)))
    return 0


def lines(report: Report) -> list[str]:
    """Return a report for people."""
    told = [f"{report.outcome}{': ' + printable(report.why) if report.why else ''}"]
    told += [f"refused: {printable(each)}" for each in report.refused_calls]
    if report.refused:
        told.append(f"refused in all: {', '.join(f'{count} {reason}' for reason, count in report.refused.items())}")
    told += [f"private {each}" for each in report.private]
    if report.learnt_from:
        told.append(
            f"learnt from {report.learnt_from} windows: {report.verdicts} judged incidents, "
            f"{report.pseudo_labels} pseudo-labels, "
            f"{report.anchors} anchors; {report.steps} steps, {report.share_of_step:.0%} of them kept"
        )
    if report.judged_benign:
        before, after = report.judged_benign_over_before, report.judged_benign_over_after
        told.append(f"windows judged benign: {report.judged_benign}, over threshold {before} before, {after} after")
    if report.before:
        told.append(f"hold-out before {_held(report.before)}")
        told.append(f"hold-out after  {_held(report.after)}")
    if report.update_bytes:
        clipped = ", clipped" if report.clipped else ""
        told.append(
            f"round {report.round}: update of {report.update_bytes} bytes, norm {report.delta_norm:.3f}{clipped}"
        )
    return told


def _held(held: Mapping[str, Any]) -> str:
    return (
        f"benign over {held['benign_over']}/{held['benign']}, attacks found {held['attacks_over']}/{held['attacks']}, "
        f"unjudged incidents {held['watched_over']}/{held['watched']}, "
        f"anchors {held['anchors_over']}/{held['anchors']}, loss {held['loss']:.4f}"
    )


def _asked(state_dir: Path) -> set[str]:
    """Return why the agent asked for this run; what it asks for from now on is another run. Raises OutputError."""
    try:
        return taken_up(state_dir)
    except OSError as exc:
        raise OutputError(f"{state_dir}: the wish for a run cannot be taken up: {exc.strerror or exc}") from exc


def _fill_in(args: argparse.Namespace) -> None:
    """Take what the options leave open from the agent's card, and then from the defaults. Raises CardRefused."""
    card = read_card(args.state_dir)
    if card is not None:
        args.fleet, args.gateway = args.fleet or card.fleet, args.gateway or card.gateway
        if args.bundle is None and card.bundle is not None:
            args.bundle = Path(card.bundle)
        args.trust, args.aggregators = args.trust or Path(card.trust), args.aggregators or Path(card.aggregators)
        args.private_only = args.private_only or card.private_only
    args.trust, args.aggregators = args.trust or TRUST_DIR, args.aggregators or AGGREGATORS_DIR


def _report(args: argparse.Namespace, asked: set[str], *, root: Path, now_us: int) -> Report:
    desk = Desk(args.state_dir)
    learnt, peers = desk.learnt(), known_peers(args.peers)
    withheld: list[str] = []
    args.private_only = args.private_only or peers is not None
    if not args.dry_run:
        if not args.fleet or not args.gateway:
            raise UsageError("--fleet and --gateway are wanted where no agent with federation runs, or --dry-run")
        if args.private_only:
            learnt, withheld = desk.withhold(learnt)
        desk.catch_up(learnt)
    report = _run(args, asked, desk, learnt=learnt, peers=peers, root=root, now_us=now_us)
    report.private_only, report.refused = args.private_only, dict(sorted(desk.counts.items()))
    report.refused_calls = withheld + report.refused_calls
    return report


def _run(
    args: argparse.Namespace, asked: set[str], desk: Desk, *, learnt: Learnt,
    peers: Mapping[str, Ed25519PublicKey] | None, root: Path, now_us: int,
) -> Report:  # fmt: skip
    bundle = _bundle(args)
    head = read_head(bundle.model)
    keys = [key for _, key in trusted_keys(args.aggregators)]
    private = None
    if not args.dry_run:
        private = PrivateDesk(desk, key=own_key(desk.folder), aggregators=keys, peers=peers)
        private.go_on(now_us=now_us)
        learnt = desk.learnt()  # where the power went when a private round began, it knows of that now
    calls = desk.newest_call(
        keys,
        fleet=args.fleet, bundle_sha256=bundle.manifest_sha256, parameters=head.flat.size, learnt=learnt, now_us=now_us,
        is_private_only=args.private_only,
    )  # fmt: skip
    verdicts = _verdicts(args.state_dir / RULES_FILE)
    against = reasons_against(root, cores=os.cpu_count() or 1)
    why = None
    if calls.call is None and not args.dry_run:
        why = "no round is open for this gateway"
    elif calls.call is not None and calls.call.header.round == learnt.round and not args.dry_run:
        why = f"round {learnt.round} is answered"
    elif against and not args.now:
        why = "; ".join(against)
    elif not (args.state_dir / SAMPLES_FILE).exists():
        why = "no samples were kept here yet"
    if why is not None:
        return _told(Report(why=why, refused_calls=calls.refused), private)
    with SampleBook(args.state_dir / SAMPLES_FILE) as book:
        judged = len(book.incidents() & set(verdicts))
        known = reason_for(
            verdicts=judged, verdicts_before=learnt.verdicts, learnt_us=learnt.learnt_us, now_us=now_us,
            has_drifted="drift" in asked,
        )  # fmt: skip
        if known is None and not args.now and not args.dry_run:
            return _told(Report(why="nothing new since it last learnt", refused_calls=calls.refused), private)
        anchors, refused = desk.anchors(
            keys, fleet=args.fleet, bundle_sha256=bundle.manifest_sha256, embedding=head.embedding
        )
        sender = None if args.dry_run else (args.gateway, own_key(desk.folder))
        report = finetune(
            bundle, OnnxEngine(bundle), book, verdicts, call=calls.call, anchors=anchors, learnt=learnt, now_us=now_us,
            sender=sender, desk=None if args.dry_run else desk, call_message=calls.message, private=private,
        )  # fmt: skip
    report.refused_calls = calls.refused + refused
    return _told(report, private)


def _told(report: Report, private: PrivateDesk | None) -> Report:
    """Return the report with what a private round was answered."""
    if private is not None:
        report.private = private.told
        report.refused_calls = report.refused_calls + private.refused
    return report


def _bundle(args: argparse.Namespace) -> Bundle:
    if args.bundle is None:
        return default_bundle()
    return load_bundle(args.bundle, trust=args.trust)


def _verdicts(path: Path) -> Mapping[str, Verdict]:
    """Return what the operator said of incidents. Raises StateRefused where the file is broken."""
    try:
        state = json.loads(read_bounded(path, most_bytes=MAX_RULES_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as exc:
        raise StateRefused(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(state, dict):
        raise StateRefused(f"{path}: holds a JSON {type(state).__name__}, wanted an object")
    return Rules.restored(state).verdicts


def _parser() -> Parser:
    parser = Parser(
        prog=NAME, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state-dir", type=folder, default=STATE_DIR, metavar="DIR", help="default %(default)s")
    parser.add_argument("--bundle", type=folder, metavar="DIR", help="the bundle in use (default: the agent's)")
    parser.add_argument("--trust", type=folder, metavar="DIR", help=f"keys of bundles (the agent's, or {TRUST_DIR})")
    aggregators_help = f"keys of aggregators (the agent's, or {AGGREGATORS_DIR})"
    parser.add_argument("--aggregators", type=folder, metavar="DIR", help=aggregators_help)
    parser.add_argument(
        "--peers", type=folder, default=PEERS_DIR, metavar="DIR",
        help="keys of other gateways, NAME.pub: where it holds any, private rounds alone, with no others (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--private-only", action="store_true", help="let no unmasked update leave: answer private rounds alone"
    )
    parser.add_argument("--fleet", default="", metavar="NAME", help="whose rounds are answered (default: the agent's)")
    gateway_help = "this gateway, as it is enrolled (default: the agent's)"
    parser.add_argument("--gateway", default="", metavar="NAME", help=gateway_help)
    parser.add_argument("--dry-run", action="store_true", help="learn and tell; write nothing")
    parser.add_argument("--now", action="store_true", help="although the board is hot or loaded, or nothing is new")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
