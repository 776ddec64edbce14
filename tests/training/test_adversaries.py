"""The table of detection against effort, with a bundle whose verdicts can be worked out by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")

from contracts.bundle import load_bundle
from detection.onnx_engine import OnnxEngine
from tests.bundles import write_nervous_bundle
from tests.training.test_evasion import truth  # noqa: F401  (a fixture)
from training.adversaries import TAUGHT_LEVELS, against_evasions, is_taught, markdown
from training.evasion import EVASIONS, NOTHING, Evasion

PAD = Evasion("pad", "+100 octets", pad_bytes=100)


@pytest.fixture
def told(truth, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("training.evasion.EVADED", tmp_path / "evaded")
    bundle = load_bundle(write_nervous_bundle(tmp_path / "bundle"))
    return against_evasions(bundle, OnnxEngine(bundle), [truth], evasions=[NOTHING, PAD])


def test_every_evasion_is_judged_through_the_detector(told):
    assert [(row["evasion"], row["captures"]) for row in told["rows"]] == [("none", 1), ("pad", 1)]
    assert [row["tpr"] for row in told["rows"]] == [1.0, 1.0]
    assert told["rows"][0]["classes"]["brute_force"]["windows_attack"] > 0


def test_effort_is_told_as_multiples_of_the_attack_as_recorded(told):
    plain, padded = (row["effort"] for row in told["rows"])

    assert plain == {"packets": 1.0, "octets": 1.0, "seconds": 1.0}
    assert padded["octets"] > padded["packets"] == 1.0


def test_the_table_holds_a_line_per_evasion(told):
    assert [line.split("|")[1].strip() for line in markdown(told).splitlines()[2:]] == ["none", "pad"]


def test_every_level_taught_is_one_that_is_judged():
    assert {evasion.name for evasion in EVASIONS if is_taught(evasion)} == set(TAUGHT_LEVELS)
