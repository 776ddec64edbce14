"""`penstock replay`: captures through the whole path, and what came of it. Builds every object of the run."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.alerts import AlertWriter
from agent.capture.replay import CaptureFiles
from agent.console.apart import SIDE_FILES
from agent.console.outfile import STDOUT, cannot_write, printing
from agent.console.outgoing import Outgoing
from agent.console.pace import Pace
from agent.console.summary import Outcome, summary, write_report
from agent.delivery import Bounds, Delivery, EveFile, MqttSettings
from agent.options.alerts import add_alert_arguments, bundle_of, check_alert_arguments, outputs_apart_from
from agent.options.mqtt import mqtt_files, mqtt_settings
from agent.options.values import seconds, speed
from agent.pipeline import Pipeline
from agent.state.incident_record import IncidentRecord
from agent.stopping import StopRequest
from agent.stopwatch import Stopwatch, TimedEngine
from contracts.bundle import Bundle
from contracts.errors import BundleError, OutputError, UsageError
from detection.detector import Detector
from detection.incidents import IncidentUpdate
from detection.onnx_engine import OnnxEngine
from detection.usual import Usual
from flowfeatures import DEFAULT_HOME_NETS, DeviceWindows, FlowMeter, FlowSettings, HomeNets

MQTT_WAIT_S = 30.0
# A temporary outbox holds what one replay makes, not what a service gathers in a week: only a disk or a memory that
# would fill up bounds it.
TEMPORARY = Bounds(rows=250_000, size_bytes=512 << 20)
GATEWAY = "replay"

EPILOG = """\
examples:
  penstock replay capture.pcap
  tcpdump -i eth0 -U -w - | penstock replay -
  penstock replay monday.pcap tuesday.pcapng --home-net 192.168.1.0/24 --eve eve.json --json
  penstock replay capture.pcap --mqtt mqtt://127.0.0.1:1883 --gateway cellar --speed 10
"""


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """What one replay is to do; `bundle` None is the one inside the package, `speed` None as fast as it can.

    `also_read` are files read beside captures and bundle: no output may be one of them.
    """

    captures: tuple[Path, ...]
    bundle: Path | None = None
    home_nets: tuple[str, ...] = DEFAULT_HOME_NETS
    never_ban: tuple[str, ...] = ()
    eve: str | None = None
    mqtt: MqttSettings | None = None
    mqtt_wait_s: float = MQTT_WAIT_S
    outbox: Path | None = None
    gateway: str = GATEWAY
    speed: float | None = None
    also_read: tuple[Path, ...] = ()
    record: Path | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock replay`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    captures_help = "pcap or pcapng, plain, gzip, xz or zstd; - is stdin; read in this order"
    add("captures", nargs="+", type=Path, metavar="CAPTURE", help=captures_help)
    add("--json", action="store_true", help="print one JSON summary instead of the table")
    speed_help = "max, or a factor of packet time: 1 is as recorded, 10 ten times as fast (default max)"
    add("--speed", type=speed, metavar="max|FACTOR", help=speed_help)
    wait_help = "seconds to go on connecting and sending after the last packet (default %(default)g)"
    add("--mqtt-wait", type=seconds, default=MQTT_WAIT_S, metavar="S", help=wait_help)
    add("--record", type=Path, metavar="FILE", help="write what `penstock explain` tells of incidents (SQLite)")
    add_alert_arguments(parser, gateway_name=GATEWAY)


def settings_of(args: argparse.Namespace) -> ReplaySettings:
    """Return what the options ask for. Raises UsageError where they contradict each other."""
    if args.json and args.eve == STDOUT:
        raise UsageError("--json and --eve - both want stdout: give --eve a file")
    check_alert_arguments(args)
    return ReplaySettings(
        captures=tuple(args.captures),
        bundle=args.bundle,
        home_nets=tuple(args.home_net or DEFAULT_HOME_NETS),
        never_ban=tuple(args.never_ban),
        eve=args.eve,
        mqtt=mqtt_settings(args),
        mqtt_wait_s=args.mqtt_wait,
        outbox=args.outbox,
        gateway=args.gateway,
        speed=args.speed,
        also_read=mqtt_files(args),
        record=args.record,
    )


def run(args: argparse.Namespace) -> int:
    """Replay, print the table or the summary, and return the exit code."""
    outcome = replay(settings_of(args))
    with printing() as stream:
        if args.json:
            stream.write(json.dumps(summary(outcome)) + "\n")
        else:
            write_report(outcome, sys.stderr if args.eve == STDOUT else stream)
    return outcome.exit_code


def replay(settings: ReplaySettings) -> Outcome:
    """Carry the captures through the whole path; an error on the way is said and remembered, and ends only its part.

    A signal ends the reading. Raises BundleError, MissingExtra, UsageError, OutputError and OutboxError before anything
    is read.
    """
    stop = StopRequest()
    stopwatch = Stopwatch()
    bundle = bundle_of(settings.bundle)
    outputs = outputs_apart_from(bundle, eve=settings.eve, outbox=settings.outbox)
    record = None if settings.record is None else IncidentRecord(settings.record, keeps_all_ages=True)
    if record is not None:
        for suffix in ("", *SIDE_FILES):
            outputs.add("--record", f"{record.path}{suffix}")
    outputs.keep_from([*settings.captures, *settings.also_read])
    detector = _detector(settings, bundle, stopwatch)
    pace = _pace(settings, stop=stop, stopwatch=stopwatch)
    captures = CaptureFiles(settings.captures, stop=stop, pace=pace, begun=lambda: _empty(settings.eve, record))
    eve = EveFile(settings.eve, append=True) if settings.eve else None
    bounds = TEMPORARY if settings.outbox is None else None
    with Delivery(eve=eve, mqtt=settings.mqtt, outbox=settings.outbox, bounds=bounds) as delivery:
        outgoing = Outgoing(delivery, stop=stop)
        pipeline = Pipeline(
            meter=FlowMeter(FlowSettings(partials=True)),
            windows=DeviceWindows(settings.home_nets, window=bundle.manifest.window),
            detector=detector,
            alerts=AlertWriter(bundle.manifest, gateway=settings.gateway, home=HomeNets(settings.home_nets)),
            publish=outgoing.publish,
            stopwatch=stopwatch,
            wait_for=pace.wait_for,
            told=_recording(record, bundle),
        )
        with stop:  # not before: opening a pipe nobody reads must still end with the first Ctrl-C
            try:
                pipeline.run(captures)
            except (OutputError, BundleError) as exc:  # of these, what was read is still reported
                outgoing.remember(exc)
            with stopwatch.stage("waiting"):
                outgoing.drain(settings.mqtt_wait_s)
    outgoing.settle()
    if record is not None:
        record.close()
        if record.failed:
            outgoing.remember(OutputError(record.trouble))
    return Outcome(
        captures=settings.captures,
        bundle=bundle,
        pipeline=pipeline,
        delivery=delivery,
        seconds=stopwatch.seconds,
        errors=[*captures.errors, *outgoing.errors],
        stopped_code=stop.exit_code if stop else 0,
    )


def _recording(record: IncidentRecord | None, bundle: Bundle) -> Callable[[IncidentUpdate], None]:
    if record is None:
        return lambda _: None
    return lambda update: record.add(update, bundle_sha256=bundle.manifest_sha256)


def _empty(eve: str | None, record: IncidentRecord | None) -> None:
    """Take what an earlier run found out of its files: there is a capture to read, so these are not all there are."""
    if record is not None:
        record.begin_anew()
    if eve is None or eve == STDOUT or not os.path.isfile(eve):
        return
    try:
        os.truncate(eve, 0)
    except OSError as exc:
        raise cannot_write(eve, exc) from exc


def _pace(settings: ReplaySettings, *, stop: StopRequest, stopwatch: Stopwatch) -> Pace:
    def sleep(seconds_: float) -> None:
        with stopwatch.stage("waiting"):
            time.sleep(seconds_)

    return Pace(settings.speed, stop=stop, sleep=sleep)


def _detector(settings: ReplaySettings, bundle: Bundle, stopwatch: Stopwatch) -> Detector:
    return Detector(
        bundle,
        TimedEngine(OnnxEngine(bundle), stopwatch),
        never_ban=settings.never_ban,
        home_nets=settings.home_nets,
        id_salt=f"{settings.gateway} {bundle.manifest_sha256}",
        usual=None if settings.record is None else Usual(),
    )
