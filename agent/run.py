"""`penstock run`: an interface through the whole path, live, until a signal asks for the end. Builds every object.

The wire never ends, so time comes from the clock: where no packet moves it, flows end, windows are judged and incidents
close all the same.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.alert_options import add_alert_arguments, bundle_of, check_alert_arguments, outputs_apart_from
from agent.alerts import AlertWriter
from agent.capture.closing import Warnings
from agent.capture.live import LiveCapture
from agent.capture.live_line import LiveLine
from agent.capture.open_live import open_live
from agent.capture.source import CaptureSettings
from agent.delivery import Delivery, EveFile, MqttSettings
from agent.engine_options import SOCKET, add_engine_arguments, engine_of, told
from agent.mqtt_options import mqtt_files, mqtt_settings
from agent.options import seconds
from agent.outgoing import Outgoing
from agent.pipeline import Pipeline
from agent.stopping import StopRequest
from agent.stopwatch import Stopwatch, TimedEngine
from contracts.terminal import complain
from detection.detector import Detector
from flowfeatures import DEFAULT_HOME_NETS, DeviceWindows, FlowMeter, FlowSettings, HomeNets

GATEWAY = "gateway"
FAREWELL_S = 2.0  # how long the last alerts may take to a broker once a stop was asked for

EPILOG = """\
examples:
  sudo penstock run --interface eth0 --eve /var/log/penstock/eve.json
  sudo penstock run --interface br0 --home-net 192.168.1.0/24 --mqtt mqtts://broker.lan --gateway cellar
  sudo penstock run --interface eth0 --filter 'not port 22' --eve - --duration 60
"""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What one run is to do; `bundle` None is the one inside the package, `duration_s` None until a signal."""

    capture: CaptureSettings
    bundle: Path | None = None
    home_nets: tuple[str, ...] = DEFAULT_HOME_NETS
    never_ban: tuple[str, ...] = ()
    eve: str | None = None
    mqtt: MqttSettings | None = None
    outbox: Path | None = None
    gateway: str = GATEWAY
    duration_s: float | None = None
    engine: str = "auto"
    tensorrt_socket: str = SOCKET
    also_read: tuple[Path, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock run`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--interface", required=True, metavar="IFACE", help="capture here until Ctrl-C; needs CAP_NET_RAW")
    add("--filter", metavar="BPF", help="only what this pcap filter lets through")
    add("--duration", type=seconds, metavar="S", help="end after so many seconds")
    add_engine_arguments(parser)
    add_alert_arguments(parser, gateway_name=GATEWAY)


def settings_of(args: argparse.Namespace) -> RunSettings:
    """Return what the options ask for. Raises UsageError where they contradict each other."""
    check_alert_arguments(args)
    return RunSettings(
        capture=CaptureSettings(interface=args.interface, filter=args.filter),
        bundle=args.bundle,
        home_nets=tuple(args.home_net or DEFAULT_HOME_NETS),
        never_ban=tuple(args.never_ban),
        eve=args.eve,
        mqtt=mqtt_settings(args),
        outbox=args.outbox,
        gateway=args.gateway,
        duration_s=args.duration,
        engine=args.engine,
        tensorrt_socket=args.tensorrt_socket,
        also_read=mqtt_files(args),
    )


def run(args: argparse.Namespace) -> int:
    """Watch until the time is over or a signal asks for the end, which is no error; return the exit code."""
    return watch(settings_of(args))


def watch(settings: RunSettings) -> int:
    """Carry an interface through the whole path; say what is wrong on the way, and at the end what was seen.

    Raises BundleError, MissingExtra, UsageError, OutboxError and what `open_live` raises before anything is captured,
    OutputError where eve.json takes no more.
    """
    bundle = bundle_of(settings.bundle)
    outputs = outputs_apart_from(bundle, eve=settings.eve, outbox=settings.outbox)
    outputs.keep_from(settings.also_read)
    stopwatch = Stopwatch()
    engine = engine_of(bundle, choice=settings.engine, socket_path=settings.tensorrt_socket)
    detector = Detector(
        bundle,
        TimedEngine(engine, stopwatch),
        never_ban=settings.never_ban,
        home_nets=settings.home_nets,
        id_salt=f"{settings.gateway} {bundle.manifest_sha256} {secrets.token_hex(8)}",
    )
    eve = EveFile(settings.eve, append=True) if settings.eve else None
    with Delivery(eve=eve, mqtt=settings.mqtt, outbox=settings.outbox) as delivery:
        outgoing = Outgoing(delivery, stop=StopRequest())  # of its own: a stop must not cut the last alerts short
        pipeline = Pipeline(
            meter=FlowMeter(FlowSettings(partials=True), flow_id_key=secrets.token_bytes(16)),
            windows=DeviceWindows(settings.home_nets, window=bundle.manifest.window),
            detector=detector,
            alerts=AlertWriter(bundle.manifest, gateway=settings.gateway, home=HomeNets(settings.home_nets)),
            publish=outgoing.publish,
            stopwatch=stopwatch,
            wait_for=lambda _: None,
        )
        code = _watch(settings, pipeline)
        outgoing.drain(FAREWELL_S)
    outgoing.settle()
    if (line := told(engine)) is not None:
        complain(line)
    return next((error.exit_code for error in outgoing.errors), code)


def _watch(settings: RunSettings, pipeline: Pipeline) -> int:
    """Run the pipeline on the interface; return the exit code of its accounts."""
    line, warnings = LiveLine(settings.capture.interface, stream=sys.stderr), Warnings()
    with open_live(settings.capture) as source, StopRequest() as stop:
        capture = LiveCapture(
            source, stop=stop, duration_s=settings.duration_s, on_time=pipeline.advance, show=line.show
        )
        report = source.report()
        complain(f"watching {report.interface} ({report.link}, {report.source})")
        warnings.say(report)
        try:
            pipeline.run(capture)
        finally:
            line.clear()
    accounting = capture.accounting(
        pipeline.meter, windows_due=pipeline.windows.counters["windows"], windows_scored=pipeline.detector.windows
    )
    code = warnings.close(capture.report(pipeline.meter), accounting)
    opened, alerts = pipeline.detector.opened, pipeline.alerts_made
    complain(f"{pipeline.detector.windows:,} windows judged, {opened:,} incidents, {alerts:,} alerts")
    return code
