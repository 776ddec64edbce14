"""The kinds of values a setting may have: what TOML gives, checked, and what each wants to be, in words.

Settings are strict: a text is no number and 1 is not true. A list of TOML becomes a tuple, so that a configuration
cannot be changed after it was read. Every kind carries `Wanted`, which error messages and the documentation show.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from contracts.alert import GATEWAY_ID, INTERFACE

MAX_TEXT: Final = 4096
MAX_LIST: Final = 256
NO_GATEWAY: Final = "gateway"
CREDENTIAL: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}"
HOST: Final = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\]"
MQTT_SCHEMES: Final = ("mqtt", "mqtts")


@dataclass(frozen=True)
class Wanted:
    """What a kind of value wants to be, as it ends the sentence `seen 5, wanted ...`."""

    text: str


def host_gateway() -> str:
    """Return the first part of this machine's name where that may name a gateway, else `gateway`."""
    name = socket.gethostname().split(".")[0]
    return name if re.fullmatch(GATEWAY_ID, name) else NO_GATEWAY


def is_loopback(host: str) -> bool:
    """Tell whether a host, as a setting names it, is this machine and nobody else can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of `host:port`; an IPv6 address stands in brackets, which are taken off. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(HOST, host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("no host and port")
    if host.startswith("["):
        ipaddress.IPv6Address(host[1:-1])
    return host.strip("[]"), int(port)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise ValueError("no text")
    return value


def _matching(pattern: str) -> BeforeValidator:
    def check(value: Any) -> str:
        if not re.fullmatch(pattern, _text(value)):
            raise ValueError("does not match")
        return str(value)

    return BeforeValidator(check)


def _path(value: Any) -> Path:
    path = value if isinstance(value, Path) else Path(_text(value))
    if not path.is_absolute() or "\0" in str(path) or ".." in path.parts:
        raise ValueError("no absolute path")
    return path


def _network(value: Any) -> str:
    return str(ipaddress.ip_network(_text(value), strict=False))


def _listen(value: Any) -> str:
    host, port = host_and_port(_text(value))
    ipaddress.ip_address(host)  # a name could come to mean another address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _mqtt_url(value: Any) -> str:
    parts = urlsplit(_text(value))
    host, port = parts.hostname or "", parts.port  # .port raises ValueError beyond 65535
    is_host = re.fullmatch(HOST, host) or _is_address(host)
    if parts.scheme not in MQTT_SCHEMES or not is_host or port == 0:
        raise ValueError("no address of a broker")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("goes on after host and port")
    return str(value)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _secret(value: Any) -> str:
    text = str(value) if isinstance(value, Path) else _text(value)
    return text if re.fullmatch(CREDENTIAL, text) else str(_path(text))


def _syslog(value: Any) -> str:
    text = _text(value)
    if text.startswith("/"):
        return str(_path(text))
    host = text if re.fullmatch(HOST, text) else host_and_port(text)[0]
    if not host:
        raise ValueError("no host")
    return text


def _tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_LIST:
        raise ValueError("no list")
    if len(set(map(repr, value))) != len(value):
        raise ValueError("names one twice")
    return tuple(value)


def _home_nets(value: Any) -> Any:
    return value if value == "auto" else _tuple(value)


Text: TypeAlias = Annotated[str, BeforeValidator(_text), Wanted(f"a text of 1 to {MAX_TEXT} letters on one line")]
GatewayId: TypeAlias = Annotated[
    str, _matching(GATEWAY_ID), Wanted("1 to 64 letters, digits, dots, dashes or underscores")
]
AbsolutePath: TypeAlias = Annotated[Path, BeforeValidator(_path), Wanted("an absolute path without ..")]
InterfaceName: TypeAlias = Annotated[str, _matching(INTERFACE), Wanted("the name of an interface")]
Network: TypeAlias = Annotated[str, BeforeValidator(_network), Wanted("a network as 192.168.1.0/24, or an address")]
InterfaceNames: TypeAlias = Annotated[
    tuple[InterfaceName, ...], BeforeValidator(_tuple), Wanted('a list of names of interfaces, as ["eth0"]')
]
Networks: TypeAlias = Annotated[
    tuple[Network, ...], BeforeValidator(_tuple), Wanted('a list of networks, as ["192.168.1.0/24"]')
]
HomeNetworks: TypeAlias = Annotated[
    Literal["auto"] | tuple[Network, ...],
    BeforeValidator(_home_nets),
    Wanted('"auto", or a list of networks, as ["192.168.1.0/24"]'),
]
Listen: TypeAlias = Annotated[
    str, BeforeValidator(_listen), Wanted('an address and a port, as "127.0.0.1:9744" or "[::1]:9744"')
]
HostName: TypeAlias = Annotated[str, _matching(HOST), Wanted("the name or address of a host, without a port")]
HostNames: TypeAlias = Annotated[
    tuple[HostName, ...], BeforeValidator(_tuple), Wanted('a list of hosts, as ["cellar.lan"]')
]
BrokerUrl: TypeAlias = Annotated[
    str, BeforeValidator(_mqtt_url), Wanted("mqtt://host[:port] or mqtts://host[:port], nothing after it")
]
SecretFile: TypeAlias = Annotated[
    str, BeforeValidator(_secret), Wanted("an absolute path, or the name of a systemd credential")
]
SyslogAddress: TypeAlias = Annotated[
    str, BeforeValidator(_syslog), Wanted('host, host:port, or the path of a socket, as "/dev/log"')
]
AlertFormat: TypeAlias = Literal["eve", "ecs", "ocsf", "cef"]
Facility: TypeAlias = Literal[
    "daemon", "auth", "authpriv", "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"
]
