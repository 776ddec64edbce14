"""`penstock model`: the bundles kept on this gateway, which one serves, and how the operator has another one.

It works beside a running agent, and without one: what is asked for is left in the store, and whoever serves takes it up
within a second, or at its next start. The agent tries a newer bundle in the shadow first; `--at-once` spares it that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from agent.bundles.store import PACKAGE, Store, Wish, name_of
from agent.console.outfile import printing
from agent.state.rules import STATE_DIR
from contracts.bundle import default_bundle
from contracts.errors import BundleError, DataMissing
from contracts.program import folder
from contracts.terminal import complain, printable
from contracts.trust import TRUST_DIR

EPILOG = """\
examples:
  penstock model list
  sudo penstock model stage ./bundle-17
  sudo penstock model rollback
  sudo penstock model rollback package
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock model`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("what", choices=("list", "stage", "rollback"), help="show the bundles; let a new one serve; go back to another")
    add(
        "bundle",
        nargs="?",
        metavar="DIR|NAME",
        help="stage: its folder; rollback: a name of the list (default the last)",
    )
    add("--at-once", action="store_true", help="stage: do not try it in the shadow first")
    state_help = "where the agent keeps its state (default %(default)s)"
    add("--state-dir", type=folder, default=STATE_DIR, metavar="DIR", help=state_help)
    trust_help = "folder of the keys that may vouch for a bundle (default %(default)s)"
    add("--trust", type=folder, default=TRUST_DIR, metavar="DIR", help=trust_help)
    add("--json", action="store_true", help="list: print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what is asked and return the exit code."""
    store = Store(args.state_dir / "models", trust=args.trust)
    if args.what == "stage":
        return _stage(store, args)
    if args.what == "rollback":
        return _roll_back(store, args)
    return _list(store, as_json=args.json)


def _stage(store: Store, args: argparse.Namespace) -> int:
    if args.bundle is None:
        raise DataMissing("model stage: no bundle named, wanted its folder")
    bundle = store.stage(Path(args.bundle), newest=_release(store, store.standing.active))
    store.want(Wish(name_of(bundle), at_once=args.at_once))
    complain(f"{bundle.manifest.name} release {bundle.manifest.release} is wanted; the agent takes it up")
    return 0


def _roll_back(store: Store, args: argparse.Namespace) -> int:
    name = store.standing.previous if args.bundle is None else args.bundle
    if name != PACKAGE and name not in store.names():
        known = ", ".join([PACKAGE, *store.names()])
        raise DataMissing(f"model rollback: {printable(name)} is not kept here, wanted one of {known}")
    bundle = store.load(name)
    store.want(Wish(name, rollback=True))
    complain(f"{bundle.manifest.name} release {bundle.manifest.release} is wanted back; the agent takes it up")
    return 0


def _list(store: Store, *, as_json: bool) -> int:
    rows = [_row(store, name) for name in [PACKAGE, *store.names()]]
    with printing() as stream:
        if as_json:
            stream.write(json.dumps({"bundles": rows}) + "\n")
            return 0
        for row in rows:
            mark = "*" if row["serves"] else "<" if row["before"] else " "
            said = row["trouble"] or row["refused"] or f"{row['model']} release {row['release']}"
            stream.write(f"{mark} {row['name']}  {printable(said)}\n")
        stream.write("* serves, or did last   < served before\n")
    return 0


def _row(store: Store, name: str) -> dict[str, Any]:
    standing, row = store.standing, {"name": name, "model": "", "release": 0, "signer": "", "trouble": ""}
    try:
        bundle = store.load(name)
        row |= {"model": bundle.manifest.name, "release": bundle.manifest.release, "signer": bundle.signer or ""}
    except BundleError as exc:
        row["trouble"] = str(exc)
    refused = standing.refused.get(name, "")
    return row | {"serves": name == standing.active, "before": name == standing.previous, "refused": refused}


def _release(store: Store, name: str) -> int:
    """Return the release that serves; what cannot be read any more is no reason to refuse another."""
    try:
        return store.load(name).manifest.release
    except BundleError:
        return default_bundle().manifest.release
