"""`penstock mute`: silence alerts of a device, a class or a peer for a time; list what is silenced; undo it.

Works with and without a running agent, which takes up the change by itself. Benign rules made by `penstock feedback`
are listed and removed here too: one list says everything that keeps an incident from opening.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from agent.options.values import network
from agent.state.rules import RULES_FILE, STATE_DIR, RulesFile
from contracts.errors import DataMissing, UsageError
from contracts.terminal import printable
from detection.rules import ATTACKS, MAX_MUTES, BenignRule, Mute, RulesState, is_mac
from flowfeatures import address_text

SECOND_US: Final = 1_000_000
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST_S: Final = 366 * 86_400

EPILOG = """\
A mute names a device (address, CIDR or MAC), a class of attack, a peer (address or CIDR), or several of them, and ends
by itself. What it keeps back is counted, never sent.

examples:
  sudo penstock mute add --device 192.168.1.30 --class scan --for 2h --note 'inventory run'
  sudo penstock mute add --peer 192.168.1.5 --for 7d
  penstock mute list
  sudo penstock mute remove m-1f0c99aa
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `penstock mute` and their options."""
    parser.epilog = EPILOG
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--state-dir", type=Path, default=STATE_DIR, metavar="DIR", help="the agent's state (default %(default)s)"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", parents=[where], help="silence something for a time")
    add.add_argument("--device", type=_device, metavar="WHO", help="address, CIDR or MAC of the device")
    add.add_argument("--class", dest="attack_class", choices=ATTACKS, metavar="CLASS", help="class of attack")
    add.add_argument("--peer", type=network, metavar="CIDR", help="address or network at the other end")
    add.add_argument("--for", dest="for_s", type=duration_s, default="1d", metavar="TIME", help="as 30m, 12h, 7d (1d)")
    add.add_argument("--note", type=_note, default="", metavar="TEXT", help="why, for whoever lists it")
    shown = actions.add_parser("list", parents=[where], help="show mutes and benign rules")
    shown.add_argument("--json", action="store_true", help="as JSON lines")
    remove = actions.add_parser("remove", parents=[where], help="undo a mute or a benign rule")
    remove.add_argument("id", metavar="ID", help="as `list` shows it")


def run(args: argparse.Namespace) -> int:
    """Do one action; return the exit code."""
    file, now_us = RulesFile(args.state_dir / RULES_FILE), time.time_ns() // 1000
    if args.action == "add":
        return _add(args, file, now_us=now_us)
    if args.action == "remove":
        return _remove(args.id, file, now_us=now_us)
    state = file.read().state
    rules: list[Mute | BenignRule] = [*state.mutes, *state.benign]
    active = [each for each in rules if each.expires_us > now_us]
    for each in active:
        print(json.dumps(_as_dict(each)) if args.json else _line(each))
    if not active and not args.json:
        print("nothing is muted")
    return 0


def duration_s(text: str) -> int:
    """Return seconds: a whole number and one of s, m, h, d.

    >>> duration_s("12h")
    43200
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None or not 0 < int(found[1]) * UNITS_S[found[2]] <= MOST_S:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a time as 30m, 12h or 7d, at most 366d")
    return int(found[1]) * UNITS_S[found[2]]


def _device(text: str) -> str:
    return text.lower() if is_mac(text.lower()) else network(text)


def _note(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise argparse.ArgumentTypeError("wanted one line of at most 200 characters")
    return text


def _add(args: argparse.Namespace, file: RulesFile, *, now_us: int) -> int:
    if args.device is None and args.attack_class is None and args.peer is None:
        raise UsageError("mute add: a mute of everything is refused, name --device, --class or --peer")
    mute = Mute(
        id=f"m-{os.urandom(4).hex()}",
        device=args.device,
        attack_class=args.attack_class,
        peer=args.peer,
        created_us=now_us,
        expires_us=now_us + args.for_s * SECOND_US,
        note=args.note,
    )

    def change(state: RulesState) -> RulesState:
        if len(state.mutes) >= MAX_MUTES:
            raise UsageError(f"mute add: {MAX_MUTES} mutes are in force already, remove one first")
        return RulesState(mutes=[*state.mutes, mute], benign=state.benign, verdicts=dict(state.verdicts))

    file.change(change, now_us=now_us)
    print(_line(mute))
    return 0


def _remove(name: str, file: RulesFile, *, now_us: int) -> int:
    def change(state: RulesState) -> RulesState:
        mutes = [each for each in state.mutes if each.id != name]
        benign = [each for each in state.benign if each.id != name]
        if len(mutes) + len(benign) == len(state.mutes) + len(state.benign):
            raise DataMissing(f"mute remove: there is no rule {printable(name[:40])} (see penstock mute list)")
        return RulesState(mutes=mutes, benign=benign, verdicts=dict(state.verdicts))

    file.change(change, now_us=now_us)
    print(f"{name} removed")
    return 0


def _as_dict(rule: Mute | BenignRule) -> dict[str, object]:
    shown: dict[str, object] = rule.model_dump(exclude={"prints"})
    if isinstance(rule, BenignRule):
        shown |= {"device": address_text(bytes.fromhex(rule.device)), "prints": len(rule.prints)}
    return shown


def _line(rule: Mute | BenignRule) -> str:
    until = datetime.fromtimestamp(rule.expires_us // SECOND_US, tz=timezone.utc).strftime("until %Y-%m-%d %H:%M UTC")
    if isinstance(rule, BenignRule):
        device = rule.mac or address_text(bytes.fromhex(rule.device))
        return f"{rule.id}  benign  device {device}  class {rule.attack_class}  {until}  alert {rule.alert_id}"
    parts = (("device", rule.device), ("class", rule.attack_class), ("peer", rule.peer), ("note", rule.note))
    told = "  ".join(f"{name} {printable(value)}" for name, value in parts if value)
    return f"{rule.id}  mute  {told}  {until}"
