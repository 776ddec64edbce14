"""A bundle with another head: what stays, what changes, what the gate refuses."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.bundle import MODEL, Figures, Source, default_bundle, load_bundle
from contracts.head import Head, head_of, read_head
from detection.onnx_engine import OnnxEngine
from exporter.rehead import NewHead, rehead
from tests.federation.homes import demo, trust
from training.errors import GateRefused

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def new_head(head: Head, *, release: int | None = None) -> NewHead:
    windows = demo().where(demo().label >= 0).where(np.arange(int((demo().label >= 0).sum())) % 20 == 0)
    mask = (np.arange(windows.values.shape[1])[None] < windows.lengths[:, None]).astype(np.float32)
    return NewHead(
        head=head,
        release=release or default_bundle().manifest.release + 1,
        source=Source(name="federation", terms="none", captures=0, windows=0),
        windows=windows.values,
        mask=mask,
        label=windows.label,
        captures=(),
        figures={"federation": Figures(split="none", values={"attacks_windows": 1})},
        created=datetime.date(2027, 1, 1),
    )


def moved() -> Head:
    flat = read_head(default_bundle().model).flat
    return head_of(flat + np.random.default_rng(0).normal(0.0, 0.05, flat.size).astype(np.float32))


def test_a_bundle_with_another_head_is_the_same_network_before_it(tmp_path: Path):
    base, head = default_bundle(), moved()

    rehead(base, tmp_path / "bundle", new_head(head), key=KEY)

    made = load_bundle(tmp_path / "bundle", trust=trust(tmp_path / "trust", KEY, "bundles"))
    assert (made.signer, made.manifest.release) == ("bundles", base.manifest.release + 1)
    assert len(made.model) == len(base.model)
    stored = read_head(made.model)
    assert np.abs(stored.flat - head.flat).max() <= np.abs(head.flat).max() / 127
    told = new_head(head)
    before, after = (OnnxEngine(each).score(told.windows, told.mask) for each in (base, made))
    assert np.array_equal(before.embedding, after.embedding)
    assert after.probabilities == pytest.approx(stored.probabilities(after.embedding), abs=1e-4)
    assert made.manifest.thresholds == base.manifest.thresholds
    assert made.manifest.benign_scores is None  # those were of the old head
    assert [each.name for each in made.manifest.data][-1] == "federation"
    assert "federation" in made.manifest.figures


def test_a_bundle_made_of_one_made_here_names_its_source_once(tmp_path: Path):
    rehead(default_bundle(), tmp_path / "first", new_head(moved()), key=KEY)
    first = load_bundle(tmp_path / "first")

    rehead(first, tmp_path / "second", new_head(moved(), release=first.manifest.release + 1), key=KEY)

    names = [each.name for each in load_bundle(tmp_path / "second").manifest.data]
    assert names.count("federation") == 1


def test_a_release_that_does_not_rise_is_refused_and_writes_nothing(tmp_path: Path):
    with pytest.raises(GateRefused, match="release is"):
        rehead(default_bundle(), tmp_path / "bundle", new_head(moved(), release=1), key=KEY)

    assert list(tmp_path.iterdir()) == []


def test_the_same_head_gives_the_same_octets(tmp_path: Path):
    for name in ("one", "two"):
        rehead(default_bundle(), tmp_path / name, new_head(moved()), key=KEY)

    one, two = (load_bundle(tmp_path / name) for name in ("one", "two"))
    assert one.manifest_sha256 == two.manifest_sha256
    assert (one.path / MODEL).read_bytes() == (two.path / MODEL).read_bytes()
