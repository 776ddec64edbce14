"""The head of a bundle's network, E numbers of the embedding to C classes, read from model.onnx and put back in place.

Federated learning changes the head alone, and a gateway has neither torch nor the package onnx. The exporter names the
head's initialisers (`head_w`, or `head_w_int8` and `head_w_scale`; `head_b`), so walking the file's outermost fields
finds them, and another head of the same size is written over them: the graph, and the length of the file, stay.
The trap: such a model has another sha256 than its manifest says. It can be measured; to serve it needs a new bundle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.classes import HEAD_NAMES
from contracts.errors import BundleCorrupt

MAX_EMBEDDING: Final = 1024
INT8_MAX: Final = 127
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW = 1, 2, 8, 9  # of a TensorProto
_FLOAT, _INT8 = 1, 3  # of TensorProto.DataType

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear map: logits = embedding @ weight.T + bias. `weight` float32[C, E], `bias` float32[C]."""

    weight: Floats
    bias: Floats

    @property
    def flat(self) -> Floats:
        """Return float32[P]: the weights row by row, then the biases."""
        return np.concatenate([self.weight.ravel(), self.bias]).astype(np.float32)

    @property
    def embedding(self) -> int:
        """Return E."""
        return int(self.weight.shape[1])

    @property
    def sha256(self) -> str:
        """Return what names this head: the sha256 of its numbers as float32, little end first."""
        return hashlib.sha256(self.flat.astype("<f4").tobytes()).hexdigest()

    def logits(self, embedding: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return float64[N, C] of embeddings [N, E]."""
        values: NDArray[np.float64] = embedding.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        return values

    def probabilities(self, embedding: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return float64[N, C], rows summing to 1."""
        return softmax(self.logits(embedding))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return shares


def head_of(flat: Floats, *, classes: int = len(HEAD_NAMES)) -> Head:
    """Return the head of float32[P]. Raises ValueError where P is not that of a head of so many classes."""
    width, left = divmod(flat.size - classes, classes)
    if flat.ndim != 1 or left or not 1 <= width <= MAX_EMBEDDING:
        raise ValueError(f"no head of {classes} classes has {flat.size} numbers")
    values = flat.astype(np.float32)
    return Head(values[: classes * width].reshape(classes, width), values[classes * width :])


def read_head(model: bytes) -> Head:
    """Return the head of a model.onnx. Raises BundleCorrupt where it has none that is stored as the exporter does."""
    tensors = _head_tensors(model)
    if "head_w" in tensors:
        weight = _array(model, tensors["head_w"], "<f4")
    elif {"head_w_int8", "head_w_scale"} <= set(tensors):
        scales = _array(model, tensors["head_w_scale"], "<f4")
        weight = _array(model, tensors["head_w_int8"], "i1").astype(np.float32)
        if weight.shape[:1] != scales.shape:
            raise BundleCorrupt(f"model: head of {weight.shape} with scales of {scales.shape}")
        weight = weight * scales[:, None]
    else:
        raise BundleCorrupt("model: holds no head_w, nor head_w_int8 and head_w_scale: its head cannot be read")
    bias = _array(model, tensors["head_b"], "<f4") if "head_b" in tensors else np.zeros(0, np.float32)
    if weight.ndim != 2 or not 1 <= weight.shape[1] <= MAX_EMBEDDING or bias.shape != (len(HEAD_NAMES),):
        raise BundleCorrupt(f"model: head of {weight.shape} and {bias.shape}, wanted ({len(HEAD_NAMES)}, E) and C")
    if len(weight) != len(bias) or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BundleCorrupt("model: its head is not a finite number per class and embedding")
    return Head(weight.astype(np.float32), bias.astype(np.float32))


def with_head(model: bytes, head: Head) -> bytes:
    """Return the model with another head in the place of its own, stored as that is: int8 per row, or float32.

    Raises BundleCorrupt where the model has no head of that size.
    """
    if read_head(model).weight.shape != head.weight.shape:
        raise BundleCorrupt(f"model: its head is not of {head.weight.shape}")
    tensors, changed = _head_tensors(model), bytearray(model)
    parts = {"head_b": head.bias.astype("<f4")}
    if "head_w" in tensors:
        parts["head_w"] = head.weight.astype("<f4")
    else:
        largest = np.abs(head.weight).max(axis=1)
        scales = np.where(largest > 0, largest / INT8_MAX, 1.0).astype("<f4")
        parts["head_w_scale"], parts["head_w_int8"] = scales, np.rint(head.weight / scales[:, None]).astype("i1")
    for name, values in parts.items():
        place, content = tensors[name], values.tobytes()
        changed[place.start : place.start + len(content)] = content
    return bytes(changed)


class _Tensor(NamedTuple):
    """Where an initialiser's octets stand in the file."""

    kind: int
    shape: tuple[int, ...]
    start: int
    octets: int


def _array(model: bytes, tensor: _Tensor, kind: str) -> NDArray[np.float32]:
    wanted = np.dtype(kind)
    count = int(np.prod(tensor.shape, dtype=np.int64))
    right = {"<f4": _FLOAT, "i1": _INT8}[kind]
    if tensor.kind != right or len(tensor.shape) > 2 or count * wanted.itemsize != tensor.octets:
        raise BundleCorrupt(f"model: an initialiser of its head has {tensor.octets} octets for shape {tensor.shape}")
    return np.frombuffer(model, wanted, count, tensor.start).reshape(tensor.shape)


def _head_tensors(model: bytes) -> dict[str, _Tensor]:
    """Return the initialisers of the head by name."""
    found: dict[str, _Tensor] = {}
    for field, start, end in _fields(model, 0, len(model)):
        if field != _MODEL_GRAPH:
            continue
        for inner, first, last in _fields(model, start, end):
            if inner != _GRAPH_INITIALIZER:
                continue
            name, tensor = _tensor(model, first, last)
            if name in {"head_w", "head_w_int8", "head_w_scale", "head_b"}:
                if name in found:
                    raise BundleCorrupt(f"model: holds {name} twice")
                found[name] = tensor
    return found


def _tensor(model: bytes, start: int, end: int) -> tuple[str, _Tensor]:
    name, kind, raw = "", 0, (0, 0)
    shape: list[int] = []
    for field, first, last in _fields(model, start, end):
        if field == _NAME:
            name = model[first:last].decode("utf-8", "replace")
        elif field == _DATA_TYPE:
            kind, _ = _varint(model, first, last)
        elif field == _DIMS:  # one by one, or packed
            at = first
            while at < last and len(shape) < 8:
                size, at = _varint(model, at, last)
                shape.append(size)
        elif field == _RAW:
            raw = first, last
    return name, _Tensor(kind, tuple(shape), raw[0], raw[1] - raw[0])


def _fields(model: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give the fields of a protobuf message: number, where the value begins and ends."""
    at = start
    while at < end:
        key, at = _varint(model, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            first, at = at, _varint(model, at, end)[1]
        elif wire == _BYTES:
            octets, first = _varint(model, at, end)
            at = first + octets
        elif wire in (_FIXED64, _FIXED32):
            first, at = at, at + (8 if wire == _FIXED64 else 4)
        else:
            raise BundleCorrupt(f"model: not an ONNX file: wire type {wire} at octet {at}")
        if at > end:
            raise BundleCorrupt(f"model: not an ONNX file: a field at octet {first} ends beyond octet {end}")
        yield number, first, at


def _varint(model: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= end:
            raise BundleCorrupt(f"model: not an ONNX file: cut off at octet {end}")
        octet = model[at]
        at += 1
        value |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:
            return value, at
    raise BundleCorrupt(f"model: not an ONNX file: a number of more than 10 octets before octet {at}")
