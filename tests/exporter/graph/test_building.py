"""Every network's graph against torch: the same outputs, padding or not, alone or in a batch."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
import torch

from exporter import graph
from exporter.graph import OPSET, build_graph, entrance, layers, transformer
from exporter.parity import Outputs, compare, run_onnx, run_torch
from flowfeatures import WINDOW_COLUMNS
from tests.training.windows import WINDOW, made_up_windows
from training import networks
from training.errors import CheckpointError
from training.networks import NAMES, PLAIN_NAMES, build
from training.networks import layers as taught_layers
from training.networks import transformer as taught_transformer

pytestmark = pytest.mark.needs_torch

CLASSES = 11
FEATURES = len(WINDOW_COLUMNS)
TOLERANCE = 1e-4  # of a float graph to torch; measured below 1e-5 on x86-64
SMALL = ("gru", "conv_bilstm_small")  # what a gateway may be sent
PAPERS = ("conv_bilstm", "conv_bilstm_small", "cnn_lstm_attention", "cnn_self_attention")
KINDS = [(name, {}) for name in (*NAMES, *PLAIN_NAMES)] + [(name, {"attention": False}) for name in PAPERS]
every_kind = pytest.mark.parametrize(("name", "sizes"), KINDS, ids=lambda each: each or "" if each else "whole")
torch.set_num_threads(1)


def made(name, **sizes):
    """Return a network as training could leave it: scaling and statistics of their own, weights that say something."""
    torch.manual_seed(5)
    network = build(name, layout="windows", features=FEATURES, classes=CLASSES, **sizes)
    rng = np.random.default_rng(5)
    for key, tensor in network.state_dict().items():
        if key in ("mean", "std", "unit"):
            tensor.copy_(torch.from_numpy(rng.uniform(0.5, 3.0, tensor.shape)))
        elif key.endswith("running_var"):
            tensor.copy_(torch.from_numpy(rng.uniform(0.2, 2.0, tensor.shape)))
        elif key != "keep":
            tensor.mul_(2).add_(torch.from_numpy(rng.normal(0, 0.02, tensor.shape)))
    network.keep[::7] = 0.0
    return network


@pytest.fixture(scope="module")
def windows():
    drawn = made_up_windows(80)
    values = drawn.values * np.random.default_rng(1).choice([-1, 1e-3, 1, 1e3, 1e6], drawn.values.shape[2])
    return values.astype(np.float32), drawn.mask


def graph_of(network, *, int8=False, window=WINDOW):
    return build_graph(network.arrays(), name=network.described.name, window=window, int8=int8)


def torch_says(network, values, mask):
    return run_torch(network.arrays(), windows=values, mask=mask, network=network.facts())


@every_kind
def test_the_float_graph_says_what_torch_says(name, sizes, windows):
    values, mask = windows
    network = made(name, **sizes)

    of_torch = torch_says(network, values, mask)
    of_graph = run_onnx(graph_of(network), windows=values, mask=mask)

    assert np.ptp(of_torch.probabilities, axis=0).max() > 1e-3  # it says something, and not always the same
    assert compare(of_torch, of_graph).largest < TOLERANCE
    assert compare(of_torch, of_graph).changed == 0


@every_kind
def test_int8_storage_is_smaller_and_stays_close(name, sizes, windows):
    values, mask = windows
    network = made(name, **sizes)

    stored, floats = (graph_of(network, int8=int8).SerializeToString() for int8 in (True, False))
    of_stored = run_onnx(stored, windows=values, mask=mask)

    assert len(stored) < 0.5 * len(floats)
    assert np.abs(of_stored.probabilities - torch_says(network, values, mask).probabilities).max() < 0.1


@every_kind
@pytest.mark.parametrize("rubbish", [1e30, float("nan"), float("-inf")])
def test_rows_beyond_a_windows_length_change_no_output(name, sizes, rubbish, windows):
    values, mask = windows
    model = graph_of(made(name, **sizes), int8=True)
    clean, dirty = (np.where(mask[:, :, None] > 0, values, np.float32(each)) for each in (0.0, rubbish))

    one, other = run_onnx(model, windows=clean, mask=mask), run_onnx(model, windows=dirty, mask=mask)

    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not one.attention[mask == 0].any()
    assert np.allclose(one.attention.sum(axis=1), 1.0, atol=1e-5)


@every_kind
def test_a_windows_outputs_do_not_depend_on_its_batch(name, sizes, windows):
    values, mask = windows
    model = graph_of(made(name, **sizes), int8=True)
    together = run_onnx(model, windows=values[:5], mask=mask[:5])

    one_by_one = [run_onnx(model, windows=values[i : i + 1], mask=mask[i : i + 1]) for i in range(5)]

    assert compare(together, Outputs(*(np.concatenate(each) for each in zip(*one_by_one, strict=True)))).largest < 1e-5


@every_kind
def test_a_graph_promises_names_shapes_and_an_old_opset(name, sizes):
    network = made(name, **sizes)
    model = graph_of(network, int8=True)

    inputs, outputs = (
        {each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in ends}
        for ends in (model.graph.input, model.graph.output)
    )

    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    assert inputs == {"windows": ["B", WINDOW, FEATURES], "mask": ["B", WINDOW]}
    assert outputs == {
        "probabilities": ["B", CLASSES],
        "embedding": ["B", network.head.in_features],
        "unknown_score": ["B"],
        "attention": ["B", WINDOW],
    }
    assert OPSET == 13


@pytest.mark.parametrize("name", SMALL)
def test_what_a_gateway_may_be_sent_has_at_most_64_kb(name):
    assert len(graph_of(made(name), int8=True).SerializeToString()) <= 64 * 1024


@every_kind
def test_an_int8_graph_holds_no_large_matrix_of_floats(name, sizes):
    floats = [each for each in graph_of(made(name, **sizes), int8=True).graph.initializer if each.data_type == 1]

    assert max(int(np.prod(each.dims)) for each in floats) <= 2048  # biases, norms, places


@every_kind
def test_a_window_without_any_row_still_gives_probabilities(name, sizes):
    nothing = np.zeros((2, WINDOW), np.float32)

    outputs = run_onnx(graph_of(made(name, **sizes)), windows=np.zeros((2, WINDOW, FEATURES), np.float32), mask=nothing)

    assert all(np.isfinite(each).all() for each in outputs)
    assert np.allclose(outputs.probabilities.sum(axis=1), 1.0, atol=1e-5)


def test_without_arrays_of_an_unknown_score_it_is_nothing(windows):
    values, mask = windows
    session = onnxruntime.InferenceSession(
        graph_of(made("gru"), int8=True).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    unknown, attention = session.run(["unknown_score", "attention"], {"windows": values, "mask": mask})

    assert unknown.shape == (len(values),)
    assert not unknown.any()
    assert np.allclose(attention, mask / mask.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", [*NAMES, *PLAIN_NAMES])
def test_a_network_over_rows_is_refused(name):
    network = build(name, layout="row", features=FEATURES, classes=CLASSES)

    with pytest.raises(CheckpointError, match=f"this {name} reads rows"):
        graph_of(network)


@pytest.mark.parametrize("name", ["cnn_lstm_attention", "transformer"])
def test_a_network_taught_on_other_windows_is_refused(name):
    with pytest.raises(CheckpointError, match="windows of 16 records, this build has 12"):
        graph_of(made(name), window=12)


def test_a_network_without_a_graph_is_refused():
    with pytest.raises(CheckpointError, match="no graph for a network 'forest'"):
        build_graph(made("gru").arrays(), name="forest", window=WINDOW, int8=True)


def test_graph_and_network_hold_the_same_constants():
    assert graph.CLIP == networks.CLIP
    assert entrance.FAR_BELOW == taught_layers.FAR_BELOW
    assert layers.NORM_EPSILON == taught_layers.NORM_EPSILON
    assert transformer.LAYER_NORM_EPSILON == taught_transformer.LAYER_NORM_EPSILON
