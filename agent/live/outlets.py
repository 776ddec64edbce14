"""Where alerts go, as the configuration says: its sections become sinks, a broker and the bounds of an outbox.

Nothing is sent from here; building a sink opens its file, so what cannot be opened is told before anything changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from agent.config import AgentConfig, changed
from agent.console.apart import SIDE_FILES, Outputs
from agent.delivery import (
    Bounds,
    Delivery,
    EveSink,
    MqttSettings,
    Sink,
    StdoutSink,
    SyslogSettings,
    SyslogSink,
    secret_file,
)
from agent.delivery.behind import Behind
from agent.delivery.home_assistant import discovery, discovery_topic
from agent.live.reload import Commit
from agent.options.mqtt import PASSWORD_VARIABLE
from contracts.errors import ConfigError, UsageError

SINKS = ("eve.", "stdout.", "syslog.")
BROKER = ("mqtt.",)


def sinks_of(config: AgentConfig) -> list[Sink]:
    """Return the sinks. Raises OutputError where a file cannot be opened, UsageError for an address that is none."""
    eve, stdout, syslog = config.eve, config.stdout, config.syslog
    with ExitStack() as opened:
        sinks: list[Sink] = []
        if syslog.address is not None:
            settings = SyslogSettings.of(
                syslog.address,
                hostname=config.gateway.id,
                transport=syslog.transport,
                format=syslog.format,
                facility=syslog.facility,
                ca_file=syslog.ca_file,
            )
            sinks.append(SyslogSink(settings))
            opened.callback(sinks[-1].close)
        if stdout.enabled:
            sinks.append(StdoutSink(format=stdout.format))
            opened.callback(sinks[-1].close)
        if eve.path is not None:
            sinks.append(Behind(EveSink(eve.path, rotate_bytes=eve.rotate_bytes, keep_files=eve.keep_files)))
        opened.pop_all()
    return sinks


def mqtt_of(config: AgentConfig, *, environ: Mapping[str, str] = os.environ) -> MqttSettings | None:
    """Return how to reach the broker, None where none was asked for. Raises UsageError."""
    mqtt = config.mqtt
    if mqtt.url is None:
        return None
    file = None if mqtt.password_file is None else secret_file(mqtt.password_file, environ)
    settings = MqttSettings.from_url(
        mqtt.url,
        gateway=config.gateway.id,
        client_id=config.gateway.id,
        user=mqtt.username,
        password=environ.get(PASSWORD_VARIABLE) if file is None else None,
        password_file=file,
        allow_plaintext=mqtt.allow_plaintext,
        ca=mqtt.ca_file,
        cert=mqtt.cert_file,
        key=mqtt.key_file,
        window=mqtt.in_flight,
        max_backoff_s=mqtt.reconnect_max_s,
        format=mqtt.format,
    )
    known = discovery(settings.gateway, availability_topic=settings.availability_topic)
    announcements = ((discovery_topic(settings.gateway), known),) if mqtt.home_assistant else ()
    return replace(settings, keep_alive_s=mqtt.keep_alive_s, announcements=announcements)


def check_outputs(config: AgentConfig, *, state_dir: Path | None) -> None:
    """Raise UsageError where an output is another output, a file of the state, or something that is read."""
    outputs = Outputs()
    outbox = config.outbox.path if state_dir is None else config.outbox_path
    if outbox is not None:
        for suffix in ("", *SIDE_FILES):
            outputs.add("outbox", f"{outbox}{suffix}")
    eve = config.eve.path
    if eve is not None:
        outputs.add("eve", eve)
        if state_dir is not None and eve.resolve().is_relative_to(state_dir.resolve()):
            raise UsageError(f"eve.path: {eve} is inside state_dir, where files of another kind stand")
    bundle, mqtt = config.scoring.bundle, config.mqtt
    read = [] if bundle is None or not bundle.is_dir() else list(bundle.iterdir())
    named = [mqtt.ca_file, mqtt.cert_file, mqtt.key_file, mqtt.password_file, config.syslog.ca_file]
    outputs.keep_from(read + [Path(each) for each in named if each is not None])


def bounds_of(config: AgentConfig) -> Bounds:
    """Return how much the outbox holds."""
    bounds = config.outbox
    return Bounds(rows=bounds.max_rows, size_bytes=bounds.max_bytes, age_s=bounds.max_age_s)


def new_outlets(delivery: Delivery, before: AgentConfig, after: AgentConfig, environ: Mapping[str, str]) -> Commit:
    """Return what lets alerts go where new settings say; only what has changed is opened anew.

    Raises what is wrong with them, and ConfigError where a broker comes or goes: its outbox is opened at start only.
    """
    settings = changed(before, after)
    mqtt = mqtt_of(after, environ=environ) if any(each.startswith(BROKER) for each in settings) else None
    if (before.mqtt.url is None) != (after.mqtt.url is None):
        word = "unset" if after.mqtt.url is None else "set for the first time"
        raise ConfigError(f"mqtt.url: {word}, wanted a restart for that; nothing is applied")
    sinks = sinks_of(after) if any(each.startswith(SINKS) for each in settings) else None

    def commit() -> None:
        if sinks is None:
            delivery.reopen()  # a log rotation sends SIGHUP too
        bounds = bounds_of(after) if after.outbox != before.outbox else None
        delivery.use(sinks=sinks, mqtt=mqtt, bounds=bounds)

    return commit
