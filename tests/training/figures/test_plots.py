"""Plots are PNG files, the same for the same figures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from training.figures import plots

PNG = b"\x89PNG\r\n\x1a\n"
DRAWN = {
    "roc": lambda path: plots.roc(path, {"test": (np.array([0.9, 0.4]), np.array([0.1, 0.4]))}, title="t"),
    "roc of nothing": lambda path: plots.roc(path, {"test": (np.zeros(0), np.zeros(0))}, title="t"),
    "confusion": lambda path: plots.confusion_matrix(path, {"benign": {"benign": 3}, "scan": {"flood": 1}}, title="t"),
    "convergence": lambda path: plots.convergence(
        path, {"seed 1": [{"epoch": 0, "train_loss": 1.0, "validation_loss": 0.9}]}, title="t"
    ),
    "bars": lambda path: plots.bars(path, {"a": 1.0, "b": -0.1}, title="t", label="x"),
    "lines": lambda path: plots.lines(path, {"pad": {"+16": 0.5, "+128": None}}, title="t", label="TPR"),
    "heat": lambda path: plots.heat(path, np.eye(2), rows=["a", "b"], columns=["c", "d"], title="t"),
}


@pytest.mark.parametrize("what", DRAWN)
def test_a_plot_is_a_png_and_the_same_each_time(what, tmp_path):
    DRAWN[what](tmp_path / "one.png")
    DRAWN[what](tmp_path / "two.png")

    assert (tmp_path / "one.png").read_bytes().startswith(PNG)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
