"""`penstock bridge`: alerts from a broker into eve.json, standard output or syslog, for a SIEM that reads those.

It runs where the SIEM is, needs neither a gateway nor a model, and publishes nothing.
"""

from __future__ import annotations

import argparse
import logging
import re
import socket
import time
from pathlib import Path
from typing import Final

from agent.bridging.bridge import Bridge
from agent.bridging.seen import Seen
from agent.bridging.targets import FileTarget, StdoutTarget, SyslogTarget, Target
from agent.console.apart import Outputs
from agent.console.outfile import STDOUT
from agent.delivery.broker import MqttSettings
from agent.delivery.syslog import FACILITIES, TRANSPORTS, SyslogSettings, syslog_outlet
from agent.options.mqtt import add_mqtt_arguments, gateway, mqtt_files, mqtt_settings
from agent.options.values import seconds
from agent.stopping import HangUp, StopRequest
from contracts.alert import is_gateway_id
from contracts.errors import BrokerRefused, BrokerUnavailable, UsageError
from contracts.formats import FORMAT_NAMES

EPILOG = """\
examples:
  penstock bridge --mqtt mqtts://broker.lan --mqtt-ca ca.pem --mqtt-cert siem.crt --mqtt-key siem.key \\
      --eve /var/log/penstock/eve.json
  penstock bridge --mqtt mqtt://127.0.0.1 --gateway cellar --eve - | jq .alert.signature
  penstock bridge --mqtt mqtt://127.0.0.1 --syslog siem.lan:6514 --syslog-transport tls --format cef
  penstock bridge --mqtt mqtt://127.0.0.1 --eve eve.json --once    # what waits at the broker, then end
"""
ONCE_QUIET_S: Final = 1.0  # --once: the broker has nothing more for us
ONCE_PATIENCE_S: Final = 10.0  # --once: no broker
TOLD_EVERY_S: Final = 600.0
MAX_BACKOFF_S: Final = 60.0

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock bridge`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add_mqtt_arguments(parser, purpose="take alerts from here")
    gateway_help = "only the alerts of this gateway, may be repeated (default all)"
    add("--gateway", action="append", type=gateway, default=[], metavar="ID", help=gateway_help)
    add("--client-id", metavar="ID", help="whose session the broker keeps (default penstock-bridge- and this host)")
    expiry_help = "how long the broker keeps it while we are away (default 604800, a week)"
    add("--session-expiry", type=_expiry, default=604_800, metavar="S", help=expiry_help)
    add("--eve", metavar="FILE", help="add alerts to this file as EVE JSON lines, forced to disk; - is stdout")
    add("--rotate-bytes", type=_count, default=64 << 20, metavar="N", help="set the file aside at this size (0: never)")
    add("--keep-files", type=_count, default=5, metavar="N", help="files set aside that are kept (default 5)")
    add("--syslog", metavar="ADDRESS", help="send alerts here instead: HOST, HOST:PORT, or a path for unix")
    add("--syslog-transport", choices=TRANSPORTS, default="udp", help="how (default udp)")
    add("--syslog-ca", type=Path, metavar="FILE", help="certificates that may have signed the server's (tls)")
    add("--facility", choices=tuple(FACILITIES), default="local0", metavar="NAME", help="of syslog (default local0)")
    format_help = f"of stdout and syslog: {', '.join(FORMAT_NAMES)} (default eve)"
    add("--format", choices=FORMAT_NAMES, default="eve", metavar="NAME", help=format_help)
    add("--once", action="store_true", help="end when the broker has nothing more for us")
    add("--duration", type=seconds, metavar="S", help="end after so many seconds")


def run(args: argparse.Namespace) -> int:
    """Carry alerts until a signal, the time or --once ends it, which is no error; return the exit code."""
    logging.getLogger("agent").setLevel(logging.INFO)
    settings = _settings(args)
    seen = Seen()
    with StopRequest() as stop, HangUp() as hang_up:
        bridge = Bridge(settings, _target(args, seen), gateways=args.gateway, seen=seen, expiry_s=args.session_expiry)
        try:
            _carry(bridge, args, stop=stop, hang_up=hang_up)
        finally:
            bridge.close()
            _log.info("%s", bridge.counts)
    return 0


def _carry(bridge: Bridge, args: argparse.Namespace, *, stop: StopRequest, hang_up: HangUp) -> None:
    began_s = told_s = time.monotonic()
    told = str(bridge.counts)
    while not stop:
        bridge.step()
        now_s = time.monotonic()
        if hang_up.taken():
            bridge.reopen()
        if args.duration is not None and now_s - began_s >= args.duration:
            break
        if args.once and bridge.has_all and now_s - bridge.quiet_since_s >= ONCE_QUIET_S:
            break
        if args.once and not bridge.is_subscribed:
            if bridge.is_refused:
                raise BrokerRefused(bridge.reason)
            if now_s - began_s >= ONCE_PATIENCE_S and not bridge.counts.connects:
                raise BrokerUnavailable(bridge.reason)
        if now_s - told_s >= TOLD_EVERY_S and str(bridge.counts) != told:
            told, told_s = str(bridge.counts), now_s
            _log.info("%s", told)


def _settings(args: argparse.Namespace) -> MqttSettings:
    if args.mqtt is None:
        raise UsageError("bridge: --mqtt must say where the broker is")
    client_id = args.client_id or default_client_id(socket.gethostname())
    if not is_gateway_id(client_id):
        raise UsageError("--client-id: wanted 1 to 64 letters, digits, dots, dashes or underscores")
    settings = mqtt_settings(args, client_id=client_id, max_backoff_s=MAX_BACKOFF_S)
    assert settings is not None
    return settings


def default_client_id(host: str) -> str:
    """Return the client id of this host's bridge.

    >>> default_client_id("siem.example.org")
    'penstock-bridge-siem.example.org'
    """
    return f"penstock-bridge-{re.sub(r'[^A-Za-z0-9._-]', '-', host)}"[:64]


def _target(args: argparse.Namespace, seen: Seen) -> Target:
    """Return where alerts go. Raises UsageError, and OutputError where a file cannot be opened."""
    if (args.eve is None) == (args.syslog is None):
        raise UsageError("bridge: wanted --eve or --syslog, and not both: each bridge has one reader and one session")
    if args.syslog is not None:
        settings = SyslogSettings.of(
            args.syslog,
            hostname="",
            transport=args.syslog_transport,
            format=args.format,
            facility=args.facility,
            ca_file=args.syslog_ca,
        )
        return SyslogTarget(syslog_outlet(settings))
    if args.eve == STDOUT:
        return StdoutTarget(format_name=args.format)
    if args.format != "eve":
        raise UsageError("--format: a file is always eve, wanted --eve - or --syslog")
    outputs = Outputs()
    outputs.add("--eve", args.eve)
    outputs.keep_from(mqtt_files(args))
    return FileTarget(Path(args.eve), rotate_bytes=args.rotate_bytes, keep_files=args.keep_files, seen=seen)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number, 0 or more")
    return int(text)


def _expiry(text: str) -> int:
    value = _count(text)
    if not 60 <= value < 0xFFFFFFFF:  # that one means never
        raise argparse.ArgumentTypeError(f"{text!r}: wanted 60 to 4294967294 seconds")
    return value
