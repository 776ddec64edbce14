"""penstock-export: one clear line and a documented code where it cannot, and nothing written."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from contracts.bundle import load_bundle
from contracts.trust import read_public_key
from exporter import cli
from tests.bundles import write_refusal_bundle
from tests.exporter.test_pack import checkpoint
from tests.training.windows import made_up_windows
from training.checkpoint import save_parity_windows

pytestmark = pytest.mark.needs_torch


@pytest.fixture
def saved(tmp_path):
    checkpoint().save(tmp_path / "checkpoint")
    windows = made_up_windows(30)
    save_parity_windows(tmp_path / "checkpoint", windows=windows.values, mask=windows.mask)
    return tmp_path / "checkpoint"


@pytest.fixture
def no_captures(monkeypatch, tmp_path):
    """Take away recordings and shared data, whatever this machine has."""
    monkeypatch.setenv("PENSTOCK_SHARED", str(tmp_path / "no-shared"))
    monkeypatch.setenv("PENSTOCK_LAB", str(tmp_path / "no-lab"))


def said_on_one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("penstock-export: ")
    assert error.count("\n") == 1
    assert "\x1b" not in error
    return error


def test_a_folder_that_is_no_checkpoint_is_one_plain_line(capsys, no_captures):
    assert cli.main(["pack", "/nowhere/\x1b[31m\n", "--release", "1", "--replaces-nothing"]) == 78
    said_on_one_line(capsys)


def test_what_the_gate_refuses_ends_with_1_and_writes_nothing(saved, tmp_path, capsys, no_captures):
    windows = made_up_windows(30)
    costly = {"name": "pruning", "accuracy_before": 0.9, "accuracy_after": 0.8}
    checkpoint(compression=[costly | {"bytes_before": 9, "bytes_after": 3, "windows": 100}]).save(saved)
    save_parity_windows(saved, windows=windows.values, mask=windows.mask)

    code = cli.main(["pack", str(saved), "-o", str(tmp_path / "b"), "--release", "1", "--replaces-nothing"])

    assert code == 1
    assert "gate: pruning costs 10.00 points" in said_on_one_line(capsys)
    assert not (tmp_path / "b").exists()


def test_nothing_to_judge_on_is_no_reason_to_let_a_bundle_replace_another(saved, tmp_path, capsys, no_captures):
    write_refusal_bundle(tmp_path / "old")

    code = cli.main(
        ["pack", str(saved), "-o", str(tmp_path / "b"), "--release", "9", "--replaces", str(tmp_path / "old")]
    )

    assert code == 66
    assert "no benign capture held out" in said_on_one_line(capsys)


def test_a_bundle_signed_with_a_new_key_is_packed_and_passes_again(saved, tmp_path, capsys, no_captures):
    bundle, key = tmp_path / "b", tmp_path / "key"
    assert cli.main(["keygen", str(key)]) == 0
    pack = ["pack", str(saved), "-o", str(bundle), "--release", "1", "--key", str(key), "--replaces-nothing"]

    assert cli.main(pack) == 0
    assert cli.main(["check", str(bundle), "--checkpoint", str(saved), "--replaces-nothing"]) == 0

    public = read_public_key(tmp_path / "key.pub")
    public.verify((bundle / "manifest.sig").read_bytes(), (bundle / "manifest.json").read_bytes())
    said = capsys.readouterr().out
    assert "release 1, signed" in said
    assert "compared with no other bundle: asked for with --replaces-nothing" in said
    assert "the gate lets it pass" in said


def test_no_word_of_this_machine_stands_on_the_card(saved, tmp_path, no_captures):
    cli.main(["pack", str(saved), "-o", str(tmp_path / "b"), "--release", "1", "--replaces-nothing"])

    assert str(tmp_path) not in (tmp_path / "b" / "MODEL_CARD.md").read_text()


def test_a_key_others_may_read_signs_nothing(saved, tmp_path, capsys, no_captures):
    cli.main(["keygen", str(tmp_path / "key")])
    (tmp_path / "key").chmod(0o644)
    capsys.readouterr()

    code = cli.main(["pack", str(saved), "-o", str(tmp_path / "b"), "--release", "1", "--key", str(tmp_path / "key")])

    assert code == 78
    assert "has mode 0644, wanted 0600" in said_on_one_line(capsys)
    assert not (tmp_path / "b").exists()


def test_check_refuses_a_bundle_that_another_checkpoint_would_give(saved, tmp_path, capsys, no_captures):
    cli.main(["pack", str(saved), "-o", str(tmp_path / "b"), "--release", "1", "--replaces-nothing"])
    checkpoint(bias=0.0).save(saved)
    capsys.readouterr()

    code = cli.main(["check", str(tmp_path / "b"), "--checkpoint", str(saved), "--replaces-nothing"])

    assert code == 1
    assert "float graph leaves torch by" in said_on_one_line(capsys)


def test_check_wants_the_float_graph(saved, tmp_path, capsys, no_captures):
    write_refusal_bundle(tmp_path / "old")

    assert cli.main(["check", str(tmp_path / "old"), "--checkpoint", str(saved), "--replaces-nothing"]) == 78
    assert "has no model_float.onnx" in said_on_one_line(capsys)


def test_a_replaced_bundle_of_another_schema_cannot_be_compared_and_is_told(saved, tmp_path, capsys, no_captures):
    old = write_refusal_bundle(tmp_path / "old")
    fields = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps({**fields, "schema_id": "0123456789abcdef"}))

    code = cli.main(["pack", str(saved), "-o", str(tmp_path / "b"), "--release", "1", "--replaces", str(old)])

    assert code == 0
    assert "compared with no other bundle: this build cannot run it" in capsys.readouterr().out
    assert load_bundle(tmp_path / "b").manifest.release == 1


def test_baselines_are_read_as_either_command_writes_them(tmp_path):
    models = {"random forest, seed 1": {"test": {"tpr": 0.5, "fpr": 0.0, "auc": 0.9}}}
    (tmp_path / "compare.json").write_text(json.dumps(models))
    (tmp_path / "networks.json").write_text(json.dumps({"runs": [{}], "models": models}))

    assert cli._read_json(tmp_path / "compare.json") == cli._read_json(tmp_path / "networks.json") == models


@pytest.mark.parametrize("content", ["{", "[]", '{"gru": 1}'])
def test_baselines_that_are_none_are_told(saved, tmp_path, capsys, no_captures, content):
    (tmp_path / "compare.json").write_text(content)
    words = ["--release", "1", "--replaces-nothing", "--baselines", str(tmp_path / "compare.json")]

    assert cli.main(["pack", str(saved), "-o", str(tmp_path / "b"), *words]) == 66
    assert "not what penstock-train compare writes" in said_on_one_line(capsys)
