"""A maker's key, and a folder that trusts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def trust(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    """Return a trust folder that holds the public half of `key`."""
    folder = tmp_path / "trust.d"
    folder.mkdir(mode=0o755)
    (folder / "release-2026.pub").write_bytes(public_pem(key))
    return folder
