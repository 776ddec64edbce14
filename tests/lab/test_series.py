"""The list of recordings is read as it stands, and what is recorded is not recorded again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from contracts.errors import UsageError
from lab import cli, series, tools
from lab.demo_plan import DEMO_SEED


def test_the_committed_list_can_be_drawn_and_leaves_the_demo_out():
    listed = series.read_series(series.DEFAULT_LIST)

    assert DEMO_SEED not in listed
    assert len(listed) >= 15
    for seed, options in listed.items():
        arguments = cli._parser().parse_args(["plan", "--seed", str(seed), *options])
        assert cli._draw(arguments).seed == seed


def test_a_seed_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "list").write_text("# title\n1 --count 2\n\n1\n")

    with pytest.raises(UsageError, match=r"list:4: '1' is no seed, or stands there twice"):
        series.read_series(tmp_path / "list")


def test_only_a_whole_recording_counts(tmp_path):
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "ground_truth.json").touch()
    (tmp_path / "seed-2").mkdir()
    (tmp_path / "seed-2" / "capture.pcap").touch()

    assert series.still_missing({1: [], 2: [], 3: []}, tmp_path) == [2, 3]


def test_seeds_that_are_not_on_the_list_are_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tools, "require_all", lambda: None)

    assert cli.main(["series", "-o", str(tmp_path), "--seeds", f"{DEMO_SEED}"]) == 64

    assert "expected seeds that stand on the list" in capsys.readouterr().err


def test_with_everything_recorded_there_is_nothing_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tools, "require_all", lambda: None)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "ground_truth.json").touch()

    assert cli.main(["series", "-o", str(tmp_path), "--seeds", "1"]) == 0

    assert "1 recordings, 0 of them new" in capsys.readouterr().out


def test_the_committed_list_is_recorded_in_little_more_than_an_hour_two_at_a_time():
    overhead_s = 30.0  # building, settling, writing and checking
    lasting_s = []
    for seed, options in series.read_series(series.DEFAULT_LIST).items():
        arguments = cli._parser().parse_args(["plan", "--seed", str(seed), *options])
        lasting_s.append(cli._draw(arguments).duration_s + overhead_s)

    assert sum(lasting_s) / 2 + max(lasting_s) / 2 <= 3900  # the last one may run alone


def test_each_seed_of_the_list_stands_on_the_side_its_plan_is_meant_for():
    pytest.importorskip("tomllib")
    from training.splits import load_splits

    splits = load_splits()
    meant = {"train": "train", "rest": "train", "soak": "train", "validate": "validation", "unseen": "test"}

    for seed, options in series.read_series(series.DEFAULT_LIST).items():
        assert splits.side_of_seed(seed) == meant[options[options.index("--plan") + 1]]


def run_all(tmp_path, script, *, seeds=(1, 2, 3), at_once=2, monkeypatch):
    """Run `record_all` with a program of ours in place of the lab; it gets the seed and the folder."""
    program = tmp_path / "program.py"
    program.write_text(script)

    def start(arguments):
        return subprocess.Popen([sys.executable, str(program), *arguments, str(tmp_path)])

    monkeypatch.setattr(series, "_start", start)
    said = []
    return series.record_all({seed: [str(seed)] for seed in seeds}, at_once=at_once, say=said.append), said


def test_a_recording_that_failed_is_tried_once_more(tmp_path, monkeypatch):
    script = """
import pathlib, sys
mark = pathlib.Path(sys.argv[2], f"tried-{sys.argv[1]}")
first = not mark.exists()
mark.touch()
sys.exit(71 if first and sys.argv[1] == "2" else 0)
"""

    code, said = run_all(tmp_path, script, monkeypatch=monkeypatch)

    assert code == 0
    assert sorted(path.name for path in tmp_path.glob("tried-*")) == ["tried-1", "tried-2", "tried-3"]
    assert len(said) == 4


def test_a_recording_that_fails_twice_is_told(tmp_path, monkeypatch):
    code, _ = run_all(tmp_path, "import sys; sys.exit(71 if sys.argv[1] == '2' else 0)", monkeypatch=monkeypatch)

    assert code == 71


def test_no_more_labs_than_asked_for_run_at_once(tmp_path, monkeypatch):
    script = """
import pathlib, sys, time
here = pathlib.Path(sys.argv[2], f"runs-{sys.argv[1]}")
here.touch()
time.sleep(0.3)
count = len(list(here.parent.glob("runs-*")))
here.unlink()
sys.exit(count > 2)
"""

    code, _ = run_all(tmp_path, script, seeds=range(5), monkeypatch=monkeypatch)

    assert code == 0
