"""Packets of an incident, where the operator wants them: a ring of the newest frames per interface, and small pcaps.

The ring copies whole blocks in compiled code. When an incident opens, the frames between its device and the ends of
its evidence are taken out of it and written by a thread. At most one incident in PAUSE_S is: looking through a ring of
16 MiB takes milliseconds, tens of them for hundreds of peers, and a storm of incidents is an attack of its own. What
was left out is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent.backlog import Backlog
from agent.config import AgentConfig
from agent.state.evidence_files import write_evidence
from contracts.errors import OutputError
from contracts.terminal import complain
from detection.incidents import IncidentUpdate
from detection.snapshot import Snapshot
from flowfeatures.keep import KeptFrames

PAUSE_S: Final = 0.2
MOST_WAITING: Final = 16
MOST_PEERS: Final = 256
END_S: Final = 2.0


class Evidence:
    """A context manager; without `evidence.enabled` or a state folder it keeps nothing and costs nothing."""

    def __init__(
        self, config: AgentConfig, *, state_dir: Path | None, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.written = self.left_out = self.failed = 0
        self._settings = config.evidence
        self._state_dir = state_dir if config.evidence.enabled else None
        self._share_bytes = config.evidence.memory_bytes // max(1, len(config.capture.interfaces))
        self._rings: list[KeptFrames] = []
        self._now_s = now_s
        self._next_s = float("-inf")
        self._trouble = ""
        self._waiting: Backlog[tuple[str, bytes]] = Backlog(
            "penstock-evidence", self._write_forever, most=MOST_WAITING, end_s=END_S
        )

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """Return what came of the incidents whose packets were wanted; nothing where none are."""
        if self._state_dir is None:
            return ()
        return ("written", self.written), ("left_out", self.left_out), ("failed", self.failed)

    def ring(self) -> KeptFrames | None:
        """Return the ring for one interface more, None where nothing is kept."""
        if self._state_dir is None:
            return None
        self._rings.append(KeptFrames(self._share_bytes))
        return self._rings[-1]

    def told(self, update: IncidentUpdate) -> None:
        """Keep the packets of an incident that opens."""
        if self._state_dir is None or update.snapshot is None:
            return
        now_s = self._now_s()
        if now_s < self._next_s:
            self.left_out += 1
            return
        self._next_s = now_s + PAUSE_S
        pcap = self._pcap_of(update.snapshot)
        if pcap and not self._waiting.offer((update.incident_id, pcap)):
            self.left_out += 1

    def __enter__(self) -> Evidence:
        if self._state_dir is not None:
            self._waiting.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    def _pcap_of(self, snapshot: Snapshot) -> bytes:
        """Return the packets of the interface that saw the most of them."""
        peers = peers_of(snapshot)
        found = [ring.pcap_of(snapshot.device, peers, most_frames=self._settings.packets) for ring in self._rings]
        return max(found, key=len, default=b"")

    def _write_forever(self) -> None:
        assert self._state_dir is not None
        for item in self._waiting:
            trouble = ""
            try:
                settings = self._settings
                write_evidence(self._state_dir, *item, max_bytes=settings.max_bytes, max_age_s=settings.max_age_s)
                self.written += 1
            except (OutputError, OSError) as exc:
                self.failed += 1
                trouble = str(exc)
                if not self._trouble:
                    complain(f"evidence: {trouble}")
            self._trouble = trouble


def peers_of(snapshot: Snapshot) -> Sequence[bytes]:
    """Return the other ends of the evidence, of the whole window where no record is evidence."""
    flows = snapshot.flows[snapshot.made_it] if snapshot.made_it.any() else snapshot.flows
    ends = [flow[end].tobytes() for flow in flows for end in ("src", "dst")]
    return list(dict.fromkeys(end for end in ends if end != snapshot.device))[:MOST_PEERS]
