"""What may move a threshold up: incidents that could have been false, each counted with distrust.

The gateway cannot tell a false incident from a true one; only its operator can. What counts towards raising a threshold
is therefore not what fired but how many different reasons fired: of one device, and of one attacker that proved its
address, at most one incident a day, and none that scored above the second threshold, for no threshold is raised beyond
that. And a place that is judged wrongly is so in many of its devices, while an attack has few ends: unless the reasons
have `breadth`, nothing rises. One attacker, or one odd device, never raises anything, however loud and long. What the
operator gave a verdict on counts no more: malicious was no mistake, and a benign one has a rule of its own. `spent`
counts every incident.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field

from detection.sample import Margin
from detection.state import StrictState, TimeUs
from detection.tally import keep_newest

DAY_US: Final = 86_400 * 1_000_000
LOOK_BACK_DAYS: Final = 7
MAX_REASONS: Final = 512
MAX_INCIDENTS: Final = 1024

Group = Literal["known", "unknown"]
GROUPS: Final[tuple[Group, ...]] = ("known", "unknown")


Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Reason(StrictState):
    """One device and attacker of one day: their strongest incident that a raised threshold would have kept back.

    Where no address was proven, the device stands for its attacker.
    """

    device: Key
    attacker: Key
    day: Annotated[int, Field(ge=0, le=1 << 40)]
    group: Group
    margin: Margin
    incident_id: Annotated[str, Field(max_length=64)]


class Spent(StrictState):
    """One incident that opened."""

    incident_id: Annotated[str, Field(max_length=64)]
    at_us: TimeUs


class BudgetState(StrictState):
    """The budget as it is kept on disk."""

    reasons: Annotated[list[Reason], Field(max_length=MAX_REASONS)] = Field(default_factory=list)
    spent: Annotated[list[Spent], Field(max_length=MAX_INCIDENTS)] = Field(default_factory=list)


class Budget:
    """The reasons for incidents of the last days, and the incidents of the last two weeks."""

    def __init__(self, state: BudgetState | None = None) -> None:
        state = state or BudgetState()
        self._reasons = {_place(each): each for each in state.reasons}
        self._spent = deque(state.spent, maxlen=MAX_INCIDENTS)
        self._judged: set[str] = set()

    def state(self) -> BudgetState:
        """Return what a restart brings back."""
        return BudgetState(reasons=list(self._reasons.values()), spent=list(self._spent))

    def opened(self, incident_id: str, at_us: int) -> None:
        """Count an incident that opened."""
        self._spent.append(Spent(incident_id=incident_id, at_us=max(0, at_us)))

    def reason(
        self, device: bytes, attacker: bytes, *, at_us: int, group: Group, margin: float, incident_id: str = ""
    ) -> None:
        """Count what an incident was opened for, or would have been; of one device, attacker and day the strongest.

        An incident counts once, as it was when it was surest.
        """
        if incident_id in self._judged:
            return
        # Both are addresses, and whose they were is nobody's business in a file of thresholds.
        one = Reason(
            device=_key(device),
            attacker=_key(attacker),
            day=max(0, at_us // DAY_US),
            group=group,
            margin=round(margin, 3),
            incident_id=incident_id,
        )
        seen = self._reasons.get(_place(one))
        if seen is None or margin > seen.margin:
            keep_newest(self._reasons, _place(one), one, limit=MAX_REASONS)

    def margins(self, group: Group, *, now_us: int, days: int = LOOK_BACK_DAYS) -> list[float]:
        """Return the margins of the reasons of the last days, the largest first; no end twice on one day."""
        return [each.margin for each in self._apart(group, now_us=now_us, days=days, by_day=True)]

    def breadth(self, group: Group, *, now_us: int) -> int:
        """Return how many reasons there are of which no two share a device or an attacker, whatever the day."""
        return len(self._apart(group, now_us=now_us, days=LOOK_BACK_DAYS, by_day=False))

    def _apart(self, group: Group, *, now_us: int, days: int, by_day: bool) -> list[Reason]:
        since = now_us // DAY_US - days
        used: set[tuple[int, str]] = set()
        found = []
        for each in sorted(self._reasons.values(), key=lambda reason: -reason.margin):
            ends = {(each.day if by_day else 0, end) for end in (each.device, each.attacker)}
            if each.group == group and each.day > since and not ends & used:
                used |= ends
                found.append(each)
        return found

    def spent(self, *, now_us: int, days: float = 1.0) -> int:
        """Return how many incidents opened in the last days that nobody called malicious."""
        since_us = now_us - round(days * DAY_US)
        return sum(since_us < each.at_us <= now_us for each in self._spent)

    def judge(self, incidents: Iterable[str]) -> None:
        """Forget incidents that the operator gave a verdict on."""
        self._judged = set(incidents) - {""}
        self._reasons = {key: each for key, each in self._reasons.items() if each.incident_id not in self._judged}
        self._spent = deque((each for each in self._spent if each.incident_id not in self._judged), MAX_INCIDENTS)

    def forget_before(self, now_us: int) -> None:
        """Let go what is too old to count, and what a clock that was set back left in the future."""
        today = now_us // DAY_US
        self._reasons = {key: each for key, each in self._reasons.items() if today - 14 < each.day <= today + 1}
        self._spent = deque(
            (each for each in self._spent if now_us - 14 * DAY_US < each.at_us <= now_us + DAY_US), MAX_INCIDENTS
        )


def _place(reason: Reason) -> tuple[int, str, str, Group]:
    return reason.day, reason.device, reason.attacker, reason.group


def _key(address: bytes) -> str:
    return hashlib.blake2b(address, digest_size=8).hexdigest()
