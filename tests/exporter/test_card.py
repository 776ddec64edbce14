"""The card says what was measured, what was not, and who does better."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from contracts.bundle import Bundle, default_bundle
from exporter.card import CardInputs, _baselines, _figures, better_baselines, card
from exporter.gate import Benign, Step
from tests.detection.windows import make_manifest

STEP = Step(
    name="int8 storage", accuracy_before=0.95, accuracy_after=0.949, bytes_before=142_193, bytes_after=42_065,
    windows=4000,
)  # fmt: skip
FIGURES = {
    "windows_attack": 50, "tpr": 0.25, "fpr": 0.001, "fpr_upper_bound": 0.004, "false_incidents": 2, "days": 28.5,
    "false_incidents_per_day_upper_bound": 0.22,
}  # fmt: skip


def told(**changes) -> CardInputs:
    return CardInputs(**{"manifest": make_manifest(), "steps": [STEP], "torch_difference": 1e-6, **changes})


def compared(*, forest: float, seeds: tuple[float, ...] = (0.90, 0.92)) -> dict:
    name = make_manifest().name
    sides = {f"{name}, seed {n}": auc for n, auc in enumerate(seeds, 1)} | {"random forest (200 trees)": forest}
    return {
        model: {side: {"tpr": 0.5, "fpr": 0.0, "auc": auc} for side in ("test", "evaluation")}
        for model, auc in sides.items()
    }


RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def result(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


def shipped() -> tuple[Bundle, str]:
    bundle = default_bundle()
    return bundle, (bundle.path / "MODEL_CARD.md").read_text()


def test_whole_captures_on_the_shipped_card_are_those_of_the_committed_report():
    bundle, text = shipped()
    report = result(f"{bundle.manifest.name}-release-{bundle.manifest.release}-report.json")
    sides = {side: report["sides"][side] for side in ("test", "evaluation")}

    lines = list(_figures(told(manifest=bundle.manifest, held_out=sides)))

    assert report["bundle"]["manifest_sha256"] == bundle.manifest_sha256
    assert [line for line in lines if line not in text.splitlines()] == []
    assert sum(line.startswith("| evaluation |") for line in lines) > 20


def test_baselines_and_compression_on_the_shipped_card_are_those_of_committed_files():
    bundle, text = shipped()
    int8 = bundle.manifest.figures["int8_storage"].values

    lines = list(_baselines(told(manifest=bundle.manifest, baselines=result("networks.json")["models"])))
    _, _, behind = text.partition(f"{lines[0]}\n")
    section, _, _ = behind.partition("\n## ")

    assert [line for line in section.splitlines() if line not in lines] == []  # the file may have got more seeds since
    assert section.count("\n| ") > 20
    assert f"| {int8['bytes_before']:,} to {int8['bytes_after']:,} | {int8['accuracy_before']:.4f} to" in text
    assert f"largest difference of any output {int8['torch_to_float_graph_largest']:.1e}." in text


def test_benign_captures_on_the_shipped_card_follow_from_the_committed_report():
    bundle, text = shipped()
    report = result(f"{bundle.manifest.name}-release-{bundle.manifest.release}-report.json")
    quiet = [each for each in report["sides"]["evaluation"]["sources"].values() if not each["windows_attack"]]
    windows = sum(each["windows_benign"] for each in quiet)
    above = sum(round((each["fpr"] or 0) * each["windows_benign"]) for each in quiet)

    (line,) = [each for each in text.splitlines() if each.startswith("| evaluation | this one |")]

    assert f"| {sum(each['false_incidents'] for each in quiet)} in 28.7 days" in line
    assert f"{above / windows:.2g} " in line
    assert line.endswith(f"of {windows} windows |")


def test_a_forest_that_is_better_than_every_seed_is_called_better():
    text = card(told(baselines=compared(forest=0.957)))

    assert "**random forest (200 trees) does better there**: on evaluation its AUC is 0.9570" in text
    assert f"that of the best `{make_manifest().name}` taught as briefly 0.9200." in text
    assert "No baseline has a higher AUC" not in text


def test_a_forest_below_the_best_seed_is_not():
    inputs = told(baselines=compared(forest=0.91))

    assert better_baselines(inputs) == []
    assert "No baseline has a higher AUC than the best seed" in card(inputs)
    assert "random forest (200 trees) | 0.5 / 0 / 0.91" in card(inputs)


def test_ablations_of_the_network_are_no_baselines():
    name = make_manifest().name
    ablation = {f"{name} without repeats, seed 1": {"test": {"tpr": 0.9, "fpr": 0.0, "auc": 0.99}}}

    assert better_baselines(told(baselines=compared(forest=0.5) | ablation)) == []


def test_without_the_network_in_the_comparison_nobody_is_declared_better():
    text = card(told(baselines=compared(forest=0.957, seeds=())))

    assert "was not fitted in that comparison, so who is better is open" in text


def test_what_was_not_measured_says_so():
    text = card(told(replaced="asked for with --replaces-nothing"))

    assert "Not measured: no baseline was fitted beside this network" in text
    assert "Captures held out: not measured" in text
    assert "Nothing replaced, nothing compared: asked for with --replaces-nothing" in text


def test_every_step_stands_with_what_it_cost():
    pruning = Step(
        name="pruning", accuracy_before=0.96, accuracy_after=0.9585, bytes_before=142_193, bytes_after=60_000,
        windows=16_282,
    )  # fmt: skip
    text = card(told(steps=[pruning, STEP]))

    assert "| pruning | 142,193 to 60,000 | 0.9600 to 0.9585 | 0.15 | 16,282 |" in text
    assert "| int8 storage | 142,193 to 42,065 | 0.9500 to 0.9490 | 0.10 | 4,000 |" in text


def test_weak_spots_of_the_held_out_captures_are_limits():
    side = {"sources": {"mqttset": FIGURES}, "total": FIGURES}
    limits = card(told(held_out={"evaluation": side})).partition("## Limits")[2]

    assert "- evaluation, mqttset: TPR 0.25 of 50 attack windows." in limits
    assert "- evaluation, mqttset: 2 false incidents in 28.5 days." in limits


@pytest.mark.parametrize(("days", "said"), [(28.5, "| 28.5 | 0.22 |"), (0.01, "| 0.01 | - |")])
def test_minutes_of_capture_bound_no_rate_by_the_day(days, said):
    figures = FIGURES | {"days": days}

    assert said in card(told(held_out={"test": {"sources": {"lab": figures}, "total": figures}}))


def test_the_replaced_bundle_stands_beside():
    new, old = (
        Benign(windows=3000, false_windows=0, false_incidents=n, days=30.0, fpr_bound=0.001, per_day_bound=0.1)
        for n in (0, 4)
    )
    text = card(told(benign={"test": new}, replaced_benign={"test": old}, replaced="`gru`, release 2"))

    assert "| test | this one | 0 in 30 days" in text
    assert "| test | the replaced one | 4 in 30 days" in text


def test_a_name_cannot_leave_its_cell():
    side = {"sources": {"a | b\n# c": FIGURES}, "total": FIGURES}

    assert "| test | a / b # c |" in card(told(held_out={"test": side}))
