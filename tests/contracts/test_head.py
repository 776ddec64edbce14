"""The head in model.onnx: read as the runtime computes it, written so that the runtime computes it, hostile files."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from contracts.bundle import default_bundle
from contracts.errors import BundleCorrupt
from contracts.head import head_of, read_head, with_head
from flowfeatures import WINDOW_COLUMNS
from tests.federation.homes import engine


def windows(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(0).exponential(100.0, (count, 16, len(WINDOW_COLUMNS)))
    return values.astype(np.float32), np.ones((count, 16), np.float32)


def test_the_head_read_from_the_file_gives_what_the_runtime_gives():
    scores = engine().score(*windows())

    probabilities = read_head(default_bundle().model).probabilities(scores.embedding)

    assert np.abs(probabilities - scores.probabilities).max() < 1e-6


def test_the_head_is_the_one_that_the_package_onnx_reads():
    onnx = pytest.importorskip("onnx")
    held = {each.name: each for each in onnx.load_from_string(default_bundle().model).graph.initializer}
    arrays = {name: onnx.numpy_helper.to_array(held[name]) for name in ("head_w_int8", "head_w_scale", "head_b")}

    head = read_head(default_bundle().model)

    assert np.array_equal(head.weight, arrays["head_w_int8"].astype(np.float32) * arrays["head_w_scale"][:, None])
    assert np.array_equal(head.bias, arrays["head_b"])


def test_another_head_written_into_the_file_is_what_the_runtime_then_computes():
    from detection.onnx_engine import OnnxEngine

    bundle = default_bundle()
    noise = np.random.default_rng(1).normal(0, 0.1, read_head(bundle.model).flat.size)
    other = head_of((read_head(bundle.model).flat + noise).astype(np.float32))

    changed = dataclasses.replace(bundle, model=with_head(bundle.model, other))
    scores = OnnxEngine(changed).score(*windows())

    assert len(changed.model) == len(bundle.model)
    assert np.abs(read_head(changed.model).probabilities(scores.embedding) - scores.probabilities).max() < 1e-6
    step = np.abs(other.weight).max(axis=1, keepdims=True) / 127
    assert (np.abs(read_head(changed.model).weight - other.weight) <= 0.501 * step).all()


def test_a_head_and_its_numbers_are_the_same_thing():
    head = read_head(default_bundle().model)

    again = head_of(head.flat)

    assert again.sha256 == head.sha256
    assert np.array_equal(again.weight, head.weight)
    with pytest.raises(ValueError, match="no head of 11 classes has 364 numbers"):
        head_of(np.zeros(364, np.float32))


def test_a_file_cut_off_anywhere_is_refused():
    model = default_bundle().model

    for end in range(0, len(model) - 1, 97):
        with pytest.raises(BundleCorrupt):
            read_head(model[:end])


def test_no_changed_octets_make_reading_raise_anything_else():
    model, chance = bytearray(default_bundle().model), random.Random(2)
    outcomes = {"read": 0, "refused": 0}

    for _ in range(2000):
        changed = bytearray(model)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            assert np.isfinite(read_head(bytes(changed)).flat).all()
            outcomes["read"] += 1
        except BundleCorrupt:
            outcomes["refused"] += 1

    assert outcomes["read"] > 0
    assert outcomes["refused"] > 0
