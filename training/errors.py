"""Errors of training and exporter, below the tree of `contracts.errors`, with their exit codes.

PenstockError            70
|-- DataMissing          66  (contracts) a split that must teach, choose or judge holds nothing
|-- MissingExtra         69  (contracts) torch, onnx or scikit-learn is not installed
|-- OutputError          73  (contracts) a bundle, key or checkpoint cannot be written where it should go
|-- SplitError           78  a capture, device or seed stands on two sides, or may not train at all
|-- CheckpointError      78  a checkpoint is missing, torn, or made for other columns or classes
|-- KeyRefused           78  a signing key is missing, no key, or readable by others
`-- GateRefused           1  the bundle is not what the network was, or worse than the one it replaces
"""

from __future__ import annotations

from contracts.errors import PenstockError


class SplitError(PenstockError):
    """A capture, device or seed stands on two sides, or may not train at all."""

    exit_code = 78


class CheckpointError(PenstockError):
    """A checkpoint is missing, torn, or made for other columns or classes."""

    exit_code = 78


class KeyRefused(PenstockError):
    """A signing key is missing, no Ed25519 private key, or readable by others."""

    exit_code = 78


class GateRefused(PenstockError):
    """The bundle does not say what the network said, lost too much on the way, or is worse than the one it replaces."""

    exit_code = 1
