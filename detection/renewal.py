"""A benign rule and the incident it is made of: what an operator marks goes on while he types.

A rule is made of what was told of the incident by then, often of its first message alone: one flow, barely above the
threshold. So a rule of an incident that was still open learns the rest once, when the incident closes for it: how sure
it was, how many flows it came to, and what they looked like. Nothing that came later is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from detection.incidents import IncidentUpdate
from detection.rules import BenignRule, PrintState, Rules, RulesState
from detection.sample import HOUR_US

LEAST_SPAN_US: Final = 60_000_000  # a burst of a second is no pace


def flows_an_hour(flows: int, *, first_us: int, last_us: int) -> int:
    """Return how many flows an hour an incident that goes on makes at its pace, at least those it had.

    >>> flows_an_hour(120, first_us=0, last_us=120_000_000)
    3600
    >>> flows_an_hour(3, first_us=0, last_us=1_000_000)
    180
    """
    return max(1, flows, flows * HOUR_US // max(last_us - first_us, LEAST_SPAN_US))


def renewed_rule(rule: BenignRule, incident: IncidentUpdate) -> BenignRule:
    """Return a rule that knows its incident as it was when it closed."""
    prints = [PrintState.of(each) for each in incident.prints]
    if len(prints) < len(rule.prints) or len(prints[0].embedding) != len(rule.prints[0].embedding):
        prints = list(rule.prints)  # it knows more already, or what another bundle made of it
    pace = flows_an_hour(incident.flows, first_us=incident.first_us, last_us=incident.last_us)
    return rule.model_copy(
        update={
            "score": max(rule.score, min(1.0, float(incident.score))),
            "flows": max(rule.flows, pace),
            "prints": prints,
        }
    )


def renewed(state: RulesState, incidents: Mapping[str, IncidentUpdate]) -> RulesState:
    """Return rules of which those of these incidents, by their ids, know them whole."""
    benign = [
        renewed_rule(each, incidents[each.incident_id]) if each.incident_id in incidents else each
        for each in state.benign
    ]
    return RulesState(mutes=state.mutes, benign=benign, verdicts=dict(state.verdicts))


def renewed_rules(rules: Rules, incidents: Mapping[str, IncidentUpdate]) -> Rules:
    """Return the same, ready to be asked; the very rules where no incident is one of theirs."""
    if not any(each.incident_id in incidents for each in rules.state.benign):
        return rules
    return Rules(renewed(rules.state, incidents))
