"""The alert in ArcSight's Common Event Format, version 0: one line of a header between pipes and key=value pairs.

A pipe or backslash in the header, and an equals sign, backslash or line end in a value, carry a backslash. What is not
plainly printable besides (NUL, escape, bidirectional controls) is written as its escape, so that a device's name can
neither end a line nor turn one around. Trap: `src` and `dst` hold IPv4 alone in this version; IPv6 addresses stand in
c6a2 and c6a3.
"""

from __future__ import annotations

from typing import Final

from contracts.alert import Alert
from contracts.eve import MAX_LINE_BYTES, RULE_REVISION
from contracts.fitting import fitted
from contracts.terminal import printable

_SEVERITIES: Final = {1: 9, 2: 6, 3: 3}
_DIRECTIONS: Final = {"inbound": "0", "outbound": "1"}


def render_cef(alert: Alert) -> str:
    """Return one line without its newline, of at most MAX_LINE_BYTES bytes of UTF-8."""
    return fitted(alert, _line, most_bytes=MAX_LINE_BYTES)


def cef_header(text: str) -> str:
    r"""Return a text as a field of the header.

    >>> print(cef_header("a|b\\c"))
    a\|b\\c
    """
    return printable(text.replace("\\", "\\\\").replace("|", "\\|"))


def cef_value(text: str) -> str:
    r"""Return a text as a value of the extension.

    >>> print(cef_value("a=b|c\nd"))
    a\=b|c\nd
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\\n".join(_escaped(line) for line in lines)


def _escaped(line: str) -> str:
    # Escapes of the unprintable first: their backslashes are text, and are escaped like any other.
    return printable(line).replace("\\", "\\\\").replace("=", "\\=")


def _line(alert: Alert) -> str:
    kind = alert.kind
    header = (
        "CEF:0",
        "Penstock",
        "penstock",
        str(RULE_REVISION),
        str(kind.signature_id(inside=alert.inside)),
        cef_header(kind.signature(inside=alert.inside)),
        str(_SEVERITIES[alert.severity]),
    )
    pairs = " ".join(f"{key}={cef_value(str(value))}" for key, value in _pairs(alert).items() if value is not None)
    return "|".join((*header, pairs))


def _pairs(alert: Alert) -> dict[str, str | int | float | None]:
    kind, flow = alert.kind, alert.flow
    pairs: dict[str, str | int | float | None] = {
        "rt": alert.timestamp_us // 1000,
        "start": alert.started_us // 1000,
        "end": flow.end_us // 1000,
        "externalId": alert.alert_id,
        "cat": kind.category,
        "dvchost": alert.host,
        "deviceInboundInterface": alert.in_iface,
        "deviceDirection": _DIRECTIONS.get(alert.direction),
        "proto": alert.proto,
        **_end(alert, "src", alert.src_ip, alert.src_port),
        **_end(alert, "dst", alert.dest_ip, alert.dest_port),
        "in": flow.bytes_toserver if flow.src_is_initiator else flow.bytes_toclient,  # from src to dst
        "out": flow.bytes_toclient if flow.src_is_initiator else flow.bytes_toserver,
        "cnt": alert.flows,
        "cfp1": round(alert.score, 4),
        "cfp1Label": "score",
        "cn1": alert.update,
        "cn1Label": "update",
        "cs1": alert.incident_id,
        "cs1Label": "incident",
        "cs2": alert.attack_class,
        "cs2Label": "class",
        "cs3": kind.technique,
        "cs3Label": None if kind.technique is None else "technique",
        "cs4": alert.state + (" spoofable" if alert.spoofable else ""),
        "cs4Label": "state",
        "cs5": f"{alert.model} {alert.version}",
        "cs5Label": "model",
        "cs6": alert.community_id,
        "cs6Label": "community id",
        "reason": " ".join(name for name, _ in alert.columns) or None,
    }
    if alert.clock == "unsynchronised":
        pairs["msg"] = "clock unsynchronised"
    return pairs


def _end(alert: Alert, side: str, ip: str, port: int | None) -> dict[str, str | int | None]:
    """Return the keys of one end; the device's name and MAC stand on the side it is on."""
    letter, number, name = ("s", 2, "Source") if side == "src" else ("d", 3, "Destination")
    is_device = alert.device.ip == ip
    is_version_6 = ":" in ip
    return {
        side: None if is_version_6 else ip,
        f"c6a{number}": ip if is_version_6 else None,
        f"c6a{number}Label": f"{name} IPv6 Address" if is_version_6 else None,
        f"{letter}pt": port,
        f"{letter}mac": alert.device.mac if is_device else None,
        f"{letter}host": alert.device.name if is_device else None,
    }
