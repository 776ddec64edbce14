"""`penstock features`: the flow records of captures as CSV, without windows, network or alerts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.apart import Outputs
from agent.capture.replay import CaptureFiles
from agent.options import seconds, seconds_or_inf
from agent.outfile import STDOUT, WholeFile, printing
from agent.pace import Pace
from agent.stopping import StopRequest
from agent.terminal import is_terminal
from contracts.errors import UsageError
from contracts.terminal import printable
from flowfeatures import FlowMeter, FlowSettings, write_csv

DEFAULTS = FlowSettings()
COMPATIBLE = {"wtmc": FlowSettings.wtmc}
MANY_FLOWS = 10_000  # some half a second of CSV

EPILOG = """\
examples:
  penstock features capture.pcap -o flows.csv
  penstock features capture.pcap -o - --idle-timeout 30 --partials | head
  penstock features golden.pcap -o flows.csv --compat wtmc
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock features`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("captures", nargs="+", type=Path, metavar="CAPTURE", help="pcap or pcapng, read in this order")
    add("-o", "--output", required=True, metavar="FILE", help="CSV to write, whole or not at all; - is stdout")
    idle = f"{DEFAULTS.tcp_idle_timeout_s:g} TCP, {DEFAULTS.other_idle_timeout_s:g} others"
    idle_help = f"seconds without a packet that end a flow, half-open ones too (default {idle})"
    add("--idle-timeout", type=seconds, metavar="S", help=idle_help)
    active_help = f"seconds after which a flow is cut though busy (default {DEFAULTS.active_timeout_s:g})"
    add("--active-timeout", type=seconds, metavar="S", help=active_help)
    half_open = "seconds that end a TCP flow of which only the initiator's SYNs were seen"
    half_open_help = f"{half_open} (default {DEFAULTS.half_open_timeout_s:g}, or --idle-timeout)"
    add("--half-open-timeout", type=seconds, metavar="S", help=half_open_help)
    linger_help = f"seconds a closed TCP flow still takes packets (default {DEFAULTS.linger_s:g})"
    add("--linger", type=seconds_or_inf, metavar="S|inf", help=linger_help)
    compat_help = "set the four timeouts as another tool has them; a timeout given beside it wins"
    add("--compat", choices=sorted(COMPATIBLE), help=compat_help)
    add("--partials", action="store_true", help="also write partial records of live flows")
    add("--vlan-in-key", action="store_true", help="keep flows of different VLANs apart")


def flow_settings(args: argparse.Namespace) -> FlowSettings:
    """Return the settings the options ask for. Raises UsageError where a time cannot be."""
    base = COMPATIBLE[args.compat]() if args.compat else DEFAULTS
    idle = args.idle_timeout
    changed = {
        "tcp_idle_timeout_s": idle,
        "other_idle_timeout_s": idle,
        "half_open_timeout_s": idle if args.half_open_timeout is None else args.half_open_timeout,
        "active_timeout_s": args.active_timeout,
        "linger_s": args.linger,
    }
    given = {name: value for name, value in changed.items() if value is not None}
    try:
        return replace(base, partials=args.partials, vlan_in_key=args.vlan_in_key, **given)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def run(args: argparse.Namespace) -> int:
    """Write the CSV; return the exit code."""
    meter = FlowMeter(flow_settings(args))
    outputs = Outputs()
    outputs.add("--output", args.output)
    outputs.keep_from(args.captures)
    with WholeFile(args.output) as file, StopRequest() as stop:
        captures = CaptureFiles(args.captures, stop=stop, pace=Pace(None, stop=stop))
        rows = write_csv(chain(captures.records(meter), _live(meter, stop)), file.text)
        if captures.opened:
            file.commit()
    if captures.opened and args.output != STDOUT:
        packets, undecoded = meter.counters["packets"], sum(meter.counters["undecoded"].values())
        with printing() as stream:
            stream.write(
                f"{printable(args.output)}: {rows:,} records of {packets:,} packets, {undecoded:,} not decoded\n"
            )
    if stop:
        return stop.exit_code
    return captures.errors[0].exit_code if captures.errors else 0


def _live(meter: FlowMeter, stop: StopRequest) -> Iterator[NDArray[np.void]]:
    """Give the records of the flows still alive; after Ctrl-C a person hears why the end takes its time."""
    live_flows = meter.counters["live_flows"]
    if stop and live_flows >= MANY_FLOWS and is_terminal(sys.stderr):
        print(f"penstock: writing {live_flows:,} flows still alive; once more to leave no file", file=sys.stderr)
    yield from meter.flush()
