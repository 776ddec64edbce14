"""`penstock features`: the flow records of captures or of an interface as CSV or Parquet, without windows or alerts."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from agent.capture.replay import CaptureFiles
from agent.console.apart import Outputs
from agent.console.outfile import STDOUT, WholeFile, printing
from agent.console.pace import Pace
from agent.console.terminal import is_terminal
from agent.options.values import seconds, seconds_or_inf
from agent.stopping import StopRequest
from contracts.errors import UsageError
from contracts.terminal import printable
from flowfeatures import FlowMeter, FlowSettings, write_csv, write_parquet

DEFAULTS = FlowSettings()
PARQUET = ".parquet"
COMPATIBLE = {"wtmc": FlowSettings.wtmc}
MANY_FLOWS = 10_000  # some half a second of CSV

EPILOG = """\
examples:
  penstock features capture.pcap -o flows.csv
  penstock features capture.pcap -o - --idle-timeout 30 --partials | head
  penstock features day-1.pcap day-2.pcap -o flows.parquet
  penstock features golden.pcap -o flows.csv --compat wtmc
  sudo penstock features --interface eth0 --filter 'not port 22' --duration 60 -o flows.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock features`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    captures_help = "pcap or pcapng, plain, gzip, xz or zstd; - is stdin; read in this order"
    add("captures", nargs="*", type=Path, metavar="CAPTURE", help=captures_help)
    add("--interface", metavar="IFACE", help="capture here instead, until Ctrl-C; needs CAP_NET_RAW")
    add("--filter", metavar="BPF", help="of an interface, only what this pcap filter lets through")
    add("--duration", type=seconds, metavar="S", help="end a capture of an interface after so many seconds")
    output_help = f"CSV to write, Parquet where it ends in {PARQUET}; whole or not at all; - is stdout"
    add("-o", "--output", required=True, metavar="FILE", help=output_help)
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
    """Write the file; return the exit code. Raises MissingExtra where it is Parquet and pyarrow is not installed."""
    settings = flow_settings(args)
    if args.interface is None:
        if args.filter is not None or args.duration is not None:
            raise UsageError("--filter and --duration belong to --interface")
        if not args.captures:
            raise UsageError("nothing to read: name a CAPTURE, or an --interface")
        return _from_files(args, settings)
    if args.captures:
        raise UsageError("--interface and CAPTURE exclude each other")
    return _from_interface(args, settings)


def _from_files(args: argparse.Namespace, settings: FlowSettings) -> int:
    meter = FlowMeter(settings)
    outputs = Outputs()
    outputs.add("--output", args.output)
    outputs.keep_from(args.captures)
    with WholeFile(args.output) as file, StopRequest() as stop:
        captures = CaptureFiles(args.captures, stop=stop, pace=Pace(None, stop=stop))
        rows = _write(chain(captures.records(meter), _live(meter, stop)), file, name=args.output)
        if captures.opened:
            file.commit()
    if captures.opened:
        _say_rows(args.output, rows, meter)
    if stop:
        return stop.exit_code
    return captures.errors[0].exit_code if captures.errors else 0


def _from_interface(args: argparse.Namespace, settings: FlowSettings) -> int:
    """Capture until the time is over or a signal asks for the end, which is no error here."""
    from agent.capture.closing import Warnings
    from agent.capture.live import LiveCapture
    from agent.capture.live_line import LiveLine
    from agent.capture.open_live import open_live
    from agent.capture.source import CaptureSettings

    meter = FlowMeter(settings, flow_id_key=secrets.token_bytes(16))
    line, warnings = LiveLine(args.interface, stream=sys.stderr), Warnings()
    with StopRequest() as stop, open_live(CaptureSettings(interface=args.interface, filter=args.filter)) as source:
        capture = LiveCapture(source, stop=stop, duration_s=args.duration, show=line.show)
        warnings.say(source.report())
        with WholeFile(args.output) as file:
            records = _sent_on(chain(capture.records(meter), _live(meter, stop)), file.text)
            rows = _write(records, file, name=args.output)
            file.commit()
        line.clear()
    _say_rows(args.output, rows, meter)
    return warnings.close(capture.report(meter), capture.accounting(meter))


def _sent_on(batches: Iterator[NDArray[np.void]], text: TextIO) -> Iterator[NDArray[np.void]]:
    """Let a reader at the other end of a pipe have each batch when it was written, not when a buffer is full."""
    for records in batches:
        yield records
        text.flush()


def _write(records: Iterator[NDArray[np.void]], file: WholeFile, *, name: str) -> int:
    """Write the records in the form that the file's name asks for; return how many they were."""
    if name.lower().endswith(PARQUET):
        return write_parquet(records, file.octets)
    return write_csv(records, file.text)


def _say_rows(output: str, rows: int, meter: FlowMeter) -> None:
    if output == STDOUT:
        return
    packets, undecoded = meter.counters["packets"], sum(meter.counters["undecoded"].values())
    with printing() as stream:
        stream.write(f"{printable(output)}: {rows:,} records of {packets:,} packets, {undecoded:,} not decoded\n")


def _live(meter: FlowMeter, stop: StopRequest) -> Iterator[NDArray[np.void]]:
    """Give the records of the flows still alive; after Ctrl-C a person hears why the end takes its time."""
    live_flows = meter.counters["live_flows"]
    if stop and live_flows >= MANY_FLOWS and is_terminal(sys.stderr):
        print(f"penstock: writing {live_flows:,} flows still alive; once more to leave no file", file=sys.stderr)
    yield from meter.flush()
