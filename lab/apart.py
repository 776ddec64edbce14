"""Keeps benign activities away from the attacks that ground truth could take them for.

Whoever is attacked by a host is also dealt with by it, or the pair alone would tell. What is brief therefore pauses
while such an attack is near, and only what lasts is left out. The trap: an attack may still cause packets after its
end, and what was begun before it may still be going on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from lab.plan import Activity, Attack, Plan
from lab.scenario import in_doubt
from lab.truth import TAIL_S

EARLY_S, LATE_S = 25.0, TAIL_S + 4.0  # an activity keeps away so long before an attack, and after its limit
MOST_AWAY = 0.6  # of a recording; what would be away for longer is left out
# Kinds whose every turn is over well within EARLY_S.
BRIEF = frozenset(
    {
        "clock", "coap_read", "coap_write", "datagram_talk", "dig", "ftp_visit", "http_burst", "http_poll",
        "knock_in_vain", "mqtt_call", "names", "names_burst", "ping", "registers", "setpoint", "ssh_visit",
        "telnet_visit", "watch", "web_admin", "web_login",
    }
)  # fmt: skip


def keep_apart(plan: Plan, activities: Iterable[Activity], attacks: Sequence[Attack]) -> list[Activity]:
    """Return the activities that can be told from the attacks, some with `away`: (from, until) in seconds."""
    kept = []
    for activity in activities:
        spans = _joined(
            (attack.starts_s - EARLY_S, attack.starts_s + attack.limit_s + LATE_S)
            for attack in attacks
            if in_doubt(plan, activity, [attack])
        )
        if not spans:
            kept.append(activity)
        elif activity.kind in BRIEF and sum(end - start for start, end in spans) <= MOST_AWAY * plan.duration_s:
            kept.append(dataclasses.replace(activity, settings={**activity.settings, "away": spans}))
    return kept


def _joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return spans in order, those that touch as one."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined
