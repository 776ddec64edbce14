"""What a connection is protected by: TLS contexts and secrets, from files or from systemd's credentials.

No message raised here holds a secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contracts.errors import UsageError
from contracts.files import open_regular

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
MAX_SECRET_BYTES: Final = 4096


def secret_file(name: str, environ: Mapping[str, str]) -> Path:
    """Return where a secret stands: a bare name is one of systemd's credentials (LoadCredential=), if there is one.

    >>> secret_file("mqtt-password", {"CREDENTIALS_DIRECTORY": "/run/credentials/penstock.service"}).parent.name
    'penstock.service'
    >>> str(secret_file("/etc/penstock/secret", {}))
    '/etc/penstock/secret'
    """
    folder = environ.get(CREDENTIALS)
    if folder and "/" not in name and name not in {"", ".", ".."}:
        return Path(folder) / name
    return Path(name)


def read_password(path: Path) -> str:
    """Return the first line of a password file. Raises UsageError where there is none."""
    try:
        with open_regular(path) as file:
            secret = file.readline(MAX_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"mqtt-password-file: cannot read {path}: {getattr(exc, 'strerror', None) or 'no text'}"
        ) from exc
    if not secret:
        raise UsageError(f"mqtt-password-file: the first line of {path} is empty")
    return secret


def tls_context(
    option: str, *, ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return a client's context, TLS 1.2 or later, that checks certificate and name.

    `ca` stands in for the system's authorities; `cert` and `key` are ours. Raises UsageError that begins with the
    option's name, `mqtt` or `syslog`.
    """
    if key is not None and cert is None:
        raise UsageError(f"{option}-key: a key wants its certificate (--{option}-cert)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca is None:
            context.load_default_certs()
        else:
            open_regular(ca).close()  # OpenSSL would wait for a pipe
            context.load_verify_locations(ca)
    except (OSError, ValueError) as exc:
        raise UsageError(f"{option}-ca: {ca}: {_file_complaint(exc, 'no certificate in PEM')}") from exc
    if cert is not None:
        try:
            for file in (cert, key or cert):
                open_regular(file).close()
            # An encrypted key would make OpenSSL ask on the terminal; with an empty password it is refused instead.
            context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as exc:
            complaint = _file_complaint(exc, "no certificate and unencrypted key in PEM that belong together")
            raise UsageError(f"{option}-cert: {cert}, {key or cert}: {complaint}") from exc
    return context


def place_text(host: str, port: int) -> str:
    """Return a host and port as messages name them.

    >>> place_text("::1", 8883)
    '[::1]:8883'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _file_complaint(exc: Exception, otherwise: str) -> str:
    is_about_the_file = isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError)
    return (exc.strerror if is_about_the_file and isinstance(exc, OSError) else None) or otherwise
