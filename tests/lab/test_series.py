"""The list of recordings is read as it stands, and what is recorded is not recorded again."""

from __future__ import annotations

import pytest

from contracts.errors import UsageError
from lab import cli, series, tools
from lab.demo_plan import DEMO_SEED


def test_the_committed_list_can_be_drawn_and_leaves_the_demo_out():
    listed = series.read_series(series.DEFAULT_LIST)

    assert DEMO_SEED not in listed
    assert len(listed) >= 50
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
