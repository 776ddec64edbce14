"""The configuration of the agent: one frozen tree, one default per setting, each with its unit, range and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.fields import FieldInfo

from agent.config.section import Section, restarts
from agent.config.telling import (
    EveSection,
    MetricsSection,
    MqttSection,
    OutboxSection,
    StatusSection,
    StdoutSection,
    SyslogSection,
)
from agent.config.watching import (
    CaptureSection,
    DataSection,
    EvidenceSection,
    FederationSection,
    GatewaySection,
    JudgementSection,
    ScoringSection,
    SilenceSection,
)


class AgentConfig(Section):
    """All settings of `penstock run`. Only `capture.interfaces` has no default."""

    gateway: GatewaySection = Field(default_factory=GatewaySection)
    capture: CaptureSection
    scoring: ScoringSection = Field(default_factory=ScoringSection)
    judgement: JudgementSection = Field(default_factory=JudgementSection)
    silence: SilenceSection = Field(default_factory=SilenceSection)
    eve: EveSection = Field(default_factory=EveSection)
    stdout: StdoutSection = Field(default_factory=StdoutSection)
    syslog: SyslogSection = Field(default_factory=SyslogSection)
    mqtt: MqttSection = Field(default_factory=MqttSection)
    outbox: OutboxSection = Field(default_factory=OutboxSection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    status: StatusSection = Field(default_factory=StatusSection)
    federation: FederationSection = Field(default_factory=FederationSection)
    data: DataSection = Field(default_factory=DataSection)
    evidence: EvidenceSection = Field(default_factory=EvidenceSection)

    @property
    def outbox_path(self) -> Path:
        """Return the outbox's file, which stands in the state folder unless it is named."""
        return self.outbox.path or self.gateway.state_dir / "outbox.db"

    def shown(self) -> dict[str, Any]:
        """Return all settings as plain JSON, without what may be secret: user and password in the broker's address."""
        tree: dict[str, Any] = json.loads(self.model_dump_json())
        if self.mqtt.url is not None:
            tree["mqtt"]["url"] = without_user(self.mqtt.url)
        return tree


def sections() -> dict[str, type[Section]]:
    """Return the sections by name, in the order of the sample."""
    found = {}
    for name, field in AgentConfig.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        found[name] = field.annotation
    return found


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Give every setting: section, key, field."""
    for name, section in sections().items():
        for key, field in section.model_fields.items():
            yield name, key, field


def changed(before: AgentConfig, after: AgentConfig) -> list[str]:
    """Return the settings that differ, as `section.key`."""
    return [
        f"{section}.{key}"
        for section, key, _ in fields()
        if getattr(getattr(before, section), key) != getattr(getattr(after, section), key)
    ]


def want_restart(settings: list[str]) -> list[str]:
    """Return those of some settings, as `section.key`, that a reload cannot change."""
    fixed = {f"{section}.{key}" for section, key, field in fields() if restarts(field)}
    return [setting for setting in settings if setting in fixed]


def without_user(url: str) -> str:
    """Return an address without the user and password that may stand in it.

    >>> without_user("mqtts://me:secret@broker.lan:8883")
    'mqtts://broker.lan:8883'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
