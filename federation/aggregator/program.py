"""`penstock-aggregator`: hold a fleet's rounds, and bring what was learnt to its gateways.

`run` is the service; every other command works on the same store beside it, and what it changes a running worker tells
the gateways at its next turn. Settings are read here and nowhere else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from contracts.errors import MissingExtra, UsageError
from contracts.findings import exit_code_of, json_text, lines
from contracts.program import Parser, give_examples, run_program
from contracts.terminal import printable
from contracts.trust import read_public_key
from federation.aggregator.doctor import examine
from federation.aggregator.ledger import Ledger
from federation.aggregator.moving import copy
from federation.aggregator.office import Office
from federation.aggregator.owner import become_owner_of
from federation.aggregator.settings import FILE, load_config
from federation.aggregator.stores import check_name
from federation.aggregator.worker import Worker

NAME: Final = "penstock-aggregator"
EPILOG: Final = """\
examples:
  sudo penstock-aggregator doctor
  penstock-aggregator run
  penstock-aggregator enrol attic attic.pub
  penstock-aggregator status --json | jq .round
  penstock-aggregator revoke attic
  penstock-aggregator open
  penstock-aggregator release
  penstock-aggregator halt --why "the barn complains"
  penstock-aggregator rollback --why "attacks nobody was told of"
  penstock-aggregator log --json | tail -3
  penstock-aggregator copy postgresql:///penstock?host=/run/postgresql

Commands beside a running service work as its user, who owns the state folder: root becomes that user by itself.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(NAME, lambda: run(_parser().parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    """Run a command on the aggregator that the settings describe."""
    if args.command == "doctor":
        return _doctor(args)
    config = load_config(args.config)
    if args.command == "enrol":
        args.key = read_public_key(args.key)  # while we still are who asked: it may stand in root's home
    become_owner_of(config.worker.state_dir)
    office = Office(config)
    try:
        told: dict[str, Any] | list[Any] | None = args.run(office, args)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    finally:
        office.close()
    if told is not None:
        _print(told, is_json=args.json)
    return 0


def _run(office: Office, _args: argparse.Namespace) -> None:
    Worker(office).run()


def _status(office: Office, _args: argparse.Namespace) -> dict[str, Any]:
    return office.facts(now_us=_now_us())


def _enrol(office: Office, args: argparse.Namespace) -> dict[str, Any]:
    office.rounds.enrol(args.gateway, args.key, now_us=_now_us())
    return {"enrolled": args.gateway}


def _revoke(office: Office, args: argparse.Namespace) -> dict[str, Any]:
    office.rounds.revoke(args.gateway, now_us=_now_us())
    return {"revoked": args.gateway}


def _open(office: Office, _args: argparse.Namespace) -> dict[str, Any]:
    return {"round": office.open_round(now_us=_now_us())}


def _release(office: Office, _args: argparse.Namespace) -> dict[str, Any]:
    released = office.release(now_us=_now_us())
    return {"release": released.number, "bundle_sha256": released.bundle_sha256, "state": released.state}


def _halt(office: Office, args: argparse.Namespace) -> dict[str, Any]:
    return {"halted": office.rollouts.halt(why=args.why, now_us=_now_us())}


def _rollback(office: Office, args: argparse.Namespace) -> dict[str, Any]:
    return {"rolled_back": office.rollouts.roll_back(why=args.why, now_us=_now_us())}


def _log(office: Office, _args: argparse.Namespace) -> list[Any]:
    with office.ledger.snapshot():  # the service may let the oldest go meanwhile
        return office.ledger.audit()


def _copy(office: Office, args: argparse.Namespace) -> dict[str, Any]:
    target = Ledger(check_name(args.store))
    try:
        return {"copied": copy(office.ledger, target, now_us=_now_us()), "to": target.name}
    finally:
        target.close()


def _doctor(args: argparse.Namespace) -> int:
    found = examine(args.config, is_offline=args.offline, timeout_s=args.timeout)
    print(json_text(found) if args.json else "\n".join([*lines(found), ""]), end="")
    return exit_code_of(found)


def _print(told: dict[str, Any] | list[Any], *, is_json: bool) -> None:
    if isinstance(told, list):
        for entry in told:  # a line each, so that tail and grep serve
            print(json.dumps(entry, sort_keys=True) if is_json else _line(entry))
    elif is_json:
        print(json.dumps(told, indent=1, sort_keys=True))
    elif "gateways" in told:
        print("\n".join(_status_lines(told)))
    else:
        print(_line(told))


def _line(told: dict[str, Any]) -> str:
    return printable(", ".join(f"{key} {value}" for key, value in told.items()))


def _status_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"fleet {facts['fleet']}, release {facts['bundle']['release']}, head {facts['head'][:16]}"]
    held, out = facts["round"], facts["rollout"]
    if held is None:
        lines.append("no round yet")
    else:
        left = f", {held['left_s']} s left" if held["state"] == "open" else ""
        is_private = held["state"] == "open" and held["stage"]
        what = f"{held['stage']} of {held['updates']} gateways" if is_private else f"{held['updates']} updates"
        lines.append(
            f"round {held['number']} is {held['state']}: {what}, quorum {held['quorum']}{left}"
            + (f"; {held['why']}" if held["why"] else "")
        )
    if out is not None:
        lines.append(
            f"release {out['release']} is {out['state']}: ordered to {out['ordered']}, run by {out['running']}"
            + (f"; {out['why']}" if out["why"] else "")
        )
    for each in facts["gateways"]:
        state = "revoked" if each["is_revoked"] else "sent" if each["has_sent"] else "waited for"
        runs = "" if each["release"] is None else f", runs release {each['release']} ({each['calibration']})"
        lines.append(f"  {each['name']}: {state}{runs}")
    return [printable(line) for line in lines]


def _now_us() -> int:
    return time.time_ns() // 1000


def _parser() -> argparse.ArgumentParser:
    if sys.version_info < (3, 11):
        raise MissingExtra("the aggregator needs Python 3.11 or later")
    parser = Parser(prog=NAME, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run_it, told in (
        ("run", _run, "hold rounds and roll out what they give, until SIGTERM"),
        ("doctor", None, "what keeps this server from serving, and what to do about each"),
        ("status", _status, "how round, roll-out and gateways stand"),
        ("enrol", _enrol, "let a gateway take part, by its public key"),
        ("revoke", _revoke, "take nothing by a gateway from now on"),
        ("open", _open, "open a round now, or tell which is open"),
        ("log", _log, "the audit log, after checking that nothing was taken out"),
        ("copy", _copy, "copy everything into an empty store, while no worker runs; `store` is to name that one then"),
        ("release", _release, "build a bundle of the head that was adopted last, and begin to roll it out"),
        ("halt", _halt, "leave a roll-out with its canaries"),
        ("rollback", _rollback, "order every gateway back from the newest release"),
    ):
        command = commands.add_parser(name, help=told, description=told)
        command.add_argument("--config", type=Path, default=FILE, metavar="FILE", help="settings (%(default)s)")
        command.add_argument("--json", action="store_true", help="JSON instead of lines for people")
        command.set_defaults(run=run_it)
        if name in ("enrol", "revoke"):
            command.add_argument("gateway", metavar="GATEWAY", help="its name, that of its certificate")
        if name == "enrol":
            command.add_argument("key", type=Path, metavar="KEY.pub", help="federation/key.pub of its state folder")
        if name == "copy":
            command.add_argument("store", metavar="STORE", help="an absolute path, or postgresql:// without a password")
        if name == "doctor":
            command.add_argument("--offline", action="store_true", help="do not ask the broker")
            command.add_argument(
                "--timeout", type=float, default=5.0, metavar="S", help="for each answer of the broker (default 5)"
            )
        if name in ("halt", "rollback"):
            command.add_argument("--why", default="an operator asked for it", metavar="TEXT", help="for the audit log")
    give_examples(commands.choices, EPILOG)
    return parser


if __name__ == "__main__":
    sys.exit(main())
