"""The exported graph against torch, and what int8 storage costs."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
import torch

from exporter import graph
from exporter.graph import build_graph, quantise_rows
from exporter.parity import FLOAT_TOLERANCE, compare, run_onnx, run_torch
from flowfeatures import WINDOW_COLUMNS
from tests.training.windows import WINDOW, made_up_windows
from training import networks
from training.networks import GruNetwork

pytestmark = pytest.mark.needs_torch

CLASSES = 11


@pytest.fixture(scope="module")
def arrays():
    torch.manual_seed(5)
    network = GruNetwork(features=len(WINDOW_COLUMNS), classes=CLASSES)
    rng = np.random.default_rng(5)
    network.unit.copy_(torch.from_numpy(rng.choice([1.0, 1000.0], len(WINDOW_COLUMNS)).astype(np.float32)))
    network.mean.copy_(torch.from_numpy(rng.normal(2, 1, len(WINDOW_COLUMNS)).astype(np.float32)))
    network.std.copy_(torch.from_numpy(rng.uniform(0.3, 3, len(WINDOW_COLUMNS)).astype(np.float32)))
    network.keep[::7] = 0.0
    return network.arrays()


@pytest.fixture(scope="module")
def windows():
    made = made_up_windows(300)
    values = made.values * np.random.default_rng(1).choice([-1, 1e-3, 1, 1e3, 1e6], made.values.shape[2])
    return values.astype(np.float32), made.mask


def test_the_float_graph_says_what_torch_says(arrays, windows):
    values, mask = windows
    model = build_graph(arrays, window=WINDOW, int8=False)
    parity = compare(run_torch(arrays, windows=values, mask=mask), run_onnx(model, windows=values, mask=mask))

    assert parity.largest < FLOAT_TOLERANCE
    assert parity.changed == 0


def test_int8_storage_stays_close_and_below_64_kb(arrays, windows):
    values, mask = windows
    stored = build_graph(arrays, window=WINDOW, int8=True).SerializeToString()
    parity = compare(run_torch(arrays, windows=values, mask=mask), run_onnx(stored, windows=values, mask=mask))

    assert parity.largest < 0.05
    assert len(stored) < 64 * 1024


def test_rows_are_stored_within_half_a_step():
    matrix = np.random.default_rng(0).normal(0, [[1.0], [1e-3], [100.0]], (3, 50)).astype(np.float32)
    values, scales = quantise_rows(matrix)

    assert np.abs(values * scales[:, None] - matrix).max(axis=1) == pytest.approx(scales / 2, rel=0.2)
    assert (np.abs(values.astype(int)).max(axis=1) == 127).all()


def test_a_row_of_zeros_stays_zero():
    values, scales = quantise_rows(np.zeros((1, 4), np.float32))

    assert not values.any()
    assert scales[0] > 0


def test_padding_never_reaches_the_scores(arrays, windows):
    values, mask = windows
    model = build_graph(arrays, window=WINDOW, int8=True)
    padded = values + 1e4 * (1 - mask[:, :, None])

    one, other = (run_onnx(model, windows=each.astype(np.float32), mask=mask) for each in (values, padded))
    assert np.array_equal(one[0], other[0])


def test_unknown_score_is_nothing_and_attention_is_even(arrays, windows):
    values, mask = windows
    session = onnxruntime.InferenceSession(
        build_graph(arrays, window=WINDOW, int8=True).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    unknown, attention = session.run(["unknown_score", "attention"], {"windows": values, "mask": mask})

    assert unknown.shape == (len(values),)
    assert not unknown.any()
    assert np.allclose(attention, mask / mask.sum(axis=1, keepdims=True))


def test_a_windows_scores_do_not_depend_on_its_batch(arrays, windows):
    values, mask = windows
    model = build_graph(arrays, window=WINDOW, int8=True)
    together = run_onnx(model, windows=values[:9], mask=mask[:9])[0]

    alone = np.concatenate([run_onnx(model, windows=values[i : i + 1], mask=mask[i : i + 1])[0] for i in range(9)])
    assert np.allclose(together, alone, atol=1e-6)


def test_graph_and_network_clip_alike():
    assert graph.CLIP == networks.CLIP
