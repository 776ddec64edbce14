"""Checkpoints on disk."""

from __future__ import annotations

import numpy as np
import pytest

from training.checkpoint import Checkpoint, load_checkpoint, load_parity_windows, save_parity_windows
from training.errors import CheckpointError

FEATURES, HIDDEN, EMBEDDING, CLASSES = 7, 5, 3, 4


def arrays():
    rng = np.random.default_rng(0)
    shapes = {
        "unit": (FEATURES,), "mean": (FEATURES,), "std": (FEATURES,), "keep": (FEATURES,),
        "gru_w": (3 * HIDDEN, FEATURES), "gru_r": (3 * HIDDEN, HIDDEN),
        "gru_bw": (3 * HIDDEN,), "gru_br": (3 * HIDDEN,),
        "embed_w": (EMBEDDING, HIDDEN), "embed_b": (EMBEDDING,),
        "head_w": (CLASSES, EMBEDDING), "head_b": (CLASSES,),
    }  # fmt: skip
    return {name: rng.random(shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    Checkpoint(arrays(), {"seed": 3}).save(tmp_path)
    back = load_checkpoint(tmp_path)

    assert back.facts == {"seed": 3}
    assert all(np.array_equal(back.arrays[name], array) for name, array in arrays().items())


def test_scaling_is_no_parameter():
    learnt = 3 * HIDDEN * (FEATURES + HIDDEN + 2) + EMBEDDING * (HIDDEN + 1) + CLASSES * (EMBEDDING + 1)

    assert Checkpoint(arrays(), {}).parameters == learnt


def test_an_array_of_another_shape_is_refused(tmp_path):
    Checkpoint(arrays() | {"mean": np.zeros(FEATURES + 1, np.float32)}, {}).save(tmp_path)

    with pytest.raises(CheckpointError, match=r"unit has shape \(7,\), its fellows want \(8,\)"):
        load_checkpoint(tmp_path)


def test_a_missing_array_is_named(tmp_path):
    some = arrays()
    del some["head_b"]
    Checkpoint(some, {}).save(tmp_path)

    with pytest.raises(CheckpointError, match="head_b"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn"])
def test_a_torn_file_is_refused_in_one_line(tmp_path, content):
    Checkpoint(arrays(), {}).save(tmp_path)
    (tmp_path / "weights.npz").write_bytes(content)

    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path)


def test_windows_for_parity_come_back_or_are_missed(tmp_path):
    with pytest.raises(CheckpointError, match="no validation windows"):
        load_parity_windows(tmp_path)
    windows, mask = np.ones((2, 16, FEATURES), np.float32), np.ones((2, 16), np.float32)
    save_parity_windows(tmp_path, windows=windows, mask=mask)

    assert np.array_equal(load_parity_windows(tmp_path)[0], windows)
