"""What a network may be, told without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from training.shapes import NAMES, PLAIN_NAMES, array_shapes, describe, described_by, is_learnt, pooled_steps

WINDOWS = {"layout": "windows", "features": 102, "classes": 11}


@pytest.mark.parametrize("layout", ["windows", "row"])
@pytest.mark.parametrize("name", [*NAMES, *PLAIN_NAMES])
def test_a_description_survives_its_facts(name, layout):
    described = describe(name, layout=layout, features=41, classes=5)

    assert described_by(described.facts()) == described


def test_shapes_are_known_without_torch():
    script = "import sys, training.checkpoint, training.shapes; print('torch' in sys.modules)"

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)

    assert told.stdout.strip() == "False"


def test_the_grus_shapes_are_those_counted_by_hand():
    shapes = array_shapes(describe("gru", **WINDOWS))

    assert shapes["gru_w"] == (192, 102)
    assert shapes["embed_w"] == (48, 64)
    assert shapes["skip_w"] == (48, 204)
    assert shapes["head_w"] == (11, 48)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("gpt", {}, "no network 'gpt'"),
        (["gru"], {}, "no network"),
        ("gru", {"layout": "image"}, "no layout 'image'"),
        ("gru", {"attention": False}, "gru in layout windows has no size 'attention'"),
        ("gru", {"hidden": 0}, "hidden must be a whole number from 1 to 4096, got 0"),
        ("gru", {"hidden": 5000}, "got 5000"),
        ("gru", {"hidden": 8.0}, "got 8.0"),
        ("gru", {"hidden": True}, "got True"),
        ("gru", {"features": 0}, "features must be"),
        ("gru", {"classes": -1}, "classes must be"),
        ("conv_bilstm", {"kernel": 4}, "kernel must be odd, got 4"),
        ("conv_bilstm", {"attention": 1}, "attention must be true or false, got 1"),
        ("conv_bilstm", {"dense": []}, "dense must be 1 to 8 counts"),
        ("conv_bilstm", {"dense": [1] * 9}, "dense must be 1 to 8 counts"),
        ("conv_bilstm", {"dense": [64, "32"]}, "dense must be a whole number"),
        ("conv_bilstm", {"dense": "64"}, "dense must be 1 to 8 counts"),
        ("transformer", {"heads": 3}, "width 32 is not a multiple of heads 3"),
        ("transformer", {"layers": 9}, "layers must be 1 to 8, got 9"),
        ("cnn_lstm_attention", {"layout": "row", "window": 16}, "has no size 'window'"),
    ],
)
def test_what_no_network_can_be_is_refused(name, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        describe(name, **WINDOWS | changes)


@pytest.mark.parametrize(
    "facts",
    [
        None, [], {}, {"name": "gru", "layout": "windows"}, {"name": "gru", "layout": "windows", "sizes": []},
        {"name": "gru", "layout": "windows", "sizes": {"features": 3}},
        {"name": "gru", "layout": "windows", "sizes": {"features": 3, "classes": 2, "layout": "row"}},
        {"name": {}, "layout": "windows", "sizes": {"features": 3, "classes": 2}},
        {"name": "gru", "layout": None, "sizes": {"features": 3, "classes": 2}},
        {"name": "gru", "layout": "windows", "sizes": {"features": 3, "classes": 2}, "more": 1},
    ],
)  # fmt: skip
def test_facts_that_tell_of_no_network_are_refused(facts):
    with pytest.raises(ValueError, match=r"wanted|no network|no layout"):
        described_by(facts)


def test_poolings_round_up():
    assert [pooled_steps(features, 3) for features in (1, 8, 9, 122)] == [1, 1, 2, 16]


def test_scaling_statistics_and_unknown_arrays_are_not_learnt():
    names = ("mean", "after_bilstm.running_mean", "after_bilstm.running_var", "unknown_mean", "after_bilstm.weight")

    assert [name for name in names if is_learnt(name)] == ["after_bilstm.weight"]
