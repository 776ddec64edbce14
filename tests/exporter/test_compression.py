"""What compression costs: the networks that are compared, and the graph that stands for a bundle's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.training.windows import made_up_windows

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from contracts.bundle import default_bundle
from exporter.compression import compress, graph_predictor, lines_of, write_page
from exporter.graph import build_graph
from exporter.measure import serialised
from training.captures import CapturesBySide
from training.fit import FitSettings, predict
from training.networks_compared import saver
from training.side_by_side import Judge
from training.unknown_compare import Sides

pytestmark = pytest.mark.needs_torch
SETTINGS = FitSettings(epochs=2, steps=8, batch=16)


@pytest.fixture(scope="module")
def sides():
    return Sides(made_up_windows(80), made_up_windows(40, seed=1), {}, {})


def parameters(network):
    return sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize("name", ["gru", "conv_bilstm_small"])
def test_the_control_has_the_size_of_the_pruned_network_and_is_not_it(sides, name):
    from dataclasses import replace

    lines = dict(lines_of(name, sides, replace(SETTINGS, network=name)))
    whole, on, pruned, scratch = lines.values()

    assert list(lines) == ["whole", "whole, taught on", "50% of the units, taught on", "that size from scratch"]
    assert parameters(whole) == parameters(on) > parameters(pruned) == parameters(scratch)
    assert any(not np.array_equal(a, scratch.arrays()[key]) for key, a in pruned.arrays().items())


def test_a_float_graph_says_what_torch_says_and_an_int8_graph_nearly(sides):
    network = dict(lines_of("gru", sides, SETTINGS))["whole"]
    judged = made_up_windows(50, seed=2)
    said = predict(network, judged)
    floats, stored = (
        graph_predictor(serialised(build_graph(network.arrays(), name="gru", window=16, int8=int8)))(judged)
        for int8 in (False, True)
    )

    assert np.abs(floats - said).max() < 1e-4
    assert 0 < np.abs(stored - said).max() < 0.1


def test_the_page_tells_the_bytes_of_every_line(sides, tmp_path):
    judge = Judge(CapturesBySide(), default_bundle(), demo=tmp_path / "absent.json")
    run = {"command": "penstock-export compression", "commit": "0" * 40}
    path = tmp_path / "compression.json"
    compress(sides, judge, SETTINGS, networks=["gru"], seeds=[1], save=saver(path, run, add=False, page=write_page))
    models = json.loads(path.read_text())["models"]

    assert len(models) == 8
    whole, stored = models["gru, whole, float, seed 1"], models["gru, whole, int8, seed 1"]
    assert stored["bytes"] < whole["bytes"] / 2
    assert (
        f"| gru, whole, int8 | {stored['parameters']:,d} | {stored['bytes']:,d} |"
        in path.with_suffix(".md").read_text()
    )
