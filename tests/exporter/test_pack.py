"""Checkpoint to bundle: what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import torch

from contracts import pinned
from contracts.bundle import load_bundle
from contracts.classes import HEAD_NAMES
from detection.onnx_engine import OnnxEngine
from exporter import cli, pack
from exporter.parity import Parity
from flowfeatures import SCHEMA_ID, WINDOW_COLUMNS
from tests.training.windows import WINDOW, made_up_windows
from training.checkpoint import Checkpoint, save_parity_windows
from training.errors import CheckpointError, ParityError
from training.networks import GruNetwork

pytestmark = pytest.mark.needs_torch


def checkpoint(**facts):
    torch.manual_seed(1)
    network = GruNetwork(features=len(WINDOW_COLUMNS), classes=len(HEAD_NAMES))
    with torch.no_grad():
        network.head.bias[3] = 2.0  # an untrained network is in two minds, which int8 storage would sway
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


def packed_into(folder, *, made=None):
    windows = made_up_windows(50)
    return pack.pack(made or checkpoint(), folder, release=4, windows=windows.values, mask=windows.mask)


def test_what_is_packed_is_a_bundle_that_an_engine_runs(tmp_path):
    packed = packed_into(tmp_path)
    bundle = load_bundle(tmp_path)
    windows = made_up_windows(8)
    scores = OnnxEngine(bundle).score(windows.values, windows.mask)

    assert bundle.manifest_sha256 == packed.manifest_sha256
    assert (bundle.manifest.release, bundle.manifest.window, bundle.manifest.unknown_score) == (4, WINDOW, "constant")
    assert bundle.manifest.attention == "uniform"
    assert np.allclose(scores.probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_the_same_checkpoint_packs_to_the_same_bytes(tmp_path):
    one, other = packed_into(tmp_path / "one"), packed_into(tmp_path / "other")

    assert one.manifest_sha256 == other.manifest_sha256


def test_a_checkpoint_of_another_schema_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(CheckpointError, match="schema deadbeef"):
        packed_into(tmp_path / "bundle", made=checkpoint(schema_id="deadbeef"))

    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("float_parity", "int8_parity", "model_bytes", "complaint"),
    [
        (Parity(10, 2e-5, 0), Parity(10, 0.0, 0), 1000, "differs from torch"),
        (Parity(1000, 0.0, 0), Parity(1000, 0.1, 6), 1000, "changes 0.60% of the verdicts"),
        (Parity(10, 0.0, 0), Parity(10, 0.0, 0), 64 * 1024, "65536 bytes"),
    ],
)
def test_the_gate_refuses(float_parity, int8_parity, model_bytes, complaint):
    with pytest.raises(ParityError, match=complaint):
        pack._gate(float_parity, int8_parity, model_bytes)


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

    code = cli.main(["pack", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle"), "--release", "2"])

    assert code == 0
    assert load_bundle(tmp_path / "bundle").manifest.release == 2
    assert "30 validation windows" in capsys.readouterr().out


def test_the_command_says_in_one_line_what_is_no_checkpoint(tmp_path, capsys):
    code = cli.main(["pack", str(tmp_path), "-o", str(tmp_path / "bundle"), "--release", "2"])

    assert code == 78
    assert capsys.readouterr().err.count("\n") == 1
