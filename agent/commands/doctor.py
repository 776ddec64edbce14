"""`penstock doctor`: what on this machine keeps the agent from working well, and what to do about each.

It changes nothing, works beside a running agent and without one, and looks at everything even where something fails:
the trap of a check that ends at the first fault is that its reader comes back ten times.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from agent.checks.capturing import interfaces
from agent.checks.delivering import broker, certificates
from agent.checks.machine import board, capabilities, clock, kernel
from agent.checks.patient import Check, Patient
from agent.checks.places import disk, state_dir
from agent.checks.scoring import bundle, providers, runtime, tensorrt
from agent.commands.check_config import checked as checked_config
from agent.commands.check_config import warnings_of
from agent.config import AgentConfig, conf_d_of, default_file, load_config
from agent.console.outfile import printing
from contracts.errors import ConfigError, PenstockError
from contracts.findings import Finding, exit_code_of, fail, json_text, lines, looked, ok, warn
from contracts.program import folder

EPILOG = """\
examples:
  sudo penstock doctor
  sudo penstock doctor --config ./agent.toml --json
  sudo penstock doctor --interface eth0       # without a configuration

exit codes: 0 nothing fails (warnings there may be), 1 something fails
"""
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
    findings = [*told, *(each for check in CHECKS for each in looked(check.__name__, partial(check, patient)))]
    with printing() as stream:
        if args.json:
            stream.write(json_text(findings))
        else:
            stream.writelines(line + "\n" for line in lines(findings))
    return exit_code_of(findings)


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
