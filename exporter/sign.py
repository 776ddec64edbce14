"""Ed25519 keys that vouch for bundles: making a pair, reading the private half, signing a manifest.

The private key is PEM (PKCS #8) in a file of its own that nobody else may read; it is used where bundles are packed and
never stands in a bundle, on a gateway or in the tree. The public half goes to the gateways' trust folder
(`contracts.trust`). Trap: the signature covers the bytes of manifest.json, which holds the sha256 of every other file;
whoever writes the manifest again signs again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from contracts.bundle import MANIFEST, SIGNATURE
from contracts.errors import OutputError
from contracts.files import open_regular
from training.errors import KeyRefused

OWNER_ONLY = 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO
MAX_KEY_BYTES = 4096


def make_key(path: Path) -> str:
    """Write a new private key (mode 0600) and PATH.pub beside it; return the public key's fingerprint.

    Raises OutputError where either file exists already: a key that was overwritten cannot be had back.
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key()
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=OWNER_ONLY)
    try:
        _write_new(public_path(path), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), mode=0o644)
    except OutputError:
        path.unlink()
        raise
    return fingerprint(public)


def public_path(path: Path) -> Path:
    """Return where the public half of a key stands."""
    return path.with_name(path.name + ".pub")


def load_key(path: Path) -> Ed25519PrivateKey:
    """Return the private key in a file. Raises KeyRefused where it is none, or where others may read it."""
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & OTHERS:
                raise KeyRefused(f"key: {path} has mode {mode:04o}, wanted 0600: others may read it (chmod 600)")
            raw = file.read(MAX_KEY_BYTES)
    except OSError as exc:
        raise KeyRefused(f"key: cannot read {path}: {exc.strerror or exc}") from exc
    try:
        key = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:  # TypeError: it asks for a password
        raise KeyRefused(f"key: {path} is not a private key in PEM without a password") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefused(f"key: {path} is a {type(key).__name__.strip('_')}, wanted an Ed25519 private key")
    return key


def sign_manifest(folder: Path, key: Ed25519PrivateKey) -> None:
    """Write manifest.sig over manifest.json as it stands. The same manifest and key give the same bytes."""
    (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return 16 hex digits by which people compare keys: the beginning of the sha256 of the raw public key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not be there yet, with its mode from the first moment on."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
            file.write(content)
    except OSError as exc:
        raise OutputError(f"key: cannot write {path}: {exc.strerror or exc}") from exc
