"""Verdicts that come over MQTT, applied in a thread of its own: disks must not hold packets.

Who may speak, the broker's access rules say; this side trusts no message for it. A verdict is one small strict JSON
object. Refused, and counted by reason: what was retained (a verdict is said once, not kept), what was said before, what
was sent too long ago or in the future, what comes too fast. The trap: a message without `sent_us` can be told from a
replay only as long as the audit log remembers it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from agent.backlog import Backlog
from agent.delivery import Incoming, Subscription
from agent.state.audit import AUDIT_FILE, AuditLog, Line
from agent.state.verdicts import Source, give_verdict
from contracts.errors import DataMissing, PenstockError
from detection.rules import IncidentId
from detection.state import StateRefused, StrictState, TimeUs, checked

MAX_BYTES: Final = 4096
MOST_WAITING: Final = 64
FRESH_US: Final = 300 * 1_000_000  # a message may be so old, and its sender's clock so far ahead
MOST_REMEMBERED: Final = 8192
BURST: Final = 30
TOKEN_S: Final = 10.0  # one verdict more after so many seconds: 360 an hour
END_S: Final = 2.0
RESULTS: Final = (
    "applied", "unknown", "failed", "malformed", "retained", "replayed", "stale", "too_many", "full",
)  # fmt: skip
Answer = Callable[[str, bytes], None]

_log = logging.getLogger(__name__)


class FeedbackMessage(StrictState):
    """What is said of an incident: one of the ids, the verdict, and by whom, why and when as the sender has it."""

    alert_id: IncidentId | None = None
    incident_id: IncidentId | None = None
    verdict: Literal["benign", "malicious"]
    operator: Annotated[Line, Field(max_length=64)] = ""
    note: Line = ""
    sent_us: TimeUs | None = None

    @model_validator(mode="after")
    def _names_one(self) -> FeedbackMessage:
        if (self.alert_id is None) == (self.incident_id is None):
            raise ValueError("wanted alert_id or incident_id, one of them")
        return self

    @property
    def wanted(self) -> str:
        return self.alert_id or self.incident_id or ""


def read_message(payload: bytes) -> FeedbackMessage:
    """Return what a payload says. Raises StateRefused."""
    try:
        tree = json.loads(payload.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise StateRefused(f"feedback: is not JSON: {exc}") from exc
    if not isinstance(tree, dict):
        raise StateRefused(f"feedback: holds a JSON {type(tree).__name__}, wanted an object")
    return checked(FeedbackMessage, tree, what="feedback")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return found


class Verdicts:
    """Take verdicts of a gateway; a context manager. `state_dir` None: there is nothing a verdict could be about.

    `answer` sends an octet string to a topic, without waiting. `results` counts messages by what came of them.
    """

    def __init__(
        self,
        state_dir: Path | None,
        *,
        gateway: str,
        answer: Answer = lambda _topic, _payload: None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.results = dict.fromkeys(RESULTS, 0)
        self._state_dir = state_dir
        self._topic = f"penstock/v1/{gateway}/feedback"
        self._answers = re.compile(rf"penstock/v1/{re.escape(gateway)}/answer/[A-Za-z0-9_-]{{1,64}}")
        self._answer = answer
        self._now_us = now_us
        self._clock_s = clock_s
        self._tokens, self._counted_s = float(BURST), clock_s()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._waiting: Backlog[Incoming] = Backlog(
            "penstock-verdicts", self._apply_forever, most=MOST_WAITING, end_s=END_S
        )

    def subscriptions(self, *, is_wanted: bool) -> list[Subscription]:
        """Return what to subscribe to."""
        return [Subscription(self._topic, MAX_BYTES)] if is_wanted and self._state_dir is not None else []

    def __enter__(self) -> Verdicts:
        if self._state_dir is not None:
            self._waiting.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    def take(self, message: Incoming) -> None:
        """Let a message be read soon."""
        if message.is_retained:
            self.results["retained"] += 1
        elif not self._waiting.offer(message):
            self.results["full"] += 1

    def _apply_forever(self) -> None:
        assert self._state_dir is not None
        with contextlib.suppress(OSError):
            for entry in AuditLog(self._state_dir / AUDIT_FILE).entries():
                if entry.digest:
                    self._remember(entry.digest)
        for message in self._waiting:
            result, said = self._result_of(message, self._state_dir)
            if said:
                self._answer_to(message, result, said)
            self.results[result] += 1

    def _result_of(self, message: Incoming, state_dir: Path) -> tuple[str, str]:
        """Apply a message; return what came of it, and what an answer says; "" where it deserves none."""
        try:
            read = read_message(message.payload)
        except StateRefused as exc:
            _log.info("%s", exc)
            return "malformed", ""
        now_us = self._now_us()
        if read.sent_us is not None and abs(now_us - read.sent_us) > FRESH_US:
            return "stale", ""
        digest = hashlib.sha256(message.payload).hexdigest()
        if digest in self._seen:
            return "replayed", ""
        if not self._has_token():
            return "too_many", ""
        source = Source("mqtt", operator=read.operator, note=read.note, digest=digest)
        try:
            given = give_verdict(state_dir, read.wanted, read.verdict, source=source, now_us=now_us)
        except DataMissing as exc:
            self._remember(digest)
            return "unknown", str(exc)
        except PenstockError as exc:  # may pass: a full disk, too many rules
            _log.warning("feedback: %s", exc)
            return "failed", str(exc)
        self._remember(digest)
        return "applied", given.outcome

    def _has_token(self) -> bool:
        now_s = self._clock_s()
        self._tokens = min(float(BURST), self._tokens + (now_s - self._counted_s) / TOKEN_S)
        self._counted_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _remember(self, digest: str) -> None:
        self._seen[digest] = None
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)

    def _answer_to(self, message: Incoming, result: str, said: str) -> None:
        """Say what came of it where the sender asked for that, and nowhere but below our own `answer`."""
        topic = message.properties.get("ResponseTopic", "")
        if self._answers.fullmatch(topic):
            self._answer(topic, json.dumps({"result": result, "said": said}).encode())
