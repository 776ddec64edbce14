"""Gates and recurrent layers by hand, beside onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

from exporter.graph.layers import count_of, onnx_gates


@pytest.mark.parametrize(
    ("op", "torchs", "wanted"), [("LSTM", "ifgo", "iofg"), ("GRU", "rzn", "zrn"), ("RNN", "h", "h")]
)
def test_gates_stand_in_the_order_of_onnx(op, torchs, wanted):
    """ONNX calls the LSTM's gates i, o, f, c and the GRU's z, r, h; torch's g and n are its c and h."""
    rows = np.repeat(np.array([ord(gate) for gate in torchs], np.float32), 2)[:, None]

    assert "".join(map(chr, onnx_gates(rows, op)[::2, 0].astype(int))) == wanted


def test_numbered_layers_are_counted_by_their_numbers():
    names = [
        "dense.layers.0.weight",
        "dense.layers.0.bias",
        "dense.layers.1.weight",
        "dense.layers.10.weight",
        "head_w",
    ]

    assert count_of(dict.fromkeys(names, np.zeros(1, np.float32)), "dense.layers") == 3
