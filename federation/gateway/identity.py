"""A gateway's own Ed25519 key, by which the aggregator knows its updates: made at first need, mode 0600, never sent.

The public half stands beside it (`key.pub`) and goes to the aggregator by the operator's hand, at enrolment.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contracts.errors import ConfigError, OutputError
from contracts.files import open_regular
from contracts.whole_file import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE: Final = "key.pem"
PUBLIC_FILE: Final = "key.pub"
MAX_KEY_BYTES: Final = 4096


def own_key(folder: Path) -> Ed25519PrivateKey:
    """Return the gateway's key in a folder, made where there is none.

    Raises ConfigError where it is no key or others may read it, OutputError where it cannot be written.
    """
    path = folder / KEY_FILE
    if not os.path.lexists(path):
        _make(folder)
    try:
        return _read(path)
    except OSError as exc:
        raise ConfigError(f"key: cannot read {path}: {exc.strerror or exc}") from exc


def _read(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with open_regular(path, follow_link=False) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"key: {path} has mode {mode:04o}, wanted 0600: others may read it (chmod 600)")
        raw = file.read(MAX_KEY_BYTES)
    try:
        key = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"key: {path} is not a private key in PEM without a password") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key: {path} is a {type(key).__name__.strip('_')}, wanted an Ed25519 private key")
    return key


def _make(folder: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be made: {exc.strerror or exc}") from exc
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_whole(folder / PUBLIC_FILE, public, mode=0o644)
    write_whole(folder / KEY_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
