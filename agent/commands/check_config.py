"""`penstock check-config`: whether `penstock run` could start with its configuration. Builds nothing, opens no socket.

It is what a unit runs before every start, so it must stay cheap: a restart loop must not heat a small board. What is
wrong ends it with 78 and one line; what will be noticed later (an interface that is absent now) is a warning.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.capture.interface import index_of
from agent.config import AgentConfig, conf_d_of, default_file, load_config, read_secret, secret_path
from agent.config.certificates import check_authorities, server_context
from agent.config.secret import is_readable_by_others
from agent.config.values import host_and_port, is_loopback
from agent.console.outfile import printing
from contracts.errors import ConfigError, PenstockError
from contracts.terminal import complain, printable

EPILOG = """\
examples:
  penstock check-config
  penstock check-config /etc/penstock/agent.toml
  penstock check-config agent.toml --json | jq .config.mqtt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock check-config`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    file_help = "agent.toml to check, with conf.d/ beside it (default /etc/penstock/agent.toml, where there is one)"
    add("file", nargs="?", type=Path, metavar="FILE", help=file_help)
    add("--json", action="store_true", help="print one JSON object: file, warnings and every setting, or the error")


def run(args: argparse.Namespace) -> int:
    """Check, say what was found, and return the exit code."""
    try:
        file, config, warnings = checked(args.file, environ=os.environ)
    except PenstockError as exc:
        if args.json:
            _print({"ok": False, "error": printable(str(exc)), "exit_code": exc.exit_code})
        raise
    for warning in warnings:
        complain(f"warning: {warning}")
    if args.json:
        found = {"ok": True, "file": None if file is None else str(file), "warnings": warnings}
        _print({**found, "config": config.shown()})
    else:
        with printing() as stream:
            stream.write(f"{printable(str(file or 'defaults and environment'))}: ok{_watched(config)}\n")
    return 0


def checked(file: Path | None, *, environ: Mapping[str, str]) -> tuple[Path | None, AgentConfig, list[str]]:
    """Return the file that is used, its configuration and what to warn of. Raises ConfigError."""
    file = default_file() if file is None else file.absolute()
    config = load_config(file, conf_d=conf_d_of(file), environ=environ, overrides={})
    check_files(config, environ=environ)
    return file, config, list(warnings_of(config, environ=environ))


def check_files(config: AgentConfig, *, environ: Mapping[str, str]) -> None:
    """Raise ConfigError where a file that a setting names cannot be used."""
    for section, key, name in _secrets(config):
        with _named(section, key):
            read_secret(name, environ=environ)
    for section, key, path in _authorities(config):
        with _named(section, key):
            check_authorities(path)
    for section, cert, private in _certificates(config):
        with _named(section, "cert_file"):
            server_context(cert, private)
    if config.scoring.bundle is not None and not (config.scoring.bundle / "manifest.json").is_file():
        wanted = "the folder of a bundle, with a manifest.json in it"
        raise ConfigError(f"scoring.bundle: {printable(str(config.scoring.bundle))}, wanted {wanted}")


def warnings_of(config: AgentConfig, *, environ: Mapping[str, str]) -> Iterator[str]:
    """Give what is no error and will be noticed later, one line each."""
    for interface in config.capture.interfaces:
        if index_of(interface) is None:
            yield f"capture.interfaces: {interface} is not there now; it is taken up when it comes"
    outputs = config.eve.path, config.syslog.address, config.mqtt.url
    if not config.stdout.enabled and all(each is None for each in outputs):
        yield "no alert goes anywhere: set eve.path, mqtt.url, syslog.address or stdout.enabled"
    for name, folder in _folders(config):
        if not folder.is_dir():
            yield f"{name}: {printable(str(folder))} is not there; it must be made before the start"
    for section, key, name in _secrets(config):
        if is_readable_by_others(path := secret_path(name, environ=environ)):
            yield f"{section}.{key}: others may read {printable(str(path))} (chmod o-r)"
    if config.mqtt.url is not None and urlsplit(config.mqtt.url).password is not None:
        yield "mqtt.url: a password stands in the address; others may read the file: use password_file"
    metrics = config.metrics
    if metrics.enabled and not is_loopback(host_and_port(metrics.listen)[0]):
        missing = [what for what, key in (("TLS", metrics.cert_file), ("a password", metrics.username)) if key is None]
        if missing:
            yield f"metrics.listen: {metrics.listen} is open to other machines without {' and '.join(missing)}"


def _watched(config: AgentConfig) -> str:
    return f", watches {', '.join(config.capture.interfaces)} as {config.gateway.id}"


def _print(found: dict[str, Any]) -> None:
    with printing() as stream:
        stream.write(json.dumps(found) + "\n")


@contextmanager
def _named(section: str, key: str) -> Iterator[None]:
    """Put the setting's name before an error about the file it names."""
    try:
        yield
    except ConfigError as exc:
        raise ConfigError(f"{section}.{key}: {exc}") from None


def _secrets(config: AgentConfig) -> Iterator[tuple[str, str, str]]:
    if config.mqtt.url is not None and config.mqtt.password_file is not None:
        yield "mqtt", "password_file", config.mqtt.password_file
    if config.metrics.enabled and config.metrics.password_file is not None:
        yield "metrics", "password_file", config.metrics.password_file


def _authorities(config: AgentConfig) -> Iterator[tuple[str, str, Path]]:
    if config.mqtt.url is not None and config.mqtt.ca_file is not None:
        yield "mqtt", "ca_file", config.mqtt.ca_file
    if config.syslog.address is not None and config.syslog.ca_file is not None:
        yield "syslog", "ca_file", config.syslog.ca_file


def _certificates(config: AgentConfig) -> Iterator[tuple[str, Path, Path]]:
    if config.mqtt.url is not None and config.mqtt.cert_file is not None:
        yield "mqtt", config.mqtt.cert_file, config.mqtt.key_file or config.mqtt.cert_file
    if config.metrics.enabled and config.metrics.cert_file is not None:
        yield "metrics", config.metrics.cert_file, config.metrics.key_file or config.metrics.cert_file


def _folders(config: AgentConfig) -> Iterator[tuple[str, Path]]:
    yield "gateway.state_dir", config.gateway.state_dir
    if config.eve.path is not None:
        yield "eve.path", config.eve.path.parent
    if config.status.enabled:
        yield "status.socket", config.status.socket.parent.parent  # the last folder is made at the start
