"""What is known of the agent's part in federation, as plain values (see `agent.monitoring.facts`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Counted: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class FederationFacts:
    """Windows kept to learn from, messages carried, and the last order of a roll-out."""

    is_enabled: bool = False
    kept: int = 0
    pinned: int = 0
    """Windows of incidents."""
    let_go: int = 0
    """Kept windows that turned out to lie near an incident."""
    skipped: Counted = ()
    """Windows not kept, by reason: enough, waiting, unfit, devices."""
    failed: int = 0
    samples: int = 0
    samples_bytes: int = 0
    messages: Counted = ()
    """By direction and what came of them."""
    wishes: int = 0
    """Early runs of the trainer that were asked for."""
    order: int = 0
    outcome: str = ""
    """What came of the last order, for a person and for the status message."""
    refused: tuple[str, ...] = ()
    """Names of bundles that were ordered and turned away, newest last."""
    trouble: str = ""
