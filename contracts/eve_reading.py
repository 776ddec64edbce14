"""An EVE line of ours back into the alert it was made of, for programs that receive lines and must not believe them.

A line is taken only if rendering the alert read from it gives the same line again. So everything the class table
derives (signature, category, technique) is checked, severity 1 is held to its conditions, and what JSON leaves open
(spaces, escapes, keys named twice) cannot make two readers see two things. Trap: a line of a newer penstock, with other
texts in its class table, is refused too: whoever reads lines is brought up to date before those who write them.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from contracts.alert import Alert, AlertDevice, AlertFlow
from contracts.eve import MAX_LINE_BYTES, EveLine, canonical_json, render_eve

Refusal: TypeAlias = Literal["oversize", "json", "schema"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class EveRefused(ValueError):
    """A line that is none of ours. `reason` is one word to count it by; the message shows nothing of the line."""

    def __init__(self, reason: Refusal, why: str) -> None:
        super().__init__(why)
        self.reason = reason


def read_eve(line: bytes) -> Alert:
    """Return the alert of one line, with or without its newline. Raises EveRefused."""
    line = line.removesuffix(b"\n")
    if len(line) > MAX_LINE_BYTES:
        raise EveRefused("oversize", f"{len(line)} octets, wanted at most {MAX_LINE_BYTES}")
    try:
        read = EveLine.model_validate_json(line)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise EveRefused("json", "no JSON") from None
        raise EveRefused("schema", f"{_place(first['loc'])}: {first['type']}") from None
    try:
        alert = alert_of(read)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        raise EveRefused("schema", f"{_place(first['loc'])}: {first['type']}") from None
    except (ValueError, OverflowError):
        raise EveRefused("schema", "a time stamp that is no time") from None
    if render_eve(alert) != canonical_json(read.model_dump(by_alias=True, exclude_none=True)):
        raise EveRefused("schema", "its parts contradict each other")
    return alert


def alert_of(line: EveLine) -> Alert:
    """Return the alert of a line as it says it. Raises ValueError, of it ValidationError, where it cannot be one."""
    ours, flow = line.alert.context.penstock, line.flow
    return Alert(
        timestamp_us=_microseconds(line.timestamp),
        host=line.host,
        in_iface=line.in_iface,
        flow_id=line.flow_id,
        community_id=line.community_id,
        src_ip=line.src_ip,
        src_port=line.src_port,
        dest_ip=line.dest_ip,
        dest_port=line.dest_port,
        proto=line.proto,
        flow=AlertFlow(
            src_is_initiator=(flow.src_ip, flow.src_port) == (line.src_ip, line.src_port),
            pkts_toserver=flow.pkts_toserver,
            pkts_toclient=flow.pkts_toclient,
            bytes_toserver=flow.bytes_toserver,
            bytes_toclient=flow.bytes_toclient,
            start_us=_microseconds(flow.start),
            end_us=_microseconds(flow.end),
            reason=flow.reason,
        ),
        attack_class=ours.attack_class,
        severity=line.alert.severity,
        alert_id=ours.alert_id,
        incident_id=ours.incident_id,
        update=ours.update,
        state=ours.state,
        started_us=_microseconds(ours.started),
        flows=ours.flows,
        direction=ours.direction,
        spoofable=ours.spoofable,
        device=AlertDevice(ip=ours.device.ip, mac=ours.device.mac, name=ours.device.name),
        score=ours.score,
        threshold=ours.threshold,
        model=ours.model,
        version=ours.version,
        columns=tuple(sorted(ours.columns.items(), key=lambda each: -each[1])),
        clock="synchronised" if ours.clock is None else "unsynchronised",
    )


def _microseconds(text: str) -> int:
    return (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z") - _EPOCH) // timedelta(microseconds=1)


def _place(loc: tuple[int | str, ...]) -> str:
    """Return where in a line something is wrong; keys that somebody else chose are not shown."""
    return ".".join(str(each) for each in loc if str(each).isidentifier())[:80] or "line"
