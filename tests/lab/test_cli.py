"""The command line: plans without root, recordings with it, one clear line where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import cli, tools

# pytest's capsys: stdout is for results, stderr for progress and errors.


def test_record_without_root_says_so_and_ends_with_77(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tools.os, "geteuid", lambda: 1000)

    assert cli.main(["record", "-o", str(tmp_path / "x"), "--seed", "1"]) == 77

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("penstock-lab: a lab makes network namespaces, which needs root (running as uid 1000)\n")
    assert not (tmp_path / "x").exists()


def test_a_plan_is_printed_without_root(capsys):
    assert cli.main(["plan", "--seed", "4", "--attacks", "telnet,syn_flood,port_scan"]) == 0

    plan = json.loads(capsys.readouterr().out)
    assert [attack["label"].split("_")[0] for attack in plan["attacks"]] == ["brute", "syn", "port"]


def test_an_attack_nobody_knows_is_named_with_those_there_are(capsys):
    assert cli.main(["plan", "--seed", "4", "--attacks", "tea_party"]) == 64

    assert "no attack named 'tea_party'; there are telnet_hydra, " in capsys.readouterr().err


def test_what_a_file_is_called_steers_no_terminal(capsys, tmp_path):
    assert cli.main(["check", str(tmp_path / "a.pcap"), str(tmp_path / "\x1b[31m\n.json")]) == 65

    said = capsys.readouterr().err
    assert "\\x1b[31m\\n.json" in said
    assert said.count("\n") == 1


def test_no_attacks_can_be_asked_for(capsys):
    assert cli.main(["plan", "--seed", "4", "--attacks", "none"]) == 0

    assert json.loads(capsys.readouterr().out)["attacks"] == []


def test_check_of_a_file_that_is_missing_is_65(capsys, tmp_path):
    assert cli.main(["check", str(tmp_path / "a.pcap"), str(tmp_path / "b.json")]) == 65

    assert "b.json" in capsys.readouterr().err


def test_a_seed_or_the_demo_must_be_asked_for(capsys):
    assert cli.main(["plan"]) == 64

    assert "--seed" in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])

    assert "sudo penstock-lab record --plan train --seed 7 --minutes 15 -o out/seed-7" in capsys.readouterr().out


def test_the_plans_of_the_tree_are_listed(capsys):
    pytest.importorskip("tomllib")

    assert cli.main(["plans"]) == 0

    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == ["demo", "rest", "soak", "train", "unseen", "validate"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plan", "tea"], "no plan named 'tea'; there are demo, rest, soak, train, unseen, validate"),
        (["--plan", "train"], "--plan needs --seed"),
        (["--plan", "train", "--seed", "1", "--count", "3"], "--count: the plan decides that"),
        (["--plan", "train", "--seed", "1", "--minutes", "0"], "--minutes: with --plan, above 0"),
        (["--plan", "demo", "--minutes", "3"], "one plan that lasts what it lasts"),
        (["--seed", "1", "--minutes", "3"], "--minutes: with --plan"),
    ],
)
def test_options_that_cannot_go_together_are_refused(options, said, capsys):
    pytest.importorskip("tomllib")

    assert cli.main(["plan", *options]) == 64

    assert said in capsys.readouterr().err


def test_the_plan_named_demo_is_the_demo(capsys):
    pytest.importorskip("tomllib")
    cli.main(["plan", "--demo"])
    demo = capsys.readouterr().out

    assert cli.main(["plan", "--plan", "demo"]) == 0

    assert capsys.readouterr().out == demo


def test_check_of_a_folder_without_recordings_is_65(capsys, tmp_path):
    assert cli.main(["check", str(tmp_path)]) == 65

    assert "no ground_truth.json in it" in capsys.readouterr().err


def test_check_of_a_folder_says_what_is_in_it(capsys):
    demo = Path(__file__).parents[2] / "lab" / "demo"

    assert cli.main(["check", str(demo)]) == 0

    said = capsys.readouterr().out
    assert "agrees with its ground truth" in said
    assert "syn_flood" in said
    assert "packets" in said


def test_check_as_json_counts_per_label(capsys):
    demo = Path(__file__).parents[2] / "lab" / "demo"

    assert cli.main(["check", str(demo), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert {row["label"] for row in found["labels"]} == {"brute_force", "syn_flood", "port_scan", "benign"}
    assert all(row["packets"] > 0 and row["flows"] > 0 for row in found["labels"])
