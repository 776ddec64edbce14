"""Which broker, as whom, and under what protection: settings read once from an address and a few files.

Plain TCP is for brokers on this machine; beyond it, alerts and passwords would be readable on the way, so it must be
asked for by name. No message raised here holds a password, nor the address it may stand in.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from agent.delivery.protection import place_text, read_password, tls_context
from contracts.alert import GATEWAY_ID, is_gateway_id
from contracts.errors import UsageError
from contracts.formats import FORMAT_NAMES
from contracts.terminal import brief

WANTED: Final = "mqtt://[user[:password]@]host[:port] or mqtts://..."
PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
MAX_TEXT_BYTES: Final = 65_535  # a string of MQTT carries its length in two bytes

_HOST = re.compile(r"[A-Za-z0-9._:-]+")


class TlsFiles(NamedTuple):
    """The files a TLS context was made of."""

    ca: Path | None
    cert: Path | None
    key: Path | None


@dataclass(frozen=True, kw_only=True)
class MqttSettings:
    """All a connection needs to know. `tls` is a ready context, or None for plain TCP."""

    host: str
    port: int
    gateway: str
    client_id: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    keep_alive_s: int = 30
    connect_timeout_s: float = 5.0  # for TCP, for TLS and for the broker's answer, each
    max_backoff_s: float = 2.0  # a replay waits some seconds for its broker; a service asks for more
    expiry_s: int = 7 * 86_400  # how long a broker keeps an alert for a subscriber that is away (MQTT 5)
    window: int = 20  # alerts sent and not yet acknowledged
    format: str = "eve"  # one of contracts.formats
    password_file: Path | None = None
    tls_files: TlsFiles | None = None
    announcements: tuple[tuple[str, bytes], ...] = ()  # topic and text, retained, said once per connection

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        gateway: str,
        client_id: str | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: Path | None = None,
        allow_plaintext: bool = False,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        window: int = 20,
        max_backoff_s: float = 2.0,
        keep_alive_s: int = 30,
        format: str = "eve",
    ) -> MqttSettings:
        """Return the settings an address and its options mean.

        `user`, `password` and `password_file` are used where the address has none; `ca` stands in for the system's
        authorities; `cert` and `key` are ours. Raises UsageError naming the option.
        """
        if format not in FORMAT_NAMES:
            raise UsageError(f"mqtt: format {brief(format)}, wanted one of {', '.join(FORMAT_NAMES)}")
        if not is_gateway_id(gateway):
            raise UsageError(f"gateway: {brief(gateway)} cannot be part of a topic, wanted {GATEWAY_ID}")
        parts = _split(url)
        host, port = _host(parts), _port(parts)
        user = unquote(parts.username) if parts.username else user
        if parts.password or password:
            password_file = None
        secret = unquote(parts.password) if parts.password else password
        if password_file is not None:
            secret = read_password(password_file)
        if secret and not user:
            raise UsageError(f"mqtt: a password wants a user name in the address: {WANTED}")
        _check_text("user name", user)
        _check_text("password", secret)
        is_tls = parts.scheme == "mqtts"
        _check_protection(host, is_tls=is_tls, has_files=any((ca, cert, key)), allow_plaintext=allow_plaintext)
        return cls(
            host=host,
            port=port,
            gateway=gateway,
            client_id=client_id or f"{gateway}-replay-{secrets.token_hex(4)}",
            user=user,
            password=secret,
            tls=tls_context("mqtt", ca=ca, cert=cert, key=key) if is_tls else None,
            tls_files=TlsFiles(ca, cert, key) if is_tls and any((ca, cert, key)) else None,
            password_file=password_file,
            window=window,
            max_backoff_s=max_backoff_s,
            keep_alive_s=keep_alive_s,
            format=format,
        )

    def refreshed(self) -> MqttSettings:
        """Return these settings with what their files hold now: passwords and certificates are renewed while we run.

        A file that cannot be used, perhaps because it is just being written, leaves what was known before.
        """
        password, tls = self.password, self.tls
        try:
            if self.password_file is not None:
                password = read_password(self.password_file)
                _check_text("password", password)
            if self.tls_files is not None:
                tls = tls_context("mqtt", **self.tls_files._asdict())
        except UsageError:
            return self
        return replace(self, password=password, tls=tls)

    @property
    def place(self) -> str:
        """The broker as messages name it: no user, no password."""
        return place_text(self.host, self.port)

    @property
    def availability_topic(self) -> str:
        return f"penstock/v1/{self.gateway}/availability"

    @property
    def status_topic(self) -> str:
        return f"penstock/v1/{self.gateway}/status"


def alert_topic(gateway: str, attack_class: str) -> str:
    """Return the topic of an alert; neither part can hold a separator or a wildcard (contracts.alert)."""
    return f"penstock/v1/{gateway}/alert/{attack_class}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError(f"mqtt: the address cannot be read, wanted {WANTED}") from None
    if parts.scheme not in PORTS:
        seen = brief(parts.scheme) if "://" in url else "none"
        raise UsageError(f"mqtt: scheme {seen}, wanted {WANTED}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(
            f"mqtt: the address goes on after host and port, wanted {WANTED} (write / ? # in a password as %2F %3F %23)"
        )
    return parts


def _host(parts: SplitResult) -> str:
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise UsageError(f"mqtt: no host in the address, wanted {WANTED}")
    return parts.hostname


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise UsageError(f"mqtt: the port must be a number from 1 to 65535, wanted {WANTED}")
    return port or PORTS[parts.scheme]


def _check_text(name: str, text: str | None) -> None:
    """Refuse what MQTT cannot carry as a string; the text itself is not shown."""
    try:
        is_short = len((text or "").encode()) <= MAX_TEXT_BYTES
    except UnicodeEncodeError:
        raise UsageError(f"mqtt: the {name} is no UTF-8") from None
    if not is_short:
        raise UsageError(f"mqtt: the {name} is longer than {MAX_TEXT_BYTES} bytes")


def _check_protection(host: str, *, is_tls: bool, has_files: bool, allow_plaintext: bool) -> None:
    if not is_tls and has_files:
        raise UsageError("mqtt: --mqtt-ca, --mqtt-cert and --mqtt-key want an mqtts:// address")
    if not is_tls and not allow_plaintext and not _is_this_machine(host):
        raise UsageError(
            f"mqtt: {host} is beyond this machine and mqtt:// is not encrypted: use mqtts:// or --mqtt-allow-plaintext"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
