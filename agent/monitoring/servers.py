"""What others may ask of a running agent: metrics, status, and the line it publishes of itself.

An address that is taken costs the page that would stand there, never the watch: it is told, and the agent goes on.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import Final

from agent.config import AgentConfig
from agent.monitoring.board import BoardWatch
from agent.monitoring.facts import AgentFacts, BoardFacts, FactsBoard
from agent.monitoring.metrics import MetricsServer, MetricsSettings
from agent.monitoring.status_server import StatusServer
from contracts.errors import PenstockError
from contracts.terminal import complain

TOLD_NAMES: Final = 16  # of bundles turned away, in the status message
TOLD_TEXT: Final = 200


class Servers:
    """A context manager that serves what the board knows; without a configuration file only what was asked for."""

    def __init__(self, board: FactsBoard, config: AgentConfig, *, is_service: bool) -> None:
        self._board = board
        self._config = config
        self._is_service = is_service
        self._watch = BoardWatch()
        self._open = ExitStack()

    @property
    def board_facts(self) -> BoardFacts:
        """Return what the machine's sensors said last."""
        return self._watch.latest

    def __enter__(self) -> Servers:
        config = self._config
        self._watch.start()
        self._open.callback(self._watch.stop)
        if config.metrics.enabled and self._is_asked("metrics"):
            settings = MetricsSettings.of(config.metrics, environ=os.environ)
            self._start(MetricsServer(self._board, settings))
        if config.status.enabled and self._is_asked("status"):
            self._start(StatusServer(self._board, config.status.socket))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _is_asked(self, section: str) -> bool:
        return self._is_service or section in self._config.model_fields_set

    def _start(self, server: MetricsServer | StatusServer) -> None:
        try:
            server.start()
        except PenstockError as exc:
            complain(f"{exc}; the agent goes on without it")
            return
        self._open.callback(server.stop)


def status_text(facts: AgentFacts) -> str:
    """Return what is published of an agent, as JSON: what changes seldom, so that it is sent seldom."""
    return json.dumps(
        {
            "gateway": facts.gateway,
            "version": facts.version,
            "since_us": facts.started_us,
            "bundle": _bundle(facts),
            "calibration": facts.calibration.state,
            "interfaces": {
                each.name: "absent" if each.is_absent else "down" if each.is_down else "up" for each in facts.interfaces
            },
            "silences": {f"{each.interface} {each.kind}": each.text for each in facts.silences},
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def _bundle(facts: AgentFacts) -> dict[str, object]:
    """Return what an aggregator that rolls bundles out wants to know."""
    bundle, federation = facts.bundle, facts.federation
    told: dict[str, object] = {
        "name": bundle.name,
        "release": bundle.release,
        "sha256": bundle.manifest_sha256,
        "trial": "shadow" if bundle.shadow_release is not None else "probation" if bundle.on_probation else "",
        "refused": list(dict.fromkeys([*federation.refused, *bundle.refused_names]))[-TOLD_NAMES:],
        "last_refusal": bundle.last_refusal[:TOLD_TEXT],
    }
    if federation.order:
        told["order"] = {"number": federation.order, "outcome": federation.outcome}
    return told
