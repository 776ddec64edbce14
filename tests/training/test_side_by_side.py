"""Models judged through the detector that ships, and the windows of ablations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.classes import HEAD_NAMES, NAMES
from contracts.ground_truth import load
from flowfeatures import CONTEXT_COLUMNS, WINDOW_COLUMNS
from tests.training.test_captures import write_data, write_lab
from tests.training.windows import made_up_windows
from training.captures import CapturesBySide, find_captures
from training.splits import Side, Splits

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from contracts.bundle import default_bundle
from training.ablations import COLUMN_GROUPS, _asked, ablate, changes_of, columns_of, kinds_of
from training.datasets import windows_of
from training.figures.models_table import by_name, table
from training.fit import FitSettings, fit
from training.networks_compared import predictor, saver
from training.other_windows import WindowKind, gather_other
from training.side_by_side import Judge, ModelEngine, thresholds_lent
from training.study_pages import write_ablations_page, write_networks_page
from training.sustaining import UNCHOSEN
from training.thresholds import choose
from training.unknown_compare import Sides

pytestmark = pytest.mark.needs_torch
SCAN = NAMES.index("scan")
NO_DEMO = Path("absent.json")
PORTS = WINDOW_COLUMNS.index("ports_10s")


def ports_tell(windows):
    """Call a window a scan once its device met five ports within ten seconds."""
    newest = windows.values[np.arange(len(windows)), windows.lengths - 1, PORTS]
    found = np.zeros((len(windows), len(HEAD_NAMES)), np.float32)
    found[:, SCAN] = np.where(newest > 5, 0.999, 0.001)
    found[:, 0] = 1 - found[:, SCAN]
    return found


def calls_nothing(windows):
    found = np.zeros((len(windows), len(HEAD_NAMES)), np.float32)
    found[:, 0] = 1.0
    return found


def test_a_model_is_judged_by_its_own_thresholds_through_the_detector(captures):
    judge = Judge(captures, default_bundle(), demo=NO_DEMO)
    seen, blind = judge.figures(ports_tell)["test"], judge.figures(calls_nothing)["test"]

    assert seen["attacks"] == blind["attacks"] == 1
    assert 0.5 < seen["tpr"] <= 1.0
    assert (seen["attacks_alerted"], seen["false_incidents"]) == (1, 0)
    assert (blind["tpr"], blind["attacks_alerted"]) == (0.0, 0)


def test_what_a_model_calls_wrongly_is_a_false_incident(captures):
    def calls_everything(windows):
        return np.flip(calls_nothing(windows), axis=1).copy()

    judge = Judge(captures, default_bundle(), demo=NO_DEMO)
    told = judge.figures(calls_everything)["evaluation"]

    assert told["fpr"] == 1.0
    assert told["false_incidents"] >= 1
    assert told["benign_captures"]["with_false_incidents"] == 1


def test_lasting_suspicion_is_chosen_anew_for_every_model(captures):
    def doubtful(windows):
        found = calls_nothing(windows)
        found[:, [0, SCAN]] = [0.2, 0.8]
        return found

    outcomes = Judge(captures, default_bundle(), demo=NO_DEMO).outcomes(doubtful, sides=["test"])["test"]

    # Nothing chose, so the rule has its least threshold; no window alone is above its own.
    assert any(outcome.detected.any() for outcome in outcomes)
    assert default_bundle().manifest.sustained != UNCHOSEN


def test_variants_judge_nothing(captures):
    truth = captures.sides["test"][0]
    varied = CapturesBySide(sides={side: list(each) for side, each in captures.sides.items()})
    varied.sides["test"].append(replace(truth, name=f"{truth.name}~pace-0.3"))
    figures = [Judge(each, default_bundle(), demo=NO_DEMO).figures(ports_tell)["test"] for each in (captures, varied)]

    assert figures[0]["windows_attack"] == figures[1]["windows_attack"] > 0


def test_thresholds_are_lent_and_the_shipped_bundle_stays_as_it_was():
    shipped = default_bundle()
    before = shipped.manifest.thresholds["scan"]
    lent = thresholds_lent(shipped, choose({"real": calls_nothing(made_up_windows(20))}))

    assert lent.manifest.sustained is None
    assert lent.manifest.thresholds["scan"].open == pytest.approx(0.6)
    assert set(lent.manifest.thresholds) == set(HEAD_NAMES) - {"benign"}
    assert shipped.manifest.thresholds["scan"] == before


def test_an_engine_asks_its_model_for_windows_of_as_many_rows_as_the_mask_has():
    asked = []

    def listening(windows):
        asked.append(windows.lengths.tolist())
        return calls_nothing(windows)

    mask = np.zeros((2, 16), np.float32)
    mask[0, :3] = 1
    mask[1, :16] = 1
    scores = ModelEngine(listening).score(np.zeros((2, 16, len(WINDOW_COLUMNS)), np.float32), mask)

    assert asked == [[3, 16]]
    assert scores.attention.sum(axis=1) == pytest.approx([1.0, 1.0])


def test_a_table_has_one_line_per_model_and_the_spread_of_its_seeds(captures):
    judge = Judge(captures, default_bundle(), demo=NO_DEMO)
    figures = judge.figures(ports_tell)
    lines = table(by_name({"a, seed 1": figures, "a, seed 2": figures, "b, seed 1": figures}), what="model")

    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a", "| b"]
    assert len({line.count("|") for line in lines}) == 1
    assert "± 0" in lines[2]
    assert "±" not in lines[3]


def test_every_context_column_is_hidden_by_some_ablation_and_the_first_line_hides_none():
    hidden = {name for prefixes in COLUMN_GROUPS.values() for name in columns_of(prefixes)}
    first = next(changes_of("columns", FitSettings()))

    assert hidden == set(CONTEXT_COLUMNS)
    assert first[1] == FitSettings()


def test_every_context_column_is_hidden_alone_in_one_line():
    lines = [*changes_of("columns", FitSettings()), *changes_of("each", FitSettings())]
    always = FitSettings().hidden_columns
    alone = {name.removeprefix("without "): each.hidden_columns for name, each in lines}

    assert {name: alone[name] for name in CONTEXT_COLUMNS} == {name: (*always, name) for name in CONTEXT_COLUMNS}
    assert len(alone) == len(lines)


def test_the_page_tells_single_columns_of_both_parts_in_the_windows_order(captures, tmp_path):
    figures = Judge(captures, default_bundle(), demo=NO_DEMO).figures(ports_tell)
    models = {
        "all columns, seed 1": {"part": "columns"} | figures,
        "all columns, seed 2": {"part": "columns"} | figures,
        "without repeats, seed 1": {"part": "columns"} | figures,
        "without ports, seed 1": {"part": "columns"} | figures,
        "without peers_10s, seed 1": {"part": "each"} | figures,
        "without is_tcp, seed 1": {"part": "each"} | figures,
    }

    write_ablations_page(tmp_path / "a.json", {"runs": [], "models": models})

    page = (tmp_path / "a.md").read_text().split("## Context columns, one by one")[1]
    told = [line.removeprefix("| ").split(" | ")[:2] for line in page.splitlines() if " | " in line][1:]
    names = ["all columns", "without is_tcp", "without repeats", "without peers_10s"]
    assert told == [[name, "1"] for name in names]


def test_a_network_without_attention_differs_from_its_own_with_it_in_nothing_else():
    pairs = dict(changes_of("attention", FitSettings()))
    with_it, without = pairs["cnn_self_attention"], pairs["cnn_self_attention without attention"]

    assert (with_it.network, dict(with_it.sizes)) == (without.network, {})
    assert dict(without.sizes) == {"attention": False}


def test_lines_are_asked_for_by_name_and_all_are_there_without():
    every = list(kinds_of("partials"))

    assert _asked(every, []) == every
    assert [name for name, _ in _asked(kinds_of("windows"), ["32 records", "8 records"])] == ["8 records", "32 records"]


@pytest.mark.parametrize("window", [8, 16, 32])
def test_windows_of_another_length_hold_as_many_records(tmp_path, window):
    write_lab(tmp_path, 1, ports=range(1, 60))
    truths = load(tmp_path / "seed-1" / "ground_truth.json")
    found = gather_other(truths, WindowKind(window=window), few=300, title="windows")

    assert found.values.shape[1] == window
    assert found.lengths.max() == window
    assert set(found.label.tolist()) == {SCAN}


def test_windows_of_the_usual_kind_are_those_that_teaching_caches(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 30))
    truths = load(tmp_path / "seed-1" / "ground_truth.json")
    usual = windows_of(truths[0], cache_folder=tmp_path / "cache")
    found = gather_other(truths, WindowKind(), few=300, title="windows")

    assert np.array_equal(found.values, usual.values)
    assert np.array_equal(found.label, usual.label)
    assert found.groups == (str(truths[0].path),)


def test_without_unfinished_flows_there_are_fewer_windows(tmp_path):
    write_lab(tmp_path, 1, ports=range(1, 30))
    truths = load(tmp_path / "seed-1" / "ground_truth.json")
    with_them, without = (
        gather_other(truths, WindowKind(partials=partials), few=300, title="windows") for partials in (True, False)
    )
    partial = WINDOW_COLUMNS.index("is_partial")

    assert with_them.values[:, :, partial].any()
    assert not without.values[:, :, partial].any()
    assert 0 < len(without) < len(with_them)


def test_sets_of_several_captures_keep_their_windows_apart(tmp_path):
    for seed in (1, 2):
        write_lab(tmp_path, seed, ports=range(seed, seed + 9))
    truths = [load(tmp_path / f"seed-{seed}" / "ground_truth.json")[0] for seed in (1, 2)]
    found = gather_other(truths, WindowKind(), few=300, title="windows")

    assert len(found.groups) == 2
    assert sorted(set(found.group.tolist())) == [0, 1]


@pytest.mark.parametrize("page", [write_networks_page, write_ablations_page])
def test_a_study_keeps_what_it_holds_when_told_to_add_and_its_page_shows_all(captures, tmp_path, page):
    judge = Judge(captures, default_bundle(), demo=NO_DEMO)
    figures = {"part": "columns"} | judge.figures(ports_tell)
    run = {"command": "penstock-train study", "commit": "0" * 40, "seeds": [1]}
    path = tmp_path / "study.json"
    saver(path, run, add=False, page=page)({"first, seed 1": figures})
    saver(path, run, add=True, page=page)({"second, seed 1": figures})

    assert list(json.loads(path.read_text())["models"]) == ["first, seed 1", "second, seed 1"]
    text = path.with_suffix(".md").read_text()
    assert "| first |" in text
    assert "| second |" in text
    assert text.count("penstock-train study") == 2


def test_a_fitted_network_passes_through_the_whole_study(tmp_path):
    splits = Splits(
        sides={"train": Side(lab=(1,)), "validation": Side(lab=(2,)), "test": Side(lab=(3,))},
        vendors={},
        terms={"lab": "MIT"},
    )
    for seed in (2, 3):
        write_lab(tmp_path / "lab", seed, ports=range(seed, seed + 30))
    write_data(tmp_path, "scans/a.pcap", ports=[80])
    captures = find_captures(splits, shared=tmp_path, lab=tmp_path / "lab")
    settings = FitSettings(epochs=1, steps=8, batch=16)
    fitted = fit(made_up_windows(60), made_up_windows(20), settings)
    told = Judge(captures, default_bundle(), demo=NO_DEMO).figures(predictor(fitted))["test"]

    assert told["windows_attack"] > 0
    assert told["tpr"] is not None


@pytest.mark.parametrize("network", ["dnn", "cnn_self_attention without attention"])
def test_a_line_of_the_attention_part_is_taught_and_judged(captures, network):
    sides = Sides(made_up_windows(60), made_up_windows(20), {}, {})
    judge = Judge(captures, default_bundle(), demo=NO_DEMO)
    saved = []
    ablate(
        "attention",
        sides,
        judge,
        FitSettings(epochs=1, steps=4, batch=16),
        seeds=[3],
        save=saved.append,
        only=[network],
    )

    assert [list(told) for told in saved] == [[f"{network}, seed 3"]]
    assert saved[0][f"{network}, seed 3"]["part"] == "attention"
    assert saved[0][f"{network}, seed 3"]["test"]["attacks"] == 1
