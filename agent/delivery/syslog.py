"""Alerts to a syslog server: messages of RFC 5424 over UDP, TCP (octet counting), TLS (RFC 5425) or /dev/log.

Syslog has no acknowledgements: what a server or a network loses after we sent it, nobody counts. Use MQTT where an
alert must arrive. Trap: octet counting (RFC 6587, 3.4.1) is the only framing in which a line end cannot split a
message; servers must expect it (rsyslog's imtcp and syslog-ng's `syslog()` find it out by themselves).
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from agent.delivery.protection import place_text, tls_context
from agent.delivery.queued import Outlet, QueuedSink
from contracts.alert import Alert
from contracts.ecs import rfc3339_text
from contracts.errors import UsageError
from contracts.formats import FORMAT_NAMES, FORMATS
from contracts.terminal import brief

Transport: TypeAlias = Literal["udp", "tcp", "tls", "unix"]
TRANSPORTS: Final[tuple[str, ...]] = get_args(Transport)
PORTS: Final = {"udp": 514, "tcp": 514, "tls": 6514}
DEV_LOG: Final = "/dev/log"
WAIT_S: Final = 5.0  # for a connection, and for room to send

FACILITIES: Final = {
    **{
        name: number
        for number, name in enumerate(
            ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
        )
    },
    **{f"local{number}": 16 + number for number in range(8)},
}
SEVERITIES: Final = {1: 2, 2: 4, 3: 5}  # ours -> critical, warning, notice


@dataclass(frozen=True, kw_only=True)
class SyslogSettings:
    """Where to and how. `host` is a path for `unix`; messages come from `hostname`, or the alert's if empty."""

    host: str
    port: int
    transport: str
    format: str
    facility: int
    hostname: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        address: str,
        *,
        hostname: str,
        transport: str = "udp",
        format: str = "eve",
        facility: str = "local0",
        ca_file: Path | None = None,
    ) -> SyslogSettings:
        """Return the settings an address means: HOST, HOST:PORT, [IPV6]:PORT, or a path for `unix`.

        Raises UsageError naming the setting.
        """
        for name, value, known in (
            ("transport", transport, TRANSPORTS),
            ("format", format, FORMAT_NAMES),
            ("facility", facility, tuple(FACILITIES)),
        ):
            if value not in known:
                raise UsageError(f"syslog: {name} {brief(value)}, wanted one of {', '.join(known)}")
        host, port = (address or DEV_LOG, 0) if transport == "unix" else _host_and_port(address, PORTS[transport])
        if ca_file is not None and transport != "tls":
            raise UsageError(f"syslog: a ca_file is of no use with transport {transport}, wanted tls")
        return cls(
            host=host,
            port=port,
            transport=transport,
            format=format,
            facility=FACILITIES[facility],
            hostname=hostname,
            tls=tls_context("syslog", ca=ca_file) if transport == "tls" else None,
        )

    @property
    def place(self) -> str:
        """The server as messages name it."""
        return self.host if self.transport == "unix" else place_text(self.host, self.port)


def syslog_outlet(settings: SyslogSettings) -> Outlet:
    """Return what sends to one server at once, for who would rather wait than lose."""
    return _Line(settings)


class SyslogSink(QueuedSink):
    """Sends alerts to one server, in order, from a thread of its own."""

    def __init__(self, settings: SyslogSettings) -> None:
        super().__init__("syslog", _Line(settings))


def syslog_message(alert: Alert, settings: SyslogSettings) -> bytes:
    """Return an alert as RFC 5424 writes it: header, the state of the clock, and the line of the format."""
    priority = settings.facility * 8 + SEVERITIES[alert.severity]
    is_synced = int(alert.clock == "synchronised")
    header = f"<{priority}>1 {rfc3339_text(alert.timestamp_us)} {settings.hostname or alert.host} penstock - alert"
    quality = f'[timeQuality tzKnown="1" isSynced="{is_synced}"]'
    return f"{header} {quality} {FORMATS[settings.format].render(alert)}".encode()


class _Line:
    """One socket, opened when there is something to send and again after it failed."""

    def __init__(self, settings: SyslogSettings) -> None:
        self._settings = settings
        self._socket: socket.socket | None = None
        self._is_stream = settings.transport in {"tcp", "tls"}

    def message(self, alert: Alert) -> bytes:
        return syslog_message(alert, self._settings)

    def send(self, message: bytes) -> None:
        try:
            if self._socket is not None and self._is_stream and _is_hung_up(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._open()
            self._socket.sendall(self._framed(message))
        except OSError as exc:
            self.close()
            why = exc.strerror or str(exc) or type(exc).__name__
            raise OSError(exc.errno or errno.EIO, f"{self._settings.place}: {why}") from exc

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _framed(self, message: bytes) -> bytes:
        if self._settings.transport in {"tcp", "tls"}:
            return b"%d %b" % (len(message), message)
        return message + b"\0" if self._is_stream else message  # /dev/log as a stream: as the C library writes it

    def _open(self) -> socket.socket:
        settings = self._settings
        if settings.transport == "unix":
            return self._open_unix()
        if settings.transport == "udp":
            family, kind, number, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM)[
                0
            ]
            return _connected(socket.socket(family, kind, number), address)
        opened = socket.create_connection((settings.host, settings.port), timeout=WAIT_S)
        if settings.tls is None:
            return opened
        try:
            return settings.tls.wrap_socket(opened, server_hostname=settings.host)
        except BaseException:
            opened.close()
            raise

    def _open_unix(self) -> socket.socket:
        try:
            opened = _connected(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), self._settings.host)
            self._is_stream = False
        except OSError as exc:
            if exc.errno != errno.EPROTOTYPE:
                raise
            opened = _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self._settings.host)
            self._is_stream = True
        return opened


def _connected(opened: socket.socket, address: object) -> socket.socket:
    opened.settimeout(WAIT_S)
    try:
        opened.connect(address)  # type: ignore[arg-type]
    except BaseException:
        opened.close()
        raise
    return opened


def _is_hung_up(opened: socket.socket) -> bool:
    """Tell whether the other side closed: without asking, the first message after that would be lost in silence."""
    try:
        while select.select([opened], [], [], 0)[0]:
            opened.settimeout(0)
            if not opened.recv(4096):  # whatever a server says is of no interest
                return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        opened.settimeout(WAIT_S)
    return False


def _host_and_port(address: str, port: int) -> tuple[str, int]:
    host, colon, text = address.rpartition(":")
    if not colon or address.endswith("]") or (":" in host and not host.startswith("[")):
        host, text = address, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not text.isdecimal() or not 0 < int(text) < 65_536 or any(each.isspace() for each in host):
        raise UsageError(f"syslog: address {brief(address)}, wanted HOST, HOST:PORT or [IPV6]:PORT")
    return host, int(text)
