"""`penstock forget`: what is kept of a device on this machine is removed; what left it before is not reached."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from agent.commands.status import asked
from agent.config import conf_d_of, default_file, load_config
from agent.console.outfile import printing
from agent.state.forgetting import forget, identity_of, running
from contracts.errors import ListenError, OutputError
from contracts.terminal import printable

EPILOG = """\
examples:
  sudo penstock forget 192.168.1.23 --dry-run
  sudo systemctl stop penstock && sudo penstock forget aa:bb:cc:dd:ee:ff; sudo systemctl start penstock

DEVICE is an address, a MAC, or the name that `penstock status` shows: one leads to the others. State, rules, verdicts,
incidents with their packets, waiting alerts, eve.json and its rotated files lose what names it. What was sent before
(broker, SIEM, the journal) and backups are not reached. A device that is still on the network is seen anew.
"""
STATE_DIR = Path("/var/lib/penstock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock forget`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("device", metavar="DEVICE", help="its address, MAC or name")
    add("--config", type=Path, metavar="FILE", help="configuration that says where things are kept")
    add("--state-dir", type=Path, metavar="DIR", help=f"folder of the state, instead (default {STATE_DIR})")
    add("--dry-run", action="store_true", help="only say where it is named; the agent may be running")


def run(args: argparse.Namespace) -> int:
    """Forget, say where the device stood, and return the exit code."""
    state_dir, outbox, eve, socket = _places(args)
    if not args.dry_run and _answers(socket):
        raise running()
    identity = identity_of(args.device, state_dir)
    found = forget(identity, state_dir=state_dir, outbox=outbox, eve=eve, is_rehearsal=args.dry_run)
    names = ", ".join(sorted(identity.macs | identity.addresses))
    with printing() as stream:
        if any(each.count for each in found):
            stream.write(printable(f"{names}: {'named in' if args.dry_run else 'removed from'}") + "\n")
        else:
            stream.write(printable(f"{names}: not named in anything kept here") + "\n")
        for each in found:
            if each.count:
                stream.write(printable(f"  {each.place}: {each.count:,}") + "\n")
    if unread := [each for each in found if each.unread]:
        more = f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
        raise OutputError(f"forget: {unread[0].place}: {unread[0].unread}; the device may be named there{more}")
    return 0


def _places(args: argparse.Namespace) -> tuple[Path, Path, Path | None, Path | None]:
    """Return state folder, outbox, eve.json and status socket. Raises ConfigError."""
    file = args.config or default_file()
    if file is None or (args.state_dir is not None and args.config is None):
        state_dir = args.state_dir or STATE_DIR
        return state_dir, state_dir / "outbox.db", None, None
    config = load_config(file.absolute(), conf_d=conf_d_of(file.absolute()), environ=os.environ, overrides={})
    state_dir = args.state_dir or config.gateway.state_dir
    socket = config.status.socket if config.status.enabled else None
    return state_dir, config.outbox.path or state_dir / "outbox.db", config.eve.path, socket


def _answers(socket: Path | None) -> bool:
    """Tell whether an agent answers there."""
    if socket is None:
        return False
    try:
        asked(socket)
    except ListenError:
        return False
    return True
