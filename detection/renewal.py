"""A benign rule and the incident it is made of: what an operator marks goes on while he types.

A rule is made of what was told of the incident by then, often of its first message alone: one flow, barely above the
threshold. So a rule of an incident that was still open learns the rest once, when the incident closes for it: how sure
it was, how many flows it came to, and what they looked like. Nothing that came later is in it. The trap: an attack that
joined the incident meanwhile was never told, and must not be answered for. So a rule learns of flows between the ends
it was told of alone, and neither sureness nor pace of an incident that has others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from detection.incidents import IncidentUpdate
from detection.prints import MAX_PRINTS
from detection.rules import MANY_PEERS, MANY_PORTS, BenignRule, PrintState, Rules, RulesState
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
    """Return a rule that knows its incident as it was when it closed, as far as it was told of its ends."""
    told, ends = list(rule.prints), _ends_of(rule.prints)
    whole = [PrintState.of(each) for each in incident.prints]
    if not all(ends(each) for each in whole):
        whole = [each for each in whole if ends(each)]
        score, flows = rule.score, rule.flows
    else:
        score = max(rule.score, min(1.0, float(incident.score)))
        pace = flows_an_hour(incident.flows, first_us=incident.first_us, last_us=incident.last_us)
        flows = max(rule.flows, pace)
    # Embeddings of another length are another bundle's.
    more = [each for each in whole if each not in told and len(each.embedding) == len(told[0].embedding)]
    return rule.model_copy(update={"score": score, "flows": flows, "prints": [*told, *more][:MAX_PRINTS]})


def _ends_of(told: Sequence[PrintState]) -> Callable[[PrintState], bool]:
    """Return what says whether a print has the protocol, direction, port and peer of one that was told.

    Any port or peer, where so many were told that the rule asks for none.
    """
    any_port = len({each.port for each in told}) >= MANY_PORTS
    any_peer = len({each.peer for each in told}) >= MANY_PEERS

    def ends(each: PrintState) -> tuple[Any, ...]:
        return each.proto, each.owner_attacks, any_port or each.port, any_peer or each.peer

    known = {ends(each) for each in told}
    return lambda each: ends(each) in known


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
