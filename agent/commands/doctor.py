"""`penstock doctor`: what on this machine keeps the agent from working well, and what to do about each.

It changes nothing, works beside a running agent and without one, and looks at everything even where something fails:
the trap of a check that ends at the first fault is that its reader comes back ten times.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from agent.checks.capturing import interfaces
from agent.checks.delivering import broker, certificates
from agent.checks.finding import FAIL, OK, WARN, Check, Finding, Patient, fail, ok, warn
from agent.checks.machine import board, capabilities, clock, kernel
from agent.checks.places import disk, state_dir
from agent.checks.scoring import bundle, providers, runtime, tensorrt
from agent.commands.check_config import checked as checked_config
from agent.commands.check_config import warnings_of
from agent.config import AgentConfig, conf_d_of, default_file, load_config
from agent.console.outfile import printing
from contracts.errors import ConfigError, PenstockError
from contracts.program import folder
from contracts.terminal import printable

EPILOG = """\
examples:
  sudo penstock doctor
  sudo penstock doctor --config ./agent.toml --json
  sudo penstock doctor --interface eth0       # without a configuration

exit codes: 0 nothing fails (warnings there may be), 1 something fails
"""
SOMETHING_FAILS: Final = 1
CHECKS: Final[tuple[Check, ...]] = (
    kernel, board, capabilities, clock, interfaces, state_dir, disk, bundle, runtime, providers, tensorrt, broker,
    certificates,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock doctor`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    config_help = "the agent's settings, with conf.d/ beside it (default /etc/penstock/agent.toml, where there is one)"
    add("--config", type=Path, metavar="FILE", help=config_help)
    add("--interface", action="append", metavar="IFACE", help="look at this one instead of the configured ones")
    add("--root", type=folder, default=Path("/"), metavar="DIR", help="where proc, sys and etc stand (default /)")
    add("--timeout", type=float, default=5.0, metavar="S", help="how long the broker may take (default 5)")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Look at everything, say it, and return the exit code."""
    logging.getLogger("paho").setLevel(logging.CRITICAL)
    config, told = configuration(args.config, environ=os.environ)
    named = () if config is None else config.capture.interfaces
    patient = Patient(
        config=config,
        interfaces=tuple(args.interface or named),
        root=args.root,
        environ=dict(os.environ),
        timeout_s=args.timeout,
    )
    findings = [*told, *(finding for check in CHECKS for finding in looked(check, patient))]
    with printing() as stream:
        if args.json:
            counts = Counter(each.state for each in findings)
            summary = {state: counts[state] for state in (OK, WARN, FAIL)}
            content = {"healthy": not counts[FAIL], **summary, "findings": [asdict(each) for each in findings]}
            stream.write(json.dumps(content) + "\n")
        else:
            stream.writelines(line + "\n" for line in lines(findings))
    return SOMETHING_FAILS if any(each.state == FAIL for each in findings) else 0


def configuration(file: Path | None, *, environ: Mapping[str, str]) -> tuple[AgentConfig | None, list[Finding]]:
    """Return the settings, None where they do not even read, and what is to be said of them."""
    remedy = "put it right, then penstock check-config"
    used = default_file() if file is None else file.absolute()
    try:
        config = load_config(used, conf_d=conf_d_of(used), environ=environ, overrides={})
    except PenstockError as exc:
        if used is None and "capture.interfaces" in str(exc):
            seen = "no /etc/penstock/agent.toml, and capture.interfaces is not set"
            return None, [warn("config", seen, "sudo deploy/install.sh makes one; or penstock doctor --config FILE")]
        return None, [fail("config", str(exc), remedy)]
    try:
        checked_config(file, environ=environ)
    except ConfigError as exc:
        return config, [fail("config", str(exc), remedy)]
    noticed = list(warnings_of(config, environ=environ))
    named = "defaults and environment" if used is None else str(used)
    return config, [warn("config", each, remedy) for each in noticed] or [ok("config", named)]


def looked(check: Check, patient: Patient) -> Iterator[Finding]:
    """Give what a check finds; one that breaks down is a finding of its own, and the others are still asked."""
    try:
        yield from check(patient)
    except Exception as exc:
        logging.getLogger("penstock").debug("a check broke down", exc_info=exc)
        yield fail(check.__name__, f"could not be looked at: {exc}", "please report it")


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Give the findings as lines, each with what to do below it, and a last one that sums them up."""
    width = max(len(each.check) for each in findings)
    for each in findings:
        yield f"{each.state:<4}  {each.check:<{width}}  {printable(each.seen)}"
        if each.remedy:
            yield f"{'':<{width + 8}}-> {printable(each.remedy)}"
    counts = Counter(each.state for each in findings)
    yield f"{counts[OK]} ok, {counts[WARN]} to be looked at, {counts[FAIL]} failed"
