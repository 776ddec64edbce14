"""The programs over published tables, from the command line to the page."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cicids2017, nsl_kdd, table_ablations, table_pages, tables
from tests.training.tables.rows import nsl_line

pytestmark = pytest.mark.needs_torch
for package in ("torch", "sklearn", "matplotlib"):
    pytest.importorskip(package)

KINDS = {"normal": 0, "neptune": 400, "satan": 900}


def written(path: Path, *, seed: int, kinds: dict[str, int] | None = None) -> Path:
    rng = np.random.default_rng(seed)
    lines = [
        nsl_line(kind=kind, src_bytes=level + int(rng.integers(0, 150)), count=int(rng.integers(1, 500)))
        for kind, level in (kinds or KINDS).items()
        for _ in range(150)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert nsl_kdd.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_papers_protocol_reports_a_learner_beside_a_forest(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train = written(tmp_path / "train.txt", seed=0)

    result = ran(capsys, "--train", str(train), "--model", "naive bayes", "--seeds", "2")

    assert result["protocol"] == "random"
    assert list(result["models"]) == ["naive bayes", "random forest"]
    assert result["models"]["random forest"]["summary"]["detection"]["own"]["accuracy"]["seeds"] == 2
    assert result["models"]["random forest"]["summary"]["detection"]["own"]["auc"]["mean"] > 0.99
    assert sum(sum(side.values()) for side in result["rows"].values()) + result["cleaned"]["duplicate rows"] == 450


def test_a_test_file_judges_alone_and_its_unknown_kinds_stand_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train = written(tmp_path / "train.txt", seed=0)
    test = written(tmp_path / "test.txt", seed=1, kinds={"normal": 0, "neptune": 400, "mscan": 1500})

    result = ran(capsys, "--train", str(train), "--test", str(test), "--model", "decision tree", "--seeds", "1")

    run = result["models"]["decision tree"]["runs"][0]
    assert list(run["unknown"]["kinds"]) == ["mscan"]
    assert "mscan" not in result["rows"]["train"]
    assert sum(result["rows"]["test"].values()) == run["detection"]["own"]["benign"] + run["detection"]["own"]["attack"]


def test_a_model_beaten_by_the_forest_says_so():
    low, high = ({"detection": {"own": {"accuracy": {"mean": value}}}} for value in (0.8, 0.9))

    assert tables.beaten(low, high) == ["accuracy"]
    assert tables.beaten(high, low) == []


def test_the_training_file_as_test_file_ends_with_the_code_of_a_leaking_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train = str(written(tmp_path / "train.txt", seed=0))

    code = nsl_kdd.main(["--train", train, "--test", train, "--model", "naive bayes"])

    assert code == 78
    assert "100% of the test file's rows stand in the training file" in capsys.readouterr().err


@pytest.mark.parametrize("program", [nsl_kdd, cicids2017])
def test_help_shows_examples_and_every_model(
    program, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "2000")  # argparse breaks lines at any hyphen

    with pytest.raises(SystemExit):
        program.main(["--help"])

    told = " ".join(capsys.readouterr().out.split())
    assert "examples:" in told
    assert [name for name in tables.MODELS if name not in told] == []


def test_a_wrong_line_ends_with_its_place_and_the_code_of_wrong_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train = tmp_path / "train.txt"
    train.write_text(nsl_line(src_bytes="x") + "\n")

    code = nsl_kdd.main(["--train", str(train)])

    assert code == 65
    assert "train.txt:1: column 'src_bytes': saw 'x', want a number" in capsys.readouterr().err


def test_kept_results_of_two_commands_meet_on_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train = str(written(tmp_path / "train.txt", seed=0))
    first, second = (ran(capsys, "--train", train, "--model", name, "--seeds", "1") for name in ("knn", "naive bayes"))

    for result in (first, second):
        table_pages.keep(result, name="nsl-kdd", marks=nsl_kdd.MARKS, folder=tmp_path / "results")

    page = (tmp_path / "results" / "nsl-kdd.md").read_text()
    kept = json.loads((tmp_path / "results" / "nsl-kdd.json").read_text())
    assert list(kept["random"]["models"]) == ["knn", "random forest", "naive bayes"]
    assert "| knn | baseline | 1 |" in page
    assert "| naive bayes | baseline | 1 |" in page
    assert (tmp_path / "results" / "nsl-kdd-random-confusion.png").stat().st_size > 1000


def test_the_papers_ablations_stand_under_their_networks_with_what_the_paper_says():
    figure = {"mean": 0.97, "sd": 0.001}
    model = {"runs": [{}, {}], "summary": {"detection": {"own": {"accuracy": figure}}, "classes": {"accuracy": figure}}}
    section = {"models": {"dnn": model, "cnn_lstm_attention": model, "gru": model}}

    told = table_ablations.ablations(section, cell=table_pages._mean_sd)

    assert [line.split(" | ")[:5] for line in told if line.startswith("| B")] == [
        ["| B", "whole", "cnn_lstm_attention", "2", "accuracy 0.875"],
        ["| B", "DNN only", "dnn", "2", "accuracy about 0.82 to 0.86"],
    ]
    assert "0.9700 ± 0.0010" in told[-2]
    del section["models"]["dnn"]
    assert table_ablations.ablations(section, cell=table_pages._mean_sd) == []


def test_what_is_kept_is_what_pages_and_plots_show_and_the_same_when_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train, folder = str(written(tmp_path / "train.txt", seed=0)), tmp_path / "results"
    result = ran(capsys, "--train", train, "--model", "naive bayes", "--seeds", "1")
    table_pages.keep(result, name="nsl-kdd", marks=nsl_kdd.MARKS, folder=folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    kept = json.loads(before["nsl-kdd.json"])
    table_pages.write(kept, name="nsl-kdd", folder=folder)

    judged, scores = (tree["models"]["naive bayes"]["runs"][0]["detection"] for tree in (result, kept["random"]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [score for score in scores if "roc" in scores[score]] == ["own", "with_density"]
    assert scores["own"]["roc"] == judged["own"]["roc"]
    assert scores["novelty"]["confusion"] == judged["novelty"]["confusion"]
    assert scores["own"]["auc"] == pytest.approx(judged["own"]["auc"], rel=1e-8)


def test_the_forest_over_the_most_seeds_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train = str(written(tmp_path / "train.txt", seed=0))
    folder = tmp_path / "results"

    stood = []
    for seeds in ("1", "2", "1"):
        result = ran(capsys, "--train", train, "--model", "naive bayes", "--seeds", seeds)
        table_pages.keep(result, name="nsl-kdd", marks=nsl_kdd.MARKS, folder=folder)
        kept = json.loads((folder / "nsl-kdd.json").read_text())
        stood.append(len(kept["random"]["models"]["random forest"]["runs"]))

    assert stood == [1, 2, 2]


def test_the_command_of_a_result_runs_as_it_stands_and_names_no_folder_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    train = str(written(tmp_path / "train.txt", seed=0))
    options = ["--train", train, "--model", "naive bayes", "random forest", "--seeds", "1"]
    monkeypatch.setattr("sys.argv", ["nsl_kdd.py", *options])

    words = shlex.split(ran(capsys, *options)["command"])

    assert words[:3] == ["python", "-m", "benchmarks.nsl_kdd"]
    assert words[3:] == ["--train", "train.txt", *options[2:]]


def test_the_commands_on_the_pages_name_models_that_there_are():
    folder = Path(__file__).resolve().parents[2] / "docs" / "results"
    for name in ("nsl-kdd", "cicids2017"):
        lines = [each for each in (folder / f"{name}.md").read_text().splitlines() if " --model " in each]
        named = [itertools.takewhile(_is_value, shlex.split(each.partition(" --model ")[2])) for each in lines]

        assert lines
        assert {model for models in named for model in models} <= set(tables.MODELS)


def _is_value(word: str) -> bool:
    return not word.startswith("--")


@pytest.mark.parametrize("kinds", [{"normal": 0}, {"neptune": 400}])
def test_a_test_file_of_one_class_has_the_figures_that_can_be_had_in_strict_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kinds: dict[str, int]
):
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    train = written(tmp_path / "train.txt", seed=0)
    test = written(tmp_path / "test.txt", seed=1, kinds=kinds)

    files = ("--train", str(train), "--test", str(test))
    assert nsl_kdd.main([*files, "--model", "decision_tree", "--seeds", "1", "--json"]) == 0

    result = json.loads(capsys.readouterr().out, parse_constant=refuse)
    for figures in (each["figures"] for each in result["models"].values()):
        assert figures["accuracy"] > 0.9
        assert {"accuracy", "F1", "AUC", "TPR at FPR 1 %"} <= set(figures)
        assert figures["AUC"] is figures["TPR at FPR 1 %"] is None


def test_the_order_of_a_test_files_rows_changes_no_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train = written(tmp_path / "train.txt", seed=0)
    test = written(tmp_path / "test.txt", seed=1)
    options = ("--train", str(train), "--test", str(test), "--model", "decision tree", "--seeds", "1")

    told = ran(capsys, *options)
    test.write_text("".join(reversed(test.read_text().splitlines(keepends=True))))
    again = ran(capsys, *options)

    assert {name: each["figures"] for name, each in told["models"].items()} == {
        name: each["figures"] for name, each in again["models"].items()
    }
