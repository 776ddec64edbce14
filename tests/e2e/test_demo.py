"""The demo: three attacks found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.commands.demo import demo_folder
from contracts import ground_truth
from contracts.classes import NAMES
from contracts.eve import MAX_LINE_BYTES, EveLine
from tests.conftest import ROOT
from tests.e2e.conftest import Run

ENDED = "nothing else was raised"


@pytest.fixture(scope="module")
def attacks() -> list[tuple[str, str, str]]:
    """Return (class, attacker, victim) of the ground truth."""
    (truth,) = ground_truth.load(demo_folder() / "ground_truth.json")
    return [
        (NAMES[condition.class_index], interval.attacker[0], interval.victim[0])
        for condition, interval in zip(truth.conditions, truth.entry.intervals, strict=True)
    ]


def test_it_names_attacker_and_victim_of_each_attack_and_raises_nothing_else(penstock: Run, attacks):
    done = penstock("demo")

    assert len(attacks) == 3
    for name, attacker, victim in attacks:
        assert f"found   {name}: {attacker} attacked {victim}" in done.stdout, done.stdout
    assert ENDED in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_only_attackers_and_victims_are_in_its_incidents(penstock: Run, attacks, tmp_path: Path):
    penstock("demo")

    involved = {address for _, *ends in attacks for address in ends}
    alerts = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]
    assert {alert["alert"]["context"]["penstock"]["device"]["ip"] for alert in alerts} <= involved
    assert {end for alert in alerts for end in (alert["src_ip"], alert["dest_ip"])} <= involved


def test_every_line_of_its_eve_json_is_valid_by_both_schemas(penstock: Run, shared, tmp_path: Path):
    jsonschema = pytest.importorskip("jsonschema")
    suricata = json.loads(shared("schemas/suricata-eve.schema.json").read_text())
    ours = json.loads((ROOT / "docs" / "penstock-eve.schema.json").read_text())
    penstock("demo")

    lines = (tmp_path / "eve.json").read_bytes().splitlines()
    assert len(lines) >= 3
    for line in lines:
        assert len(line) <= MAX_LINE_BYTES
        EveLine.model_validate_json(line)
        for schema in (suricata, ours):
            jsonschema.validate(json.loads(line), schema)


def test_two_runs_give_the_same_bytes(penstock: Run, tmp_path: Path):
    penstock("demo", "--eve", "one.json")
    penstock("demo", "--eve", "two.json")

    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes() != b""


def test_the_demo_capture_is_not_in_the_training_data():
    (truth,) = ground_truth.load(demo_folder() / "ground_truth.json")

    assert str(truth.entry.model_extra["seed"]) not in (ROOT / "training" / "splits.toml").read_text()


def test_each_of_its_incidents_can_be_explained(penstock: Run, attacks, tmp_path: Path):
    done = penstock("demo")
    asked = [line.split() for line in done.stdout.splitlines() if line.startswith("  penstock explain ")]
    alerts = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]

    explained = [penstock(*words[1:]) for words in asked]

    assert {words[2] for words in asked} == {each["alert"]["context"]["penstock"]["incident_id"] for each in alerts}
    assert all((told.returncode, told.stderr) == (0, "") for told in explained)
    assert all("what the network looked at" in told.stdout for told in explained)
    assert all("farthest outside what this device does otherwise" in told.stdout for told in explained)
    titles = [told.stdout.splitlines()[0] for told in explained]
    for name, attacker, victim in attacks:
        assert any(title.startswith(f"{name}: {attacker}") and victim in title for title in titles), titles


def test_eve_json_is_the_same_with_and_without_a_record(penstock: Run, capture: Path, bundle: Path, tmp_path: Path):
    common = ("replay", capture, "--bundle", bundle)
    penstock(*common, "--eve", "with.json", "--record", "incidents.db")
    penstock(*common, "--eve", "without.json")

    octets = (tmp_path / "with.json").read_bytes()
    assert octets == (tmp_path / "without.json").read_bytes() != b""
    listed = penstock("explain", "--record", "incidents.db", "--json").stdout.splitlines()
    assert {json.loads(line)["incident_id"] for line in listed} == {
        json.loads(line)["alert"]["context"]["penstock"]["incident_id"] for line in octets.splitlines()
    }


def test_a_record_overwrites_nothing_that_is_read_or_is_none(penstock: Run, capture: Path, tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear diary")

    onto_capture = penstock("replay", capture, "--record", capture)
    onto_letter = penstock("replay", capture, "--record", "letter.txt")

    assert (onto_capture.returncode, onto_letter.returncode) == (64, 73)
    assert (tmp_path / "letter.txt").read_text() == "dear diary"
