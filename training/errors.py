"""Errors of training and exporter, below the tree of `contracts.errors`, with their exit codes.

PenstockError            70
|-- DataMissing          66  (contracts) a split that must teach or choose holds no window
|-- MissingExtra         69  (contracts) torch, onnx or scikit-learn is not installed
|-- SplitError           78  a capture, device or seed stands on two sides, or may not train at all
|-- CheckpointError      78  a checkpoint is missing, torn, or made for other columns or classes
`-- ParityError          70  the exported graph does not say what the trained network says
"""

from __future__ import annotations

from contracts.errors import PenstockError


class SplitError(PenstockError):
    """A capture, device or seed stands on two sides, or may not train at all."""

    exit_code = 78


class CheckpointError(PenstockError):
    """A checkpoint is missing, torn, or made for other columns or classes."""

    exit_code = 78


class ParityError(PenstockError):
    """The exported graph does not say what the trained network says."""

    exit_code = 70
