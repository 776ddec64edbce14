"""Bundles written for tests: a model one can compute by hand, in a folder as the exporter leaves it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray

from contracts.bundle import MANIFEST, MODEL, SIGNATURE, Manifest, write_manifest
from contracts.classes import NAMES
from flowfeatures import WINDOW_COLUMNS
from tests.detection.onnx_model import C, F, model_bytes
from tests.detection.windows import make_manifest


def write_refusal_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle that calls it a scan when a device's flows are refused; `changes` go into its manifest.

    The logit of benign is 10 times the number of records in the window, that of scan the sum over them of 100 times the
    refused flows of the last 10 s.
    """
    weights = np.zeros((F, C), np.float32)
    for column in (name for name in WINDOW_COLUMNS if name.startswith("is_")):
        weights[WINDOW_COLUMNS.index(column), NAMES.index("benign")] = 10.0
    weights[WINDOW_COLUMNS.index("failed_10s"), NAMES.index("scan")] = 100.0
    return _write(folder, weights, make_manifest().model_copy(update=changes))


def write_nervous_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle to which every window is an attack: all classes score 1/11 and all thresholds are below."""
    return _write(folder, np.zeros((F, C), np.float32), make_manifest(open_at=0.05).model_copy(update=changes))


def write_wild_bundle(folder: Path, **changes: Any) -> Path:
    """Write a bundle that gives numbers beyond 1 as probabilities, but only of windows with packets in them."""
    weights = np.zeros((F, C), np.float32)
    weights[WINDOW_COLUMNS.index("is_tcp")] = 5.0
    return _write(folder, weights, make_manifest().model_copy(update=changes), last="Identity")


def sign(folder: Path, trust: Path) -> Path:
    """Sign a bundle with a key of its own, whose public half goes into the folder of trusted keys; return it."""
    key = Ed25519PrivateKey.generate()
    trust.mkdir(mode=0o755, exist_ok=True)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (trust / f"{folder.name}.pub").write_bytes(public)
    (trust / f"{folder.name}.pub").chmod(0o644)
    (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))
    return folder


def _write(folder: Path, weights: NDArray[np.float32], manifest: Manifest, *, last: str = "Softmax") -> Path:
    model = model_bytes(weights, last=last)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model)
    files = {MODEL: hashlib.sha256(model).hexdigest()}
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    return folder
