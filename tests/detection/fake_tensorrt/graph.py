"""What the fake TensorRT needs to know of an ONNX model, read octet by octet; and its scores.

Graphs of the few operators below are computed by numpy in float64, any other by onnxruntime. Syntax of Python 3.6.
"""

import numpy as np

# ruff: noqa: B905 - zip's strict is not for Python 3.6

LAYER_OF = {
    "MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY", "Conv": "CONVOLUTION", "Softmax": "SOFTMAX",
    "GRU": "ITERATOR", "LSTM": "ITERATOR",
}  # fmt: skip


# What the parser of 8.2 takes, of what an exporter of ours might want (onnx-tensorrt, operators.md of 8.0 and 8.4 and
# the changelog of 8.2), up to opset 13. Later releases take all of it.
_OPERATORS = """
    Abs Add And Cast Clip Concat Constant Conv Div Equal Erf Exp Expand Flatten Gather Gemm GlobalAveragePool
    GlobalMaxPool Greater GRU Identity LSTM Less Log LogSoftmax MatMul Max Min Mul Neg Not Or Pow ReduceMax ReduceMean
    ReduceMin ReduceSum Relu Reshape Shape Sigmoid Sign Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Tile
    Transpose Unsqueeze Where
"""
OPERATORS_OF_8_2 = set(_OPERATORS.split())


class Node:
    def __init__(self, op, inputs, outputs, attributes):
        self.op, self.inputs, self.outputs, self.attributes = op, inputs, outputs, attributes


class Graph:
    """Nodes, initialisers, and inputs and outputs as {name: shape} with -1 for the batch. Raises ValueError."""

    def __init__(self, model):
        self.model = model
        try:
            graph = dict(fields(model))[7]
            parts = list(fields(graph))
            opsets = [dict(fields(value)) for number, value in fields(model) if number == 8]
            self.opset = max(each.get(2, 0) for each in opsets)
            self.nodes = [_node(content) for number, content in parts if number == 1]
            self.constants = dict(_tensor(content) for number, content in parts if number == 5)
            self.inputs = dict(_value(content) for number, content in parts if number == 11)
            self.outputs = dict(_value(content) for number, content in parts if number == 12)
        except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError) as exc:
            raise ValueError(f"no ONNX model: {exc!r}") from exc
        if not self.inputs or not self.outputs:
            raise ValueError("no ONNX model")
        self._session = None

    def scores(self, windows, mask):
        """Return the outputs by name as float32."""
        if all(node.op in OPERATORS for node in self.nodes):
            values = {name: array.astype(np.float64) for name, array in self.constants.items()}
            values.update(windows=windows.astype(np.float64), mask=mask.astype(np.float64))
            for node in self.nodes:
                values[node.outputs[0]] = OPERATORS[node.op](node, [values[name] for name in node.inputs])
            return {name: values[name].astype(np.float32) for name in self.outputs}
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        names = list(self.outputs)
        return dict(zip(names, self._session.run(names, {"windows": windows, "mask": mask})))


def _softmax(_node, inputs):
    powers = np.exp(inputs[0] - inputs[0].max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


OPERATORS = {
    "ReduceSum": lambda node, inputs: inputs[0].sum(axis=int(inputs[1][0])),
    "ReduceMean": lambda node, inputs: inputs[0].mean(axis=1),
    "MatMul": lambda node, inputs: inputs[0] @ inputs[1],
    "Identity": lambda node, inputs: inputs[0],
    "Softmax": _softmax,
}


def fields(content):
    """Yield number and value of each field of a protobuf message: octets, or an integer."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(content, at)
        elif kind == 2:
            size, at = _varint(content, at)
            if at + size > len(content):
                raise IndexError("a field that ends behind the message")
            value, at = content[at : at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = content[at : at + size], at + size
        else:
            raise IndexError("no such wire type")
        yield tag >> 3, value


def _varint(content, at):
    value, shift = 0, 0
    while True:
        octet = content[at]
        value, shift, at = value | (octet & 0x7F) << shift, shift + 7, at + 1
        if octet < 0x80:
            return value, at


def _node(content):
    parts = list(fields(content))
    texts = {number: [value.decode() for each, value in parts if each == number] for number in (1, 2, 4)}
    attributes = {dict(fields(value))[1].decode(): dict(fields(value)).get(3) for each, value in parts if each == 5}
    return Node(texts[4][0], texts[1], texts[2], attributes)


def _tensor(content):
    parts = list(fields(content))
    named = dict(parts)
    dims = [value for number, value in parts if number == 1 and isinstance(value, int)]
    kind = {1: np.float32, 3: np.int8, 6: np.int32, 7: np.int64}.get(named[2])
    if kind is None or 9 not in named:
        return named[8].decode(), np.zeros(0, np.float32)
    return named[8].decode(), np.frombuffer(named[9], kind).reshape(dims)


def _value(content):
    named = dict(fields(content))
    shape = dict(fields(dict(fields(named[2]))[1]))[2] if named.get(2) else b""
    dims = [dict(fields(value)).get(1, -1) for number, value in fields(shape) if number == 1]
    return named[1].decode(), tuple(dims)
