"""What leaves the machine: whether the broker lets us in, and how long certificates hold.

The trap: a broker ends the session of whoever has the same client id. The running agent has the gateway's, so the
doctor comes under another, leaves no last will and publishes nothing.
"""

from __future__ import annotations

import queue
import secrets
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.checks.patient import Patient
from agent.config import AgentConfig
from agent.delivery import MqttSettings
from agent.delivery.protection import place_text
from agent.live.outlets import mqtt_of
from contracts.certificates import expiry, first_to_end
from contracts.errors import PenstockError
from contracts.findings import Finding, fail, ok
from contracts.terminal import printable

RENEWED: Final = "systemctl reload penstock"
UNSUPPORTED_VERSION: Final = 0x84


def broker(patient: Patient) -> Iterator[Finding]:
    """Connect as the agent would, hear the broker's answer, and leave."""
    if patient.config is None or patient.config.mqtt.url is None:
        return
    try:
        settings = mqtt_of(patient.config, environ=patient.environ)
    except PenstockError as exc:
        yield fail("broker", str(exc), "see [mqtt] in docs/configuration.md")
        return
    assert settings is not None
    place = place_text(settings.host, settings.port)
    for version in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
        try:
            code, said, served = _ask(settings, version, timeout_s=patient.timeout_s)
        except ssl.SSLError as exc:
            seen = f"{place}: TLS: {getattr(exc, 'verify_message', '') or exc.reason or exc}"
            yield fail("broker", seen, "mqtt.ca_file must have signed the broker's certificate, for this very name")
            return
        except socket.gaierror as exc:
            yield fail("broker", f"{place}: no address: {exc.strerror}", "mqtt.url, or the resolver of this machine")
            return
        except (OSError, TimeoutError) as exc:
            seen = f"{place}: {exc.strerror or 'no answer in time'}"
            yield fail("broker", seen, "is it running, and does a firewall let us through? alerts wait in the outbox")
            return
        if code != UNSUPPORTED_VERSION:
            break
    if code:
        yield fail("broker", f"{place}: refused: {printable(said)}", "user, password or certificate ([mqtt])")
        return
    yield ok("broker", f"{place}: lets us in")
    if served is not None:
        yield expiry("broker's certificate", x509.load_der_x509_certificate(served), renewed=RENEWED)


def certificates(patient: Patient) -> Iterator[Finding]:
    """Look until when the certificates hold that settings name."""
    if patient.config is None:
        return
    for setting, path in _files(patient.config):
        try:
            certificate = first_to_end(path)
        except (OSError, ValueError) as exc:
            why = getattr(exc, "strerror", None) or "no certificate in PEM"
            yield fail("certificate", f"{setting}: {printable(str(path))}: {why}", "penstock check-config")
            continue
        yield expiry(setting, certificate, renewed=RENEWED)


def _files(config: AgentConfig) -> Iterator[tuple[str, Path]]:
    mqtt, metrics, syslog = config.mqtt, config.metrics, config.syslog
    if mqtt.url is not None:
        yield from ((f"mqtt.{key}", path) for key in ("ca_file", "cert_file") if (path := getattr(mqtt, key)))
    if metrics.enabled and metrics.cert_file is not None:
        yield "metrics.cert_file", metrics.cert_file
    if syslog.address is not None and syslog.ca_file is not None:
        yield "syslog.ca_file", syslog.ca_file


def _ask(settings: MqttSettings, version: MQTTProtocolVersion, *, timeout_s: float) -> tuple[int, str, bytes | None]:
    """Return the broker's code (0: let in), its words, and the certificate it showed. Raises OSError."""
    answers: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def told(_client: Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        answers.put((code.value if code.is_failure else 0, str(code)))

    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"{settings.gateway}-doctor-{secrets.token_hex(4)}",
        protocol=version,
        reconnect_on_failure=False,
    )
    client.connect_timeout = timeout_s
    if settings.user is not None:
        client.username_pw_set(settings.user, settings.password)
    if settings.tls is not None:
        client.tls_set_context(settings.tls)
    client.on_connect = told
    client.on_disconnect = told
    client.connect(settings.host, settings.port, keepalive=30)
    link = client.socket()
    served = link.getpeercert(binary_form=True) if isinstance(link, ssl.SSLSocket) else None
    client.loop_start()
    try:
        code, said = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError from None
    finally:
        client.disconnect()
        client.loop_stop()
    return code, said, served
