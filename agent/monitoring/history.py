"""The last minutes by the second, for pictures: a few plain numbers of each post of facts, in bounded memory.

One thread adds, any may read. A count that fell (an interface went and came back) rises by nothing in that second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.monitoring.facts import AgentFacts

MOST: Final = 180
COUNTS: Final[Mapping[str, Callable[[AgentFacts], int]]] = {
    "packets_per_s": lambda facts: sum(each.read for each in facts.interfaces),
    "drops_per_s": lambda facts: sum(each.dropped for each in facts.interfaces),
    "windows_per_s": lambda facts: facts.windows.scored,
}


class History:
    """Rates between posts, and live flows at each."""

    def __init__(self) -> None:
        self._posts: deque[tuple[float, tuple[int, ...], int]] = deque(maxlen=MOST + 1)

    def add(self, now_s: float, facts: AgentFacts) -> None:
        """Note one post."""
        self._posts.append((now_s, tuple(count(facts) for count in COUNTS.values()), facts.flows.live))

    def series(self) -> dict[str, list[float]]:
        """Return a list by name, oldest first: a number for every post but the first, since a rate wants two."""
        posts = tuple(self._posts)
        steps = [(max(1e-3, after[0] - before[0]), before[1], after[1]) for before, after in pairwise(posts)]
        found: dict[str, list[float]] = {
            name: [round(max(0, after[n] - before[n]) / seconds, 1) for seconds, before, after in steps]
            for n, name in enumerate(COUNTS)
        }
        return found | {"flows": [live for _, _, live in posts[1:]]}
