"""`penstock feedback`: what the operator says of an alert, and who said what before."""

from __future__ import annotations

import argparse
import datetime
import os
import pwd
import time
from pathlib import Path

from agent.console.outfile import printing
from agent.state.audit import AUDIT_FILE, AuditEntry, AuditLog
from agent.state.incident_record import DAY_US, KEEP_US, MAX_INCIDENTS
from agent.state.rules import STATE_DIR
from agent.state.verdicts import Source, give_verdict
from contracts.errors import DataMissing, UsageError
from contracts.terminal import printable
from detection.rules import BENIGN_RULE_DAYS

EPILOG = f"""\
ALERT_ID is the alert_id or the incident_id of an alert, of which the last {MAX_INCIDENTS:,} incidents of the last
{KEEP_US // DAY_US} days are known. What was called benign opens no incident where it looks the same again, on the same
device, for {BENIGN_RULE_DAYS} days. `penstock mute list` shows such rules, `penstock mute remove` revokes them.

examples:
  sudo penstock feedback 019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a benign
  sudo penstock feedback 019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a malicious
  sudo penstock feedback --log
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock feedback`."""
    parser.epilog = EPILOG
    parser.add_argument("alert_id", nargs="?", metavar="ALERT_ID", help="of the alert, or its incident_id")
    parser.add_argument("verdict", nargs="?", choices=("benign", "malicious"), help="what it was")
    parser.add_argument("--log", action="store_true", help="show who gave which verdict, and what came of it")
    parser.add_argument(
        "--state-dir", type=Path, default=STATE_DIR, metavar="DIR", help="the agent's state (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Take a verdict, or show the log; return the exit code."""
    if args.log:
        if args.alert_id is not None:
            raise UsageError("feedback: --log shows what was said and takes no verdict")
        return _show(AuditLog(args.state_dir / AUDIT_FILE))
    if args.verdict is None:
        raise UsageError("feedback: wanted ALERT_ID and benign or malicious, or --log")
    source = Source("command", operator=_operator())
    given = give_verdict(args.state_dir, args.alert_id, args.verdict, source=source, now_us=time.time_ns() // 1000)
    print(f"{given.incident.attack_class} at {given.device}: {given.outcome}")
    return 0


def _operator() -> str:
    """Return who calls: behind sudo, the one who called sudo."""
    if (name := os.environ.get("SUDO_USER")) is not None:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _show(log: AuditLog) -> int:
    try:
        entries = log.entries()
    except OSError as exc:
        raise DataMissing(f"{log.path}: cannot be read: {exc.strerror or exc}") from exc
    with printing() as stream:
        for entry in entries:
            stream.write(printable(_told(entry)) + "\n")
        if not entries:
            stream.write("no verdict was given yet\n")
    return 0


def _told(entry: AuditEntry) -> str:
    at = datetime.datetime.fromtimestamp(entry.at_us / 1e6, datetime.timezone.utc).isoformat(timespec="seconds")
    who = entry.operator or "somebody"
    about = entry.wanted if entry.device is None else f"{entry.attack_class} at {entry.device} ({entry.wanted})"
    note = f" [{entry.note}]" if entry.note else ""
    return f"{at}  {who} ({entry.by})  {entry.verdict}: {about}: {entry.outcome}{note}"
