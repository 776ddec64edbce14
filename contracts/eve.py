"""The EVE line: what stands in eve.json and in an MQTT message, as one strict model and the JSON schema made from it.

Names follow Suricata's EVE, so rules and parsers for it work unchanged; ours stand under `alert.context.penstock`, in
plain objects, since some decoders take no arrays of objects. The models here are stricter than Suricata's schema: every
key known, every text bounded, no null. `python -m contracts.eve` prints the schema that stands in
docs/penstock-eve.schema.json.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from contracts import alert as alerts
from contracts.alert import Alert, Count, Direction, EndReason, Port, Probability
from contracts.classes import CLASSES
from contracts.fitting import fitted

MAX_LINE_BYTES: Final = 2_047  # Fluent Bit drops a message of 2,048 bytes or more
RULE_REVISION: Final = 1  # of the texts in the class table
SCHEMA_URN: Final = "urn:penstock:eve:1"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ATTACKS: Final = CLASSES[1:]


def _enum(values: list[Any]) -> Any:
    """Return the field of a value that the schema limits to these; the renderer takes them from the same table."""
    return Field(json_schema_extra={"enum": values})


Timestamp = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+0000$")]
Address = Annotated[str, Field(pattern=r"^[0-9a-f:.]{2,45}$")]
Uuid7 = Annotated[str, Field(pattern=alerts.UUID7)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EveFlow(_Strict):
    """`flow`: the addresses are the initiator's and the responder's, whoever of them attacks."""

    pkts_toserver: Count
    pkts_toclient: Count
    bytes_toserver: Count
    bytes_toclient: Count
    start: Timestamp
    end: Timestamp
    age: Count = Field(description="whole seconds")
    reason: EndReason | None = Field(None, description="absent while the flow is live")
    src_ip: Address
    src_port: Port | None = None
    dest_ip: Address
    dest_port: Port | None = None


class EveDevice(_Strict):
    """The home device that owns the incident."""

    ip: Address
    mac: Annotated[str, Field(pattern=alerts.MAC)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=1024)] | None = None


class EvePenstock(_Strict):
    """`alert.context.penstock`: everything that is ours."""

    alert_id: Uuid7
    incident_id: Uuid7
    update: Count
    state: Literal["open", "closed"]
    started: Timestamp
    flows: Annotated[int, Field(ge=1)]
    attack_class: Annotated[str, _enum([each.name for each in _ATTACKS])] = Field(alias="class")
    technique: Annotated[str, _enum(sorted({each.technique for each in _ATTACKS if each.technique}))] | None = None
    direction: Direction
    spoofable: bool
    device: EveDevice
    score: Probability
    threshold: Probability
    model: Annotated[str, Field(pattern=alerts.MODEL_NAME)]
    version: Count
    columns: dict[Annotated[str, Field(pattern=alerts.COLUMN_NAME)], float] = Field(
        max_length=alerts.MAX_COLUMNS, description="column -> fall of the score when it is set to its benign median"
    )
    clock: Annotated[str, _enum(["unsynchronised"])] | None = Field(
        None, description="present where the gateway did not know the time of day: no time in this line is one"
    )


class EveContext(_Strict):
    """`alert.context`, the one place of EVE that is open to others."""

    penstock: EvePenstock


class EveAlert(_Strict):
    """`alert`: what a rule would say."""

    action: Literal["allowed"] = "allowed"
    gid: Literal[1] = 1
    signature_id: Annotated[
        int, _enum(sorted(each.signature_id(inside=inside) for each in _ATTACKS for inside in (False, True)))
    ]
    rev: Annotated[int, Field(ge=1)] = RULE_REVISION
    signature: Annotated[
        str, _enum(sorted(each.signature(inside=inside) for each in _ATTACKS for inside in (False, True)))
    ]
    category: Annotated[str, _enum(sorted({each.category for each in _ATTACKS}))]
    severity: Literal[1, 2, 3]
    context: EveContext


class EveLine(_Strict):
    """One line of eve.json. `src_ip` is the attacker."""

    timestamp: Timestamp
    event_type: Literal["alert"] = "alert"
    flow_id: Annotated[int, Field(ge=0, le=alerts.MAX_FLOW_ID)]
    community_id: Annotated[str, Field(pattern=alerts.COMMUNITY_ID)]
    in_iface: Annotated[str, Field(pattern=alerts.INTERFACE)] | None = None
    src_ip: Address
    src_port: Port | None = None
    dest_ip: Address
    dest_port: Port | None = None
    proto: Annotated[str, Field(pattern=alerts.PROTOCOL)]
    host: Annotated[str, Field(pattern=alerts.GATEWAY_ID)]
    flow: EveFlow
    alert: EveAlert


def timestamp_text(time_us: int) -> str:
    """Return microseconds since the epoch as EVE writes them, in UTC.

    >>> timestamp_text(1_500_000_000_123_456)
    '2017-07-14T02:40:00.123456+0000'
    """
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%f+0000")


def eve_line(alert: Alert) -> EveLine:
    """Return an alert as EVE names it; what the class table knows is filled in."""
    kind = alert.kind
    said = EveAlert(
        signature_id=kind.signature_id(inside=alert.inside),
        signature=kind.signature(inside=alert.inside),
        category=kind.category,
        severity=alert.severity,
        context=EveContext(penstock=_ours(alert)),
    )
    return EveLine(
        timestamp=timestamp_text(alert.timestamp_us),
        flow_id=alert.flow_id,
        community_id=alert.community_id,
        in_iface=alert.in_iface,
        src_ip=alert.src_ip,
        src_port=alert.src_port,
        dest_ip=alert.dest_ip,
        dest_port=alert.dest_port,
        proto=alert.proto,
        host=alert.host,
        flow=_flow(alert),
        alert=said,
    )


def render_eve(alert: Alert) -> str:
    """Return one line of ASCII JSON without its newline: keys sorted, no spaces, at most MAX_LINE_BYTES bytes.

    ASCII, so that no reader sees a line end or a broken letter inside a device's name. Where the line would be too
    long, the device's name is cut, then the least column leaves; what a rule matches on never does.
    """
    return fitted(
        alert,
        lambda each: canonical_json(eve_line(each).model_dump(by_alias=True, exclude_none=True)),
        most_bytes=MAX_LINE_BYTES,
    )


def canonical_json(value: Any) -> str:
    """Return a value as JSON that is the same each time: ASCII, keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _flow(alert: Alert) -> EveFlow:
    flow = alert.flow
    ends = [(alert.src_ip, alert.src_port), (alert.dest_ip, alert.dest_port)]
    (src_ip, src_port), (dest_ip, dest_port) = ends if flow.src_is_initiator else ends[::-1]
    return EveFlow(
        pkts_toserver=flow.pkts_toserver,
        pkts_toclient=flow.pkts_toclient,
        bytes_toserver=flow.bytes_toserver,
        bytes_toclient=flow.bytes_toclient,
        start=timestamp_text(flow.start_us),
        end=timestamp_text(flow.end_us),
        age=max(0, flow.end_us - flow.start_us) // 1_000_000,
        reason=flow.reason,
        src_ip=src_ip,
        src_port=src_port,
        dest_ip=dest_ip,
        dest_port=dest_port,
    )


def _ours(alert: Alert) -> EvePenstock:
    # By alias: `class` is a keyword of the language, not of the format.
    return EvePenstock.model_validate(
        {
            "alert_id": alert.alert_id,
            "incident_id": alert.incident_id,
            "update": alert.update,
            "state": alert.state,
            "started": timestamp_text(alert.started_us),
            "flows": alert.flows,
            "class": alert.attack_class,
            "technique": alert.kind.technique,
            "direction": alert.direction,
            "spoofable": alert.spoofable,
            "device": EveDevice(ip=alert.device.ip, mac=alert.device.mac, name=alert.device.name),
            "score": round(alert.score, 4),
            "threshold": round(alert.threshold, 4),
            "model": alert.model,
            "version": alert.version,
            "columns": {name: round(fall, 4) for name, fall in alert.columns},
            "clock": None if alert.clock == "synchronised" else alert.clock,
        }
    )


class _Shape(GenerateJsonSchema):
    """Leaves out what the lines never show: a key without a value is absent, so there are no nulls and no defaults."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        return {**super().dict_schema(schema), "additionalProperties": False}


def eve_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of one line of eve.json."""
    schema = EveLine.model_json_schema(by_alias=True, schema_generator=_Shape)
    for part in [schema, *schema["$defs"].values()]:
        constant = [name for name, field in part["properties"].items() if "const" in field]
        part["required"] = sorted({*part.get("required", []), *constant, *({"rev"} & part["properties"].keys())})
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": SCHEMA_URN, **schema}


def eve_schema_text() -> str:
    """Return the schema as the file in docs/ holds it."""
    return json.dumps(eve_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(eve_schema_text(), end="")
