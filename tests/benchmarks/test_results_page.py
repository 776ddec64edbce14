"""The page to read first says what the results beside it say, and nothing of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import results_page, table_pages
from benchmarks.results_page import PAGES, Results, page
from benchmarks.table_pages import FOLDER
from training.unknown import UnknownSettings

SIDE = {
    "tpr": 0.4375, "fpr": 0.00125, "auc": 0.9, "attacks": 15, "attacks_alerted": 9,
    "false_incidents_per_day": 0.0625, "false_incidents_per_day_upper_bound": 0.25,
    "benign_captures": {"false_incidents_per_day_median": 0.0},
}  # fmt: skip


def mean(value, sd=None):
    return {"mean": value, "sd": sd}


@pytest.fixture
def folder(tmp_path: Path):
    return tmp_path


def write(folder, name, told):
    (folder / f"{name}.json").write_text(json.dumps(told))


def test_what_was_not_measured_is_said_to_be(folder):
    text = page(Results(folder))

    assert text.count("not measured") > 10
    assert "`penstock-train networks` writes networks.json" in text
    assert "NOT MET" not in text


def test_a_papers_figure_stands_beside_ours_with_its_spread_and_the_forests(folder):
    accuracy = {"detection": {"own": {"accuracy": mean(0.9912, 0.0004)}}}
    forest = {"detection": {"own": {"accuracy": mean(0.9955)}}}
    models = {
        "cnn_self_attention": {"summary": accuracy, "runs": [{}, {}]},
        "random forest": {"summary": forest, "runs": [{}]},
    }
    write(folder, "nsl-kdd", {"random": {"models": models, "marks": []}})

    assert "| A | `cnn_self_attention` | 2 | accuracy | 0.985 | 0.9912 ± 0.0004 | 0.9955 |" in page(Results(folder))


def test_classes_left_out_count_where_captures_of_others_hold_them(folder):
    blank = {"attacks": 0, "attacks_alerted": 0, "tpr": None, "false_incidents_per_day": 5.0}
    runs = [
        {"attacks": 3, "attacks_alerted": 2, "tpr": 0.9, "false_incidents_per_day": 0.2},
        {"attacks": 1, "attacks_alerted": 0, "tpr": 0.1, "false_incidents_per_day": 0.4},
    ]
    models = {f"class{n}, seed 1": {"evaluation": each} for n, each in enumerate([blank, *runs])}
    write(folder, "kinds-left-out", {"models": models})
    text = page(Results(folder))

    assert "TPR, mean over classes | 0.8 | 0.500 (2 of 4 alerted) | NOT MET |" in text
    assert "| the same: false incidents a day | at most 1 | 0.30 | met |" in text


@pytest.mark.parametrize(("loud", "verdict"), [(0.001, "met"), (0.6, "NOT MET")])
def test_an_unknown_score_that_calls_benign_windows_strange_finds_nothing(folder, loud, verdict):
    at = {"tpr": {"0.001": {"mean": 0.9}}, "benign": {"0.001": {"mean": loud}}}
    write(folder, "unknown-scores", {"means": {UnknownSettings().kind: {"evaluation": at}}})

    assert f"| 0.8 | 0.900 ({loud:.4f} of benign windows above) | {verdict} |" in page(Results(folder))


def test_models_of_several_seeds_are_one_line_and_the_shipped_bundle_stands_below(folder):
    models = {
        f"gru, seed {seed}": {"test": SIDE, "evaluation": SIDE | {"tpr": tpr}} for seed, tpr in ((1, 0.4), (2, 0.5))
    }
    write(folder, "networks", {"models": models})
    write(folder, results_page.report_name(), {"sides": {side: {"total": SIDE} for side in ("test", "evaluation")}})
    text = page(Results(folder))

    assert "| gru | 2 | 0.4375 | 0.00125 | 0.45 |" in text
    assert "as it ships** | 1 | 0.4375 |" in text
    assert "| shipped bundle, captures of others: TPR over windows | 0.95 | 0.438 | NOT MET |" in text
    assert "| 0.06 (below 0.250) | met |" in text


def test_an_aim_of_false_incidents_is_met_by_its_bound_not_by_its_count(folder):
    loud = SIDE | {"false_incidents_per_day": 0.5, "false_incidents_per_day_upper_bound": 1.5}
    write(folder, results_page.report_name(), {"sides": {side: {"total": loud} for side in ("test", "evaluation")}})

    assert "| 0.50 (below 1.500) | NOT MET |" in page(Results(folder))


def test_what_was_missed_is_told_by_capture_the_most_first(folder):
    sources = {
        "found.pcap": {"windows_attack": 10, "tpr": 1.0, "attacks": 1, "attacks_alerted": 1},
        "few.pcap": {"windows_attack": 10, "tpr": 0.5, "attacks": 1, "attacks_alerted": 1},
        "many.pcap": {"windows_attack": 4000, "tpr": 0.25, "attacks": 1, "attacks_alerted": 0},
        "quiet": {"windows_attack": 0, "tpr": None, "attacks": 0, "attacks_alerted": 0},
    }
    whole = {"test": {"total": SIDE}, "evaluation": {"total": SIDE, "sources": sources}}
    write(folder, results_page.report_name(), {"sides": whole})

    lines = [line for line in page(Results(folder)).splitlines() if ".pcap" in line]
    assert lines == ["| many.pcap | 4,000 | 3,000 | 0 of 1 |", "| few.pcap | 10 | 5 | 1 of 1 |"]


def test_the_command_writes_the_page_where_it_is_told(folder, capsys):
    assert results_page.main(["--folder", str(folder)]) == 0

    assert (folder / "README.md").read_text().startswith("# What was measured")
    assert capsys.readouterr().out == f"{folder / 'README.md'}\n"


def test_the_committed_page_tells_the_committed_figures():
    committed, made = ((FOLDER / "README.md").read_text(), page(Results(FOLDER)))

    assert committed.split("## Pages")[0] == made.split("## Pages")[0]


@pytest.mark.parametrize("name", ["nsl-kdd", "cicids2017"])
def test_the_committed_page_of_a_table_tells_its_committed_figures(name):
    committed = (FOLDER / f"{name}.md").read_text().splitlines()
    made = table_pages.page(json.loads((FOLDER / f"{name}.json").read_text()), name=name, plots={}).splitlines()

    assert [line for line in committed if line and not line.startswith("![")] == [line for line in made if line]


def test_every_page_of_results_is_listed_the_unknown_ones_by_their_heading(folder):
    (folder / "networks.md").write_text("# x")
    (folder / "cats.md").write_text("# How cats sleep\n")
    (folder / "README.md").write_text("# old")

    listed = re.findall(r"- \[([\w-]+\.md)\]\(\1\): (.+)", page(Results(folder)))

    assert listed == [("networks.md", dict(PAGES)["networks.md"]), ("cats.md", "How cats sleep")]
