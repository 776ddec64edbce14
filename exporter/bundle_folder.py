"""Putting a bundle in its place: written beside it, loaded as a gateway would load it, moved there whole."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.bundle import Manifest, file_sha256, load_bundle, write_manifest
from contracts.errors import OutputError
from exporter.sign import sign_manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def write_bundle(
    folder: Path, contents: Mapping[str, bytes], manifest: Manifest, *, key: Ed25519PrivateKey | None
) -> str:
    """Write all files beside the folder, load them as a bundle, put them in its place; return the manifest's sha256.

    `manifest.files` is filled in here. Raises OutputError.
    """
    draft, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    try:
        for left_over in (draft, old):
            shutil.rmtree(left_over, ignore_errors=True)
        draft.mkdir(parents=True)
        for name, content in contents.items():
            (draft / name).write_bytes(content)
        files = {name: file_sha256(draft / name) for name in contents}
        digest = write_manifest(draft, manifest.model_copy(update={"files": files}))
        if key is not None:
            sign_manifest(draft, key)
        load_bundle(draft)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot write a bundle: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return digest
