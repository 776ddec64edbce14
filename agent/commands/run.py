"""`penstock run`: interfaces through the whole path, live, until a signal asks for the end.

Reads the settings (files, environment, these options) and hands them to `agent.live.service`. Without a configuration
file nothing is kept beside what the options ask for: a person tries something, and leaves no trace.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.config import AgentConfig, conf_d_of, default_file, load_config
from agent.console.outfile import STDOUT
from agent.live.outlets import check_outputs
from agent.live.service import Service
from agent.options.alerts import add_alert_arguments, check_alert_arguments
from agent.options.engine import add_engine_arguments
from agent.options.values import seconds
from agent.stopping import HangUp, StopRequest
from contracts.errors import ConfigError

EPILOG = """\
examples:
  sudo penstock run --interface eth0 --eve /var/log/penstock/eve.json
  sudo penstock run --interface br0 --home-net 192.168.1.0/24 --mqtt mqtts://broker.lan --gateway cellar
  sudo penstock run --interface br0 --interface wan0 --filter 'not port 22' --eve - --duration 60
  penstock run --config /etc/penstock/agent.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock run`; each one given wins over the configuration."""
    parser.epilog = EPILOG
    add = parser.add_argument
    config_help = "settings, with conf.d/ beside it (default /etc/penstock/agent.toml, where there is one)"
    add("--config", type=Path, metavar="FILE", help=config_help)
    interface_help = "capture here until Ctrl-C, may be repeated; needs CAP_NET_RAW"
    add("--interface", action="append", metavar="IFACE", help=interface_help)
    add("--filter", metavar="BPF", help="only what this pcap filter lets through")
    add("--duration", type=seconds, metavar="S", help="end after so many seconds")
    add_engine_arguments(parser)
    add_alert_arguments(parser, gateway_name=None)


def run(args: argparse.Namespace) -> int:
    """Watch until the time is over or a signal asks for the end, which is no error; return the exit code."""
    check_alert_arguments(args)
    logging.getLogger("agent").setLevel(logging.INFO)
    file = args.config or default_file()
    load = loader(args, file, environ=os.environ)
    try:
        config = load()
    except ConfigError as exc:
        if file is None and args.interface is None:
            raise ConfigError(f"{exc}; --interface IFACE names one, --config FILE a configuration") from exc
        raise
    state_dir = state_dir_of(config, file)
    check_outputs(config, state_dir=state_dir)
    with StopRequest() as stop, HangUp() as hang_up:
        service = Service(config, file=file, state_dir=state_dir, load=load, environ=os.environ)
        with service:
            code = service.run(stop=stop, hang_up=hang_up, duration_s=args.duration)
        service.outgoing.settle()
        return next((error.exit_code for error in service.outgoing.errors), code)


def loader(args: argparse.Namespace, file: Path | None, *, environ: Mapping[str, str]) -> Callable[[], AgentConfig]:
    """Return what reads the settings, now and at every reload. Raises, when called, UsageError and ConfigError."""
    overrides = overrides_of(args)
    return lambda: load_config(file, conf_d=conf_d_of(file), environ=environ, overrides=overrides)


def state_dir_of(config: AgentConfig, file: Path | None) -> Path | None:
    """Return where state is kept: for a service, or where somebody said so."""
    is_asked = "gateway" in config.model_fields_set and "state_dir" in config.gateway.model_fields_set
    return config.gateway.state_dir if file is not None or is_asked else None


def overrides_of(args: argparse.Namespace) -> dict[str, object]:
    """Return the options that were given, as settings."""
    given: dict[str, Any] = {
        "capture.interfaces": args.interface,
        "capture.filter": args.filter,
        "capture.home_nets": args.home_net,
        "capture.never_ban": args.never_ban or None,
        "gateway.id": args.gateway,
        "scoring.bundle": _absolute(args.bundle),
        "scoring.engine": args.engine,
        "scoring.tensorrt_socket": _absolute(args.tensorrt_socket),
        "eve.path": None if args.eve in (None, STDOUT) else _absolute(args.eve),
        "stdout.enabled": True if args.eve == STDOUT else None,
        "outbox.path": _absolute(args.outbox),
        "mqtt.url": args.mqtt,
        "mqtt.ca_file": _absolute(args.mqtt_ca),
        "mqtt.cert_file": _absolute(args.mqtt_cert),
        "mqtt.key_file": _absolute(args.mqtt_key),
        "mqtt.password_file": _absolute(args.mqtt_password_file),
        "mqtt.allow_plaintext": True if args.mqtt_allow_plaintext else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _absolute(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path).absolute()
