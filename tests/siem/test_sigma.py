"""Sigma rules: read by pySigma, and held against lines of ours that they must find, and others they must not.

Consumed: the rules, by pySigma's parser and validators; lines of eve.json, by the conditions it makes of the rules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.eve import render_eve
from tests.alerts import make_alert

RULES = Path(__file__).resolve().parents[2] / "deploy" / "siem" / "sigma"

sigma = pytest.importorskip("sigma.collection", reason="no pySigma (pip install pysigma)")


@pytest.fixture(scope="module")
def collection() -> Any:
    return sigma.SigmaCollection.load_ruleset([RULES])


def value_at(line: dict[str, Any], path: str) -> Any:
    found: Any = line
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def holds(condition: Any, line: dict[str, Any]) -> bool:
    """Tell whether a condition of pySigma's tree holds for a line."""
    kind = type(condition).__name__
    if kind in {"ConditionAND", "ConditionOR"}:
        return (all if kind == "ConditionAND" else any)(holds(each, line) for each in condition.args)
    if kind == "ConditionNOT":
        return not holds(condition.args[0], line)
    assert kind == "ConditionFieldEqualsValueExpression", kind
    wanted, seen = condition.value, value_at(line, condition.field)
    if hasattr(wanted, "number"):
        return seen == wanted.number and not isinstance(seen, bool)
    if hasattr(wanted, "boolean"):
        return seen is wanted.boolean
    return isinstance(seen, str) and seen.lower() == wanted.to_plain().lower()


def found_by(collection: Any, alert: Any) -> set[str]:
    """Return the file stems, less `penstock_`, of the rules that find an alert."""
    line = json.loads(render_eve(alert))
    return {
        rule.source.path.stem.removeprefix("penstock_")
        for rule in collection.rules
        if hasattr(rule, "detection") and any(holds(each.parsed, line) for each in rule.detection.parsed_condition)
    }


def test_the_rules_are_whole_and_known_by_ids_of_their_own(collection: Any):
    assert len(collection.rules) == 5
    assert len({rule.id for rule in collection.rules}) == 5
    assert [error for rule in collection.rules for error in rule.errors] == []
    for rule in collection.rules:
        assert rule.level is not None
        assert rule.description


def test_pysigmas_validators_that_need_no_network_have_nothing_to_say(collection: Any):
    plugins = pytest.importorskip("sigma.plugins")
    validation = pytest.importorskip("sigma.validation")
    validators = plugins.InstalledSigmaPlugins.autodiscover().validators
    offline = {
        kind for name, kind in validators.items() if not any(word in name for word in ("attack", "d3fend", "tag"))
    }

    issues = validation.SigmaValidator(offline).validate_rules(collection)

    assert len(offline) > 5
    assert [str(issue) for issue in issues] == []


@pytest.mark.parametrize(
    ("alert", "wanted"),
    [
        (make_alert(severity=1, direction="inbound"), {"attacker_outside", "many_devices"}),
        (make_alert(direction="inbound", spoofable=True, attack_class="flood"), {"many_devices"}),
        (make_alert(direction="outbound", attack_class="botnet"), {"device_taken_over", "many_devices"}),
        (make_alert(direction="outbound", attack_class="botnet", update=3), {"device_taken_over"}),
        (make_alert(direction="outbound", attack_class="botnet", update=4, state="closed"), set()),
        (make_alert(attack_class="unknown", severity=3, update=1), {"unknown_behaviour"}),
    ],
    ids=lambda each: f"{each.attack_class} {each.severity} {each.state}" if hasattr(each, "severity") else "",
)
def test_each_rule_finds_what_it_is_for_and_nothing_else(collection: Any, alert: Any, wanted: set[str]):
    assert found_by(collection, alert) == wanted


def test_every_field_a_rule_names_is_in_our_lines(collection: Any):
    line = json.loads(
        render_eve(make_alert(device=make_alert().device.model_copy(update={"name": "camera"}), in_iface="eth0"))
    )
    named = {field for rule in collection.rules for field in rule.fields}
    correlations = [rule for rule in collection.rules if hasattr(rule, "group_by")]
    named |= {field for rule in correlations for field in rule.group_by}
    named |= {rule.condition.fieldref for rule in correlations}

    assert [field for field in sorted(named) if value_at(line, field) is None] == []
    assert len(correlations) == 1
