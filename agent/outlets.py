"""Where alerts go, as the configuration says: its sections become sinks, a broker and the bounds of an outbox.

Nothing is sent from here; building a sink opens its file, so what cannot be opened is told before anything changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from agent.config import AgentConfig, read_secret
from agent.delivery import Bounds, EveFile, MqttSettings
from agent.mqtt_options import PASSWORD_VARIABLE


def sinks_of(config: AgentConfig) -> Sequence[EveFile]:
    """Return the sinks. Raises OutputError where one cannot be opened."""
    return [EveFile(str(config.eve.path), append=True)] if config.eve.path is not None else []


def mqtt_of(config: AgentConfig, *, environ: Mapping[str, str] = os.environ) -> MqttSettings | None:
    """Return how to reach the broker, None where none was asked for. Raises UsageError and ConfigError."""
    settings = config.mqtt
    if settings.url is None:
        return None
    file = settings.password_file
    password = environ.get(PASSWORD_VARIABLE) if file is None else read_secret(file, environ=environ)
    return MqttSettings.from_url(
        settings.url,
        gateway=config.gateway.id,
        password=password,
        allow_plaintext=settings.allow_plaintext,
        ca=settings.ca_file,
        cert=settings.cert_file,
        key=settings.key_file,
    )


def bounds_of(config: AgentConfig) -> Bounds:
    """Return how much the outbox holds."""
    bounds = config.outbox
    return Bounds(rows=bounds.max_rows, size_bytes=bounds.max_bytes, age_s=bounds.max_age_s)
