"""The options of every command that judges traffic: the bundle, whose devices they are, and where alerts go."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent.console.apart import SIDE_FILES, Outputs
from agent.console.outfile import STDOUT
from agent.options.mqtt import add_mqtt_arguments, gateway
from agent.options.values import network
from contracts.bundle import MANIFEST, Bundle, default_bundle, load_bundle
from contracts.errors import UsageError
from contracts.program import folder
from flowfeatures import DEFAULT_HOME_NETS


def add_alert_arguments(parser: argparse.ArgumentParser, *, gateway_name: str | None) -> None:
    """Add --bundle, --home-net, --never-ban, --eve, --gateway, --outbox and the broker's.

    `gateway_name` None: the gateway's name, and what else is not given, is the configuration's business.
    """
    add = parser.add_argument
    add("--bundle", type=folder, metavar="DIR", help="model to use instead of the one that comes with penstock")
    own = "those of the interfaces" if gateway_name is None else " ".join(DEFAULT_HOME_NETS)
    home_help = f"network of monitored devices, may be repeated (default {own})"
    add("--home-net", action="append", type=network, metavar="CIDR", help=home_help)
    never_help = "address or network no alert may ask to ban (gateway, resolver, broker), may be repeated"
    add("--never-ban", action="append", type=network, default=[], metavar="CIDR", help=never_help)
    add("--eve", metavar="FILE", help="write alerts as EVE JSON lines; - is stdout")
    gateway_help = f"name in alerts and topics (default {gateway_name or 'that of this machine'})"
    add("--gateway", type=gateway, default=gateway_name, metavar="ID", help=gateway_help)
    outbox_help = "keep alerts here until the broker has them (default a temporary file, kept if anything is left)"
    add("--outbox", type=Path, metavar="FILE", help=outbox_help)
    add_mqtt_arguments(parser)


def check_alert_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError where the options contradict each other."""
    if args.outbox and not args.mqtt:
        raise UsageError("--outbox has nothing to keep without --mqtt")


def bundle_of(folder_: Path | None) -> Bundle:
    """Return the bundle at a folder, or the one inside the package. Raises BundleError."""
    return default_bundle() if folder_ is None else load_bundle(folder_)


def outputs_apart_from(bundle: Bundle, *, eve: str | None, outbox: Path | None) -> Outputs:
    """Return eve.json and outbox as outputs. Raises UsageError where one is the other, or a file of the bundle."""
    outputs = Outputs()
    if outbox is not None:
        for suffix in ("", *SIDE_FILES):
            outputs.add("--outbox", f"{outbox}{suffix}")
    if eve is not None and eve != STDOUT:
        outputs.add("--eve", eve)
    outputs.keep_from(bundle.path / name for name in (MANIFEST, *bundle.manifest.files))
    return outputs
