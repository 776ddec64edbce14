"""Checkpoint to bundle: what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import json

import torch

from contracts import pinned
from contracts.bundle import load_bundle
from contracts.classes import HEAD_NAMES
from contracts.errors import OutputError
from contracts.ground_truth import load
from detection.onnx_engine import OnnxEngine
from exporter import cli, pack
from exporter.sign import load_key, make_key
from flowfeatures import SCHEMA_ID, WINDOW_COLUMNS
from tests.bundles import write_refusal_bundle
from tests.training.test_captures import write_capture
from tests.training.windows import WINDOW, made_up_windows
from training.captures import CapturesBySide, LabelledCapture
from training.checkpoint import Checkpoint, save_parity_windows
from training.errors import CheckpointError, GateRefused
from training.networks import GruNetwork, build

pytestmark = pytest.mark.needs_torch


def checkpoint(*, bias=2.0, **facts):
    torch.manual_seed(1)
    network = GruNetwork(features=len(WINDOW_COLUMNS), classes=len(HEAD_NAMES))
    with torch.no_grad():
        network.head.bias[3] = bias  # an untrained network is in two minds, which int8 storage would sway
    return Checkpoint(
        network.arrays(),
        {
            "schema_id": SCHEMA_ID,
            "seed": 1,
            "benign_medians": [0.0] * len(WINDOW_COLUMNS),
            "thresholds": {name: {"open": 0.8, "severe": 0.9} for name in HEAD_NAMES[1:]},
            "interval": {"lo": 0.7, "hi": 0.99},
            "data": [{"name": "lab", "terms": "MIT", "captures": 1, "windows": 2}],
            "figures": {"test": {"split": "by capture", "values": {"tpr": None, "fpr": 0.0, "windows_benign": 3}}},
            "training_commit": "0" * 40,
            "created": "2026-01-02",
            **facts,
        },
    )


def packed_into(folder, *, made=None, **release):
    windows = made_up_windows(50)
    validation = pack.Validation(windows=windows.values, mask=windows.mask)
    return pack.pack(
        made or checkpoint(), folder, release=pack.Release(**{"number": 4, **release}), validation=validation
    )


def one_benign_capture(folder, *, attack="benign"):
    """Return captures that hold one on the side `test`, in which nobody attacks unless told otherwise."""
    write_capture(folder / "quiet.pcap", ports=range(40000, 40020))
    truth = folder / "ground_truth.json"
    truth.write_text(json.dumps([{"file": "quiet.pcap", "attack": attack, "class": "x"}]))
    captures = CapturesBySide()
    captures.sides["test"] = [LabelledCapture("lab/quiet.pcap", "lab", "test", each) for each in load(truth)]
    return captures


def test_what_is_packed_is_a_bundle_that_an_engine_runs(tmp_path):
    packed = packed_into(tmp_path)
    bundle = load_bundle(tmp_path)
    windows = made_up_windows(8)
    scores = OnnxEngine(bundle).score(windows.values, windows.mask)

    assert bundle.manifest_sha256 == packed.manifest_sha256
    assert (bundle.manifest.release, bundle.manifest.window, bundle.manifest.unknown_score) == (4, WINDOW, "constant")
    assert bundle.manifest.attention == "uniform"
    assert np.allclose(scores.probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_the_benign_scores_of_a_checkpoint_go_into_the_manifest(tmp_path):
    told = {"windows": 900, "shares": [0.1, 0.0], "quantiles": {name: [0.2, 0.7] for name in HEAD_NAMES[1:]}}

    packed_into(tmp_path / "bundle", made=checkpoint(benign_scores=told))

    assert load_bundle(tmp_path / "bundle").manifest.benign_scores.model_dump() == told


def test_the_same_checkpoint_packs_to_the_same_bytes(tmp_path):
    one, other = packed_into(tmp_path / "one"), packed_into(tmp_path / "other")

    assert one.manifest_sha256 == other.manifest_sha256


def test_a_checkpoint_of_another_schema_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(CheckpointError, match="schema deadbeef"):
        packed_into(tmp_path / "bundle", made=checkpoint(schema_id="deadbeef"))

    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"thresholds": {}}, "thresholds must name"),
        ({"seed": "one"}, "not those of a network"),
        ({"created": "yesterday"}, "not those of a network"),
        ({"data": [{"name": "lab"}]}, "terms"),
        ({"interval": None}, "not those of a network"),
        ({"compression": [{"name": "pruning"}]}, "compression steps cannot be read"),
    ],
)
def test_facts_that_make_no_manifest_are_told_on_one_line(tmp_path, facts, complaint):
    with pytest.raises(CheckpointError, match=complaint) as caught:
        packed_into(tmp_path / "bundle", made=checkpoint(**facts))

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_a_fact_that_lacks_is_named(tmp_path):
    made = checkpoint()
    del made.facts["benign_medians"]

    with pytest.raises(CheckpointError, match="its facts lack 'benign_medians'"):
        packed_into(tmp_path, made=made)


def test_nothing_is_replaced_without_a_comparison(tmp_path):
    old = load_bundle(write_refusal_bundle(tmp_path / "old"))

    with pytest.raises(ValueError, match="only after both were run over the same captures"):
        pack.Release(number=9, replaces=old)


@pytest.mark.parametrize("name", ["conv_bilstm_small", "cnn_lstm_attention"])
def test_networks_with_attention_are_packed_under_their_name(tmp_path, name):
    torch.manual_seed(1)
    network = build(name, layout="windows", features=len(WINDOW_COLUMNS), classes=len(HEAD_NAMES)).eval()
    with torch.no_grad():
        network.head.bias[3] = 2.0
    made = Checkpoint(network.arrays(), checkpoint().facts | {"network": network.facts()})

    packed = packed_into(tmp_path, made=made)

    bundle = load_bundle(tmp_path)
    assert (bundle.manifest.name, bundle.manifest.attention) == (name, "learnt")
    assert packed.measured.float_parity.largest < 1e-4
    windows = made_up_windows(8)
    assert OnnxEngine(bundle).score(windows.values, windows.mask).attention.shape == (8, WINDOW)


def test_a_bundle_holds_both_graphs_a_card_and_nothing_else(tmp_path):
    packed_into(tmp_path / "bundle")
    names = {each.name for each in (tmp_path / "bundle").iterdir()}

    assert names == {"model.onnx", "model_float.onnx", "manifest.json", "MODEL_CARD.md"}
    assert set(load_bundle(tmp_path / "bundle").manifest.files) == names - {"manifest.json"}
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_a_signed_bundle_is_trusted_by_the_public_half_of_its_key(tmp_path):
    make_key(tmp_path / "key")
    trust = tmp_path / "trust.d"
    trust.mkdir(mode=0o755)
    (tmp_path / "key.pub").rename(trust / "release.pub")

    packed_into(tmp_path / "bundle", key=load_key(tmp_path / "key"))

    assert load_bundle(tmp_path / "bundle", trust=trust).signer == "release"


def test_packing_again_without_a_key_leaves_no_old_signature(tmp_path):
    make_key(tmp_path / "key")
    packed_into(tmp_path / "bundle", key=load_key(tmp_path / "key"))

    packed_into(tmp_path / "bundle")

    assert not (tmp_path / "bundle" / "manifest.sig").exists()
    assert load_bundle(tmp_path / "bundle").unsigned


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(OutputError, match=r"holds 'thesis\.tex', wanted an empty folder or a bundle"):
        packed_into(tmp_path)

    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_bundle_the_gate_refuses_leaves_the_one_before_it(tmp_path):
    packed_into(tmp_path / "bundle")
    before = (tmp_path / "bundle" / "manifest.json").read_bytes()
    costly = {"name": "pruning", "accuracy_before": 0.9, "accuracy_after": 0.8}
    made = checkpoint(compression=[costly | {"bytes_before": 9, "bytes_after": 3, "windows": 100}])

    with pytest.raises(GateRefused, match=r"pruning costs 10\.00 points of accuracy"):
        packed_into(tmp_path / "bundle", made=made)

    assert (tmp_path / "bundle" / "manifest.json").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_that_raises_incidents_where_the_old_one_raised_none_is_refused(tmp_path):
    (tmp_path / "captures").mkdir()
    captures = one_benign_capture(tmp_path / "captures")
    quiet = load_bundle(write_refusal_bundle(tmp_path / "quiet", release=3))
    nervous = checkpoint(bias=20.0)

    with pytest.raises(GateRefused, match="false incidents on benign test captures are 1 in") as caught:
        packed_into(tmp_path / "bundle", made=nervous, captures=captures, replaces=quiet)

    assert "wanted no more than those of the bundle it replaces: 0 in" in str(caught.value)
    assert "FPR on benign test captures is 1 " in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_as_nervous_as_the_one_before_it_passes(tmp_path):
    (tmp_path / "captures").mkdir()
    captures = one_benign_capture(tmp_path / "captures")
    packed_into(tmp_path / "before", made=checkpoint(bias=20.0))
    before = load_bundle(tmp_path / "before")

    packed = packed_into(tmp_path / "bundle", made=checkpoint(bias=20.0), captures=captures, replaces=before, number=5)

    assert packed.measured.benign["test"].false_incidents == 1
    text = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "beside `gru`, release 4" in text
    assert "| test | lab | 0 | - | 1 |" in text


def test_labels_tell_accuracy_and_without_them_the_verdicts_before_the_step_do(tmp_path):
    windows = made_up_windows(50)
    told = []
    for label in (windows.label, None):
        validation = pack.Validation(windows=windows.values, mask=windows.mask, label=label)
        packed = pack.pack(checkpoint(), tmp_path / "bundle", release=pack.Release(number=4), validation=validation)
        told.append(packed.measured.steps[-1])

    # The head is biased to class 3, which no window has.
    assert [(each.accuracy_before, each.labelled) for each in told] == [(0.0, True), (1.0, False)]


def test_pinning_changes_the_one_line_that_holds_the_sha256(tmp_path):
    path = tmp_path / "pinned.py"
    before = Path(pinned.__file__).read_text()
    pack.pin("ab" * 32, path=path)

    assert f'= "{"ab" * 32}"' in path.read_text()
    changed = [
        pair for pair in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if len(set(pair)) > 1
    ]
    assert len(changed) == 1


def test_the_command_packs_a_checkpoint_and_says_what_it_measured(tmp_path, capsys):
    checkpoint().save(tmp_path / "checkpoint")
    windows = made_up_windows(30)
    save_parity_windows(tmp_path / "checkpoint", windows=windows.values, mask=windows.mask)

    bundle = tmp_path / "bundle"
    code = cli.main(["pack", str(tmp_path / "checkpoint"), "-o", str(bundle), "--release", "2", "--replaces-nothing"])

    assert code == 0
    assert load_bundle(bundle).manifest.release == 2
    assert "30 validation windows" in capsys.readouterr().out


def test_the_command_says_in_one_line_what_is_no_checkpoint(tmp_path, capsys):
    code = cli.main(["pack", str(tmp_path), "-o", str(tmp_path / "bundle"), "--release", "2"])

    assert code == 78
    assert capsys.readouterr().err.count("\n") == 1
