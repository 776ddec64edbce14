"""An ONNX graph in the making: nodes, initialisers, and matrices stored int8.

A matrix float32[R, N] is stored int8 with one scale per output row, symmetric, and widened by DequantizeLinear. What
is computed stays float32, so int8 buys size and nothing else. With `int8=False` the same graph holds float32: what
TensorRT is given, and what parity with torch is shown on. The trap: ONNX Runtime widens at every call, a quarter of the
time of one window, unless `session.disable_quant_qdq` is 1; then it does so once, when it loads the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

INT8_MAX: Final = 127

Arrays = Mapping[str, NDArray[np.float32]]


class Graph:
    """Nodes and initialisers. Names are given by the caller and must differ; a constant may be named again."""

    def __init__(self, *, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: set[str] = set()

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an initialiser; the same name means the same value."""
        if name not in self._constants:
            self._constants.add(name)
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a list of int64, such as axes or a shape, once for all who need it."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def matrix(self, name: str, matrix: NDArray[np.float32], *, transposed: bool = False) -> str:
        """Store float32[R, ...], one scale per row R; return the name of its float value, [N, R] if `transposed`."""
        stored = matrix.T if transposed else matrix
        if not self.int8:
            return self.constant(name, stored)
        values, scales = quantise_rows(matrix.reshape(len(matrix), -1))
        values = values.reshape(matrix.shape)
        inputs = [
            self.constant(f"{name}_int8", values.T if transposed else values),
            self.constant(f"{name}_scale", scales),
            self.constant(f"{name}_zero", np.zeros(len(scales), dtype=np.int8)),
        ]
        return self.node("DequantizeLinear", inputs, name, axis=stored.ndim - 1 if transposed else 0)

    def stacked(self, name: str, matrices: Sequence[NDArray[np.float32]]) -> str:
        """Store a recurrent layer's matrices, one [R, N] per direction; return the name of float32[D, R, N]."""
        if not self.int8:
            return self.constant(name, np.stack(matrices))
        flat = self.matrix(f"{name}_flat", np.concatenate(matrices))
        return self.node("Reshape", [flat, self.integers(len(matrices), *matrices[0].shape)], name)


def quantise_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8[R, N] and one scale float32[R] per row of float32[R, N]: symmetric, zero point 0, no clipping."""
    largest = np.abs(matrix).max(axis=1)
    scales = np.where(largest > 0, largest / INT8_MAX, 1.0).astype(np.float32)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales
