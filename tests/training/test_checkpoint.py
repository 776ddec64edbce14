"""Checkpoints on disk."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.arrays import arrays_of
from training.checkpoint import Checkpoint, load_checkpoint, load_parity_windows, save_parity_windows
from training.errors import CheckpointError
from training.shapes import NAMES, PLAIN_NAMES, describe

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


def conv_bilstm(layout="windows"):
    described = describe("conv_bilstm_small", layout=layout, features=FEATURES, classes=CLASSES)
    return Checkpoint(arrays_of(described), {"network": described.facts()})


@pytest.mark.parametrize("layout", ["windows", "row"])
@pytest.mark.parametrize("name", [*NAMES, *PLAIN_NAMES])
def test_every_network_comes_back_with_its_name_and_sizes(tmp_path, name, layout):
    described = describe(name, layout=layout, features=FEATURES, classes=CLASSES)
    saved = Checkpoint(arrays_of(described), {"network": described.facts()})
    saved.save(tmp_path)

    back = load_checkpoint(tmp_path)

    assert back.network == described
    assert all(np.array_equal(back.arrays[name], array) for name, array in saved.arrays.items())


def test_a_checkpoint_without_facts_of_its_network_is_a_gru(tmp_path):
    Checkpoint(arrays(), {}).save(tmp_path)

    network = load_checkpoint(tmp_path).network

    assert (network.name, network.layout) == ("gru", "windows")
    assert network.sizes == {"features": FEATURES, "classes": CLASSES, "hidden": HIDDEN, "embedding": EMBEDDING}


def test_arrays_of_the_unknown_score_are_kept_apart(tmp_path):
    score = {"unknown_means": np.ones((CLASSES, EMBEDDING), np.float32), "unknown_scale": np.float32(2.0)}
    Checkpoint(arrays() | score, {}).save(tmp_path)

    back = load_checkpoint(tmp_path)

    assert back.unknown.keys() == score.keys()
    assert back.parameters == Checkpoint(arrays(), {}).parameters


def test_batch_statistics_are_no_parameters():
    checkpoint = conv_bilstm()
    statistics = sum(array.size for name, array in checkpoint.arrays.items() if "running" in name)

    assert statistics == 2 * (48 + 64)
    assert checkpoint.parameters == sum(a.size for a in checkpoint.arrays.values()) - statistics - 4 * FEATURES


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "gru"}, "gru in layout windows has no size"),
        ({"name": "gpt"}, "network: no network 'gpt'"),
        ({"layout": "row"}, r"convolutions.layers.0.weight has shape \(48, 7, 3\)"),
        ({"sizes": {"features": FEATURES, "classes": CLASSES, "hidden": 31}}, "its fellows want"),
        ({"sizes": {"features": FEATURES, "classes": CLASSES, "attention": False}}, "has no array 'score"),
        ({"sizes": {"features": FEATURES, "classes": CLASSES, "hidden": 1 << 40}}, "network: hidden must be"),
        ({"sizes": None}, "network: wanted sizes"),
    ],
)
def test_facts_that_do_not_fit_their_arrays_are_refused(tmp_path, change, complaint):
    checkpoint = conv_bilstm()
    Checkpoint(checkpoint.arrays, {"network": checkpoint.facts["network"] | change}).save(tmp_path)

    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(tmp_path)


def test_an_array_nobody_asked_for_is_refused(tmp_path):
    Checkpoint(arrays() | {"extra": np.zeros(3, np.float32)}, {}).save(tmp_path)

    with pytest.raises(CheckpointError, match="a gru has no array 'extra'"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("head_b", np.nan, "head_b holds what is no number"),
        ("gru_w", np.inf, "gru_w holds what is no number"),
        ("unknown_scale", -np.inf, "unknown_scale holds what is no number"),
        ("std", 0.0, "std holds 0.0"),
        ("unit", -1.0, "unit holds -1.0"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path, name, value, complaint):
    spoilt = arrays() | {"unknown_scale": np.ones(1, np.float32)}
    spoilt[name].flat[0] = value
    Checkpoint(spoilt, {}).save(tmp_path)

    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(tmp_path)


def test_a_variance_below_nothing_is_refused(tmp_path):
    checkpoint = conv_bilstm()
    checkpoint.arrays["after_bilstm.running_var"][3] = -1.0
    checkpoint.save(tmp_path)

    with pytest.raises(CheckpointError, match="no variance is below 0"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * (9 << 20)])
def test_facts_that_are_no_object_are_refused(tmp_path, content):
    Checkpoint(arrays(), {}).save(tmp_path)
    (tmp_path / "facts.json").write_bytes(content)

    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path)


def test_an_unknown_score_of_endless_arrays_is_refused(tmp_path):
    Checkpoint(arrays() | {"unknown_far": np.zeros((1 << 20) + 1, np.float32)}, {}).save(tmp_path)

    with pytest.raises(CheckpointError, match="at most 1048576"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("windows", "mask", "complaint"),
    [
        (np.ones((2, 16, 7)), np.ones((2, 15)), "are not N windows"),
        (np.ones((2, 7)), np.ones((2, 7)), "are not N windows"),
        (np.ones((0, 16, 7)), np.ones((0, 16)), "are not N windows"),
        (np.full((2, 16, 7), np.nan), np.ones((2, 16)), "no number"),
        (np.ones((2, 16, 7)), np.full((2, 16), 0.5), "neither 0 nor 1"),
    ],
)
def test_windows_that_are_none_are_refused(tmp_path, windows, mask, complaint):
    save_parity_windows(tmp_path, windows=windows.astype(np.float32), mask=mask.astype(np.float32))

    with pytest.raises(CheckpointError, match=complaint):
        load_parity_windows(tmp_path)
