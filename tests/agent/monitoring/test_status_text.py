"""What the retained status says to who rolls bundles out: what serves, on what trial, what was turned away."""

from __future__ import annotations

import json
from dataclasses import replace

from agent.monitoring.facts import AgentFacts, BundleFacts, CalibrationFacts
from agent.monitoring.federation import FederationFacts
from agent.monitoring.servers import TOLD_NAMES, TOLD_TEXT, status_text


def told(bundle: BundleFacts, **others: object) -> dict:
    return json.loads(status_text(AgentFacts(bundle=bundle, **others)))


def test_it_names_the_bundle_that_serves_and_what_was_turned_away():
    bundle = BundleFacts(name="gru", release=7, manifest_sha256="a" * 64, refused_names=("7-b", "8-c"))

    status = told(bundle, calibration=CalibrationFacts(state="drift"))

    assert status["calibration"] == "drift"
    assert status["bundle"] == {
        "name": "gru", "release": 7, "sha256": "a" * 64, "trial": "", "refused": ["7-b", "8-c"], "last_refusal": "",
    }  # fmt: skip


def test_it_says_whether_a_bundle_is_tried_in_the_shadow_or_on_probation():
    bundle = BundleFacts(release=7)

    assert told(replace(bundle, shadow_release=8))["bundle"]["trial"] == "shadow"
    assert told(replace(bundle, on_probation=True))["bundle"]["trial"] == "probation"


def test_it_says_what_came_of_the_last_order_and_names_what_was_ordered_and_refused_once():
    federation = FederationFacts(order=3, outcome="refused: unsigned", refused=("9-d", "8-c"))

    bundle = told(BundleFacts(refused_names=("8-c",)), federation=federation)["bundle"]

    assert bundle["order"] == {"number": 3, "outcome": "refused: unsigned"}
    assert bundle["refused"] == ["9-d", "8-c"]


def test_it_stays_short_whatever_happened():
    bundle = BundleFacts(last_refusal="x" * 5000, refused_names=tuple(f"{n:019d}-{'a' * 16}" for n in range(60)))

    text = status_text(AgentFacts(bundle=bundle))

    assert len(json.loads(text)["bundle"]["refused"]) == TOLD_NAMES
    assert len(json.loads(text)["bundle"]["last_refusal"]) == TOLD_TEXT
    assert len(text) < 2048
