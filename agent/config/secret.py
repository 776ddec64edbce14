"""Secrets named in the configuration: a file, or a systemd credential; never the configuration itself.

A credential (`LoadCredential=` in the unit, systemd 247 and later) stands in $CREDENTIALS_DIRECTORY. No message here
holds a secret. A file others may write is refused; one others may read is only warned of, since a container's secrets
are such files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.config.reading import shown
from contracts.errors import ConfigError
from contracts.files import open_regular

DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
MAX_SECRET_BYTES: Final = 4096
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def secret_path(name: str, *, environ: Mapping[str, str]) -> Path:
    """Return the file a `password_file` setting means. Raises ConfigError for a credential that nobody passed on."""
    if name.startswith("/"):
        return Path(name)
    folder = environ.get(DIRECTORY, "")
    if not folder.startswith("/"):
        raise ConfigError(
            f"credential {name}: no ${DIRECTORY}, wanted LoadCredential={name}:... in the unit, or a path"
        )
    return Path(folder) / name


def read_secret(name: str, *, environ: Mapping[str, str]) -> str:
    """Return the first line of a secret. Raises ConfigError."""
    path = secret_path(name, environ=environ)
    try:
        with open_regular(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & WRITABLE_BY_OTHERS:
                seen = f"mode {stat.S_IMODE(mode):04o}"
                raise ConfigError(f"{shown(path)}: {seen}, wanted a secret that others cannot write (chmod go-w)")
            octets = file.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{shown(path)}: cannot be read: {exc.strerror or exc}") from exc
    line = octets.split(b"\n")[0].rstrip(b"\r")
    if len(line) > MAX_SECRET_BYTES:
        raise ConfigError(f"{shown(path)}: a line of more than {MAX_SECRET_BYTES:,} octets, wanted a secret")
    try:
        secret = line.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{shown(path)}: octets that are no UTF-8, wanted a secret in text") from None
    if not secret or "\0" in secret:
        raise ConfigError(f"{shown(path)}: its first line is {'empty' if not secret else 'no text'}, wanted a secret")
    return secret


def is_readable_by_others(path: Path) -> bool:
    """Tell whether anybody on this machine may read a file."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False
