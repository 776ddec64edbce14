"""Matrices as a graph stores them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
from onnx import TensorProto, helper

from exporter.graph import Graph, quantise_rows


def value_of(graph, name, shape):
    """Return what a graph without inputs computes under a name."""
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    made = helper.make_graph(graph.nodes, "one", inputs=[], outputs=outputs, initializer=graph.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {})[0]


def drawn(*shape):
    rng = np.random.default_rng(0)
    scale = rng.choice([1e-3, 1.0, 100.0], (shape[0], *[1] * (len(shape) - 1)))
    return (rng.normal(0, 1, shape) * scale).astype(np.float32)


def step(matrix):
    return np.abs(matrix.reshape(len(matrix), -1)).max(axis=1) / 127


def test_rows_are_stored_within_half_a_step():
    matrix = np.random.default_rng(0).normal(0, [[1.0], [1e-3], [100.0]], (3, 50)).astype(np.float32)
    values, scales = quantise_rows(matrix)

    assert np.abs(values * scales[:, None] - matrix).max(axis=1) == pytest.approx(scales / 2, rel=0.2)
    assert (np.abs(values.astype(int)).max(axis=1) == 127).all()


def test_a_row_of_zeros_stays_zero():
    values, scales = quantise_rows(np.zeros((1, 4), np.float32))

    assert not values.any()
    assert scales[0] > 0


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_a_stored_matrix_is_widened_row_by_row(shape):
    graph, matrix = Graph(int8=True), drawn(*shape)

    name = graph.matrix("m", matrix)

    off = np.abs(value_of(graph, name, shape) - matrix).reshape(len(matrix), -1).max(axis=1)
    assert (off <= 0.51 * step(matrix)).all()


def test_a_turned_matrix_keeps_a_scale_for_each_of_its_rows():
    graph, matrix = Graph(int8=True), drawn(6, 5)

    name = graph.matrix("m", matrix, transposed=True)

    off = np.abs(value_of(graph, name, (5, 6)).T - matrix).max(axis=1)
    assert (off <= 0.51 * step(matrix)).all()


def test_two_directions_are_stored_with_scales_of_their_own():
    graph, matrices = Graph(int8=True), [drawn(4, 3), 50 * drawn(4, 3)]

    name = graph.stacked("m", matrices)

    value = value_of(graph, name, (2, 4, 3))
    for direction, matrix in enumerate(matrices):
        assert (np.abs(value[direction] - matrix).max(axis=1) <= 0.51 * step(matrix)).all()


def test_a_float_graph_holds_matrices_as_they_are():
    graph, matrix = Graph(int8=False), drawn(6, 5)

    graph.matrix("m", matrix, transposed=True)

    assert [each.name for each in graph.initializers] == ["m"]
    assert graph.nodes == []


def test_a_constant_named_twice_stands_once():
    graph = Graph(int8=True)

    assert graph.integers(0, -1) == graph.integers(0, -1)
    assert len(graph.initializers) == 1
