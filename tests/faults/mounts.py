"""Small file systems that a test may fill, freeze and cut: a tmpfs, and ext4 in a file. Both are gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def need_mounts() -> None:
    """Skip the test where file systems cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if missing := [tool for tool in ("mount", "umount", "mkfs.ext4") if shutil.which(tool, path=_PATH) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[Path]:
    """Give a folder that is a file system of its own with so much room, in memory."""
    need_mounts()
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


def make_image(path: Path, *, size_bytes: int) -> Path:
    """Make ext4 in a file."""
    need_mounts()
    with path.open("wb") as file:
        file.truncate(size_bytes)
    _run("mkfs.ext4", "-q", str(path))
    return path


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Give the folder at which an image is mounted; what its journal holds is replayed by that."""
    folder.mkdir(exist_ok=True)
    try:
        _run("mount", "-o", "loop", str(image), str(folder))
    except RuntimeError as exc:
        if "loop device" in str(exc):
            pytest.skip(f"no loop device: {exc}")
        raise
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    for _ in range(50):
        with contextlib.suppress(RuntimeError):
            _run("umount", str(folder))
            return
        time.sleep(0.1)  # somebody was just killed and still has a file open
    _run("umount", "-l", str(folder))


def still_copy(image: Path, copy: Path, *, most: int = 50) -> bool:
    """Copy an image as it stands at one moment; return whether such a moment was found.

    Two copies that are equal, the second begun after the first had ended, are both the image as it was in between;
    one copy alone could mix two moments, which no power cut does.
    """
    before = image.read_bytes()
    for _ in range(most):
        after = image.read_bytes()
        if before == after:
            copy.write_bytes(after)
            return True
        before = after
    return False
