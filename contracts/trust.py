"""Who may vouch for a bundle: the public keys of a folder, and whether one of them signed.

A key is a file `NAME.pub`: PEM with an Ed25519 public key, as `penstock-export keygen` and `openssl genpkey` write it.
Whoever can write to the folder can vouch for anything, so a folder or key that others may write is refused, and so is a
file that is no key: passing over it in silence would hide a half-written rotation. Removing a file revokes its key.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contracts.errors import BundleUntrusted
from contracts.files import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TRUST_DIR: Final = Path("/etc/penstock/trust.d")
KEY_GLOB: Final = "*.pub"
SIGNATURE_BYTES: Final = 64
# A PEM of such a key has 113 octets; comments may stand before it.
MAX_KEY_BYTES: Final = 4096
MAX_KEYS: Final = 64
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def signer_of(message: bytes, *, signature: bytes, path: Path, trust: Path) -> str:
    """Return the name (without .pub) of the key in the folder `trust` that signed a message.

    `path` is where the signature came from, for the error. Raises BundleUntrusted where no key of the folder signed it,
    and where the folder or a key in it cannot be trusted itself.
    """
    from cryptography.exceptions import InvalidSignature

    if len(signature) != SIGNATURE_BYTES:
        raise BundleUntrusted(f"bundle: {path} has {len(signature)} bytes, wanted {SIGNATURE_BYTES}")
    seen = 0
    for name, key in trusted_keys(trust):
        seen += 1
        try:
            key.verify(signature, message)
        except InvalidSignature:
            continue
        return name
    raise BundleUntrusted(f"bundle: {path} is by none of the {seen} keys in {trust}, wanted one of them")


def trusted_keys(trust: Path) -> Iterator[tuple[str, Ed25519PublicKey]]:
    """Give the keys of a folder by name. Raises BundleUntrusted; a folder that is not there holds no key."""
    try:
        _refuse_writable(trust, os.stat(trust).st_mode)
        paths = sorted(trust.glob(KEY_GLOB))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise BundleUntrusted(f"trust: cannot read {trust}: {exc.strerror or exc}") from exc
    if len(paths) > MAX_KEYS:
        raise BundleUntrusted(f"trust: {trust} holds {len(paths)} keys, wanted at most {MAX_KEYS}")
    for path in paths:
        yield path.name.removesuffix(".pub"), read_public_key(path)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Return the Ed25519 public key of a PEM file. Raises BundleUntrusted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        with open_regular(path) as file:
            _refuse_writable(path, os.fstat(file.fileno()).st_mode)
            raw = file.read(MAX_KEY_BYTES)
    except OSError as exc:
        raise BundleUntrusted(f"trust: cannot read {path}: {exc.strerror or exc}") from exc
    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BundleUntrusted(f"trust: {path} is not a public key in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise BundleUntrusted(f"trust: {path} is a {type(key).__name__.strip('_')}, wanted an Ed25519 public key")
    return key


def _refuse_writable(path: Path, mode: int) -> None:
    if mode & WRITABLE_BY_OTHERS:
        seen = stat.S_IMODE(mode)
        raise BundleUntrusted(f"trust: {path} has mode {seen:04o}, wanted none that others may write (chmod go-w)")
