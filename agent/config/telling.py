"""The sections of what leaves the agent: eve, stdout, syslog, mqtt, outbox, metrics, status."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from agent.config.section import RESTART, Conflict, Section
from agent.config.values import (
    AbsolutePath,
    AlertFormat,
    BrokerUrl,
    Facility,
    HostNames,
    Listen,
    SecretFile,
    SyslogAddress,
    Text,
    host_and_port,
    is_loopback,
)


class EveSection(Section):
    """Alerts as lines of a file, in Suricata's EVE format."""

    path: AbsolutePath | None = Field(
        None,
        description="File alerts are added to. Unset: none.",
        examples=["/var/log/penstock/eve.json"],
        json_schema_extra={"sample": "/var/log/penstock/eve.json"},
    )
    rotate_bytes: int = Field(
        64 << 20, ge=0, le=1 << 40, description="The file is set aside at this size; 0: never, logrotate does it."
    )
    keep_files: int = Field(5, ge=1, le=1000, description="Files set aside that are kept.")


class StdoutSection(Section):
    """Alerts as lines on standard output, for a pipe or the journal."""

    enabled: bool = Field(False, description="Write them.")
    format: AlertFormat = Field("eve", description="Format of a line.")


class SyslogSection(Section):
    """Alerts as syslog messages (RFC 5424)."""

    address: SyslogAddress | None = Field(
        None,
        description="Where to send them; port 514 (6514 for tls) unless named. Unset: none.",
        examples=["siem.lan:6514"],
    )
    transport: Literal["udp", "tcp", "tls", "unix"] = Field("udp", description="How; unix wants a path as address.")
    format: AlertFormat = Field("eve", description="Format of the message.")
    facility: Facility = Field("local0", description="Facility of the messages.")
    ca_file: AbsolutePath | None = Field(
        None,
        description="Certificates that may have signed the receiver's (tls). Unset: the system's.",
        examples=["/etc/penstock/syslog-ca.pem"],
    )

    @model_validator(mode="after")
    def _transport_fits(self) -> SyslogSection:
        if self.address is None:
            return self
        if (self.transport == "unix") != self.address.startswith("/"):
            wanted = "a path where transport is unix, else host or host:port"
            raise Conflict("address", repr(self.address), wanted)
        if self.ca_file is not None and self.transport != "tls":
            raise Conflict("transport", repr(self.transport), '"tls" where there is a ca_file')
        return self


class MqttSection(Section):
    """Alerts to a broker, at least once each (docs/delivery.md)."""

    url: BrokerUrl | None = Field(None, description="The broker. Unset: none.", examples=["mqtts://broker.lan:8883"])
    allow_plaintext: bool = Field(
        False, description="Allow mqtt:// to another machine, where everyone between can read the alerts."
    )
    ca_file: AbsolutePath | None = Field(
        None,
        description="Certificates that may have signed the broker's. Unset: the system's.",
        examples=["/etc/penstock/broker-ca.pem"],
    )
    cert_file: AbsolutePath | None = Field(
        None, description="Our certificate, where the broker wants one.", examples=["/etc/penstock/gateway.pem"]
    )
    key_file: AbsolutePath | None = Field(
        None, description="Its key, unencrypted. Unset: it stands in cert_file.", examples=["/etc/penstock/gateway.key"]
    )
    username: Text | None = Field(None, description="User, where the broker wants one.", examples=["cellar"])
    password_file: SecretFile | None = Field(
        None,
        description="File whose first line is the password, or the name of a systemd credential.",
        examples=["mqtt-password"],
    )
    in_flight: int = Field(20, ge=1, le=1000, description="Alerts sent and not yet acknowledged, at most.")
    format: AlertFormat = Field("eve", description="Format of the messages.")
    keep_alive_s: int = Field(30, ge=5, le=3600, description="Seconds of silence after which the broker is asked.")
    feedback: bool = Field(
        False, description="Take verdicts from the broker; its access rules must say who may give them."
    )
    reconnect_max_s: float = Field(
        60.0, ge=1, le=3600, description="The longest wait between two attempts to connect; they are spread at random."
    )
    home_assistant: bool = Field(
        False,
        description="Introduce this gateway to Home Assistant (MQTT discovery); the broker's rights must allow it.",
    )

    @model_validator(mode="after")
    def _discovery_fits(self) -> MqttSection:
        if self.home_assistant and self.format != "eve":
            raise Conflict("home_assistant", f"true with format {self.format}", 'format = "eve", which it reads')
        return self

    @model_validator(mode="after")
    def _protection_fits(self) -> MqttSection:
        if self.key_file is not None and self.cert_file is None:
            raise Conflict("key_file", repr(str(self.key_file)), "no key without its cert_file")
        if self.url is None:
            return self
        parts = urlsplit(self.url)
        is_tls, host = parts.scheme == "mqtts", parts.hostname or ""
        if not is_tls and any((self.ca_file, self.cert_file)):
            raise Conflict("url", "mqtt://", "mqtts:// where there is a ca_file or cert_file")
        if not is_tls and not self.allow_plaintext and not is_loopback(host):
            raise Conflict("url", f"mqtt:// to {host}", "mqtts://, or allow_plaintext = true")
        if self.password_file is not None and not (self.username or parts.username):
            raise Conflict("password_file", "a password", "a username too")
        return self


class OutboxSection(Section):
    """Alerts on disk until the broker has them; beyond a bound the least severe, oldest, leaves and is counted."""

    path: AbsolutePath | None = Field(
        None,
        description="Its file. Unset: outbox.db in state_dir.",
        examples=["/var/lib/penstock/outbox.db"],
        json_schema_extra=RESTART,
    )
    max_rows: int = Field(10_000, ge=1, le=10_000_000, description="Alerts kept.")
    max_bytes: int = Field(16 << 20, ge=4096, le=1 << 40, description="Octets of their texts kept.")
    max_age_s: float = Field(604_800.0, ge=60, le=31_536_000, description="Seconds an alert is kept.")


class MetricsSection(Section):
    """The page Prometheus scrapes (docs/metrics.md)."""

    enabled: bool = Field(True, description="Serve it.", json_schema_extra=RESTART)
    listen: Listen = Field(
        "127.0.0.1:9744",
        description="Address and port; beyond this machine give it a password and TLS.",
        json_schema_extra=RESTART,
    )
    username: Text | None = Field(
        None, description="User that a scraper must name.", examples=["prometheus"], json_schema_extra=RESTART
    )
    password_file: SecretFile | None = Field(
        None,
        description="File whose first line is that user's password, or the name of a systemd credential.",
        examples=["metrics-password"],
        json_schema_extra=RESTART,
    )
    cert_file: AbsolutePath | None = Field(
        None,
        description="Certificate to serve TLS with. Unset: plain HTTP.",
        examples=["/etc/penstock/metrics.pem"],
        json_schema_extra=RESTART,
    )
    key_file: AbsolutePath | None = Field(
        None,
        description="Its key, unencrypted. Unset: it stands in cert_file.",
        examples=["/etc/penstock/metrics.key"],
        json_schema_extra=RESTART,
    )

    page: bool = Field(
        False,
        description="Also serve a page for people at / (docs/page.md): devices, addresses, incidents.",
        json_schema_extra=RESTART,
    )
    page_hosts: HostNames = Field(
        (),
        description="Names the page may be asked for by, beside localhost and the address it listens on.",
        examples=[["cellar.lan"]],
        json_schema_extra=RESTART,
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> MetricsSection:
        if self.username is not None and ":" in self.username:
            raise Conflict("username", repr(self.username), "no colon, which ends a user in HTTP")
        if (self.username is None) != (self.password_file is None):
            key = "username" if self.username is None else "password_file"
            raise Conflict(key, "unset", "username and password_file, or neither")
        if self.key_file is not None and self.cert_file is None:
            raise Conflict("key_file", repr(str(self.key_file)), "no key without its cert_file")
        is_shut = self.username is not None and self.cert_file is not None
        if self.page and not is_shut and not is_loopback(host_and_port(self.listen)[0]):
            wanted = "a username, a password_file and a cert_file, since the page shows addresses, or false"
            raise Conflict("page", f"true, seen from {self.listen}", wanted)
        return self


class StatusSection(Section):
    """The socket that `penstock status` asks."""

    enabled: bool = Field(True, description="Answer there.", json_schema_extra=RESTART)
    socket: AbsolutePath = Field(
        Path("/run/penstock/status.sock"),
        description="The socket, mode 0660: who may write to it may read devices' addresses.",
        json_schema_extra=RESTART,
    )

    @model_validator(mode="after")
    def _name_fits(self) -> StatusSection:
        if (length := len(bytes(self.socket))) > 107:  # sun_path of struct sockaddr_un, less its final zero
            raise Conflict("socket", f"{length} octets", "at most 107, the most the kernel takes")
        return self
