"""Certificates that the configuration names, loaded as they will be used: a broken one shows before the start."""

from __future__ import annotations

import ssl
from pathlib import Path

from contracts.errors import ConfigError
from contracts.files import open_regular
from contracts.terminal import printable


def check_authorities(path: Path) -> None:
    """Raise ConfigError where a file holds no certificate to trust."""
    try:
        open_regular(path).close()  # OpenSSL would wait for a pipe
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{printable(str(path))}: {_why(exc, 'wanted a certificate in PEM')}") from exc


def server_context(cert: Path, private: Path) -> ssl.SSLContext:
    """Return what serves TLS with a certificate and its key. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        for path in (cert, private):
            open_regular(path).close()
        # An encrypted key would make OpenSSL ask on the terminal; with an empty password it is refused instead.
        context.load_cert_chain(cert, private, password="")
    except (OSError, ValueError) as exc:
        wanted = "wanted a certificate and its unencrypted key in PEM"
        names = f"{printable(str(cert))}, {printable(str(private))}"
        raise ConfigError(f"{names}: {_why(exc, wanted)}") from exc
    return context


def _why(exc: Exception, otherwise: str) -> str:
    is_about_the_file = isinstance(exc, OSError) and not isinstance(exc, ssl.SSLError)
    return f"cannot be read: {exc.strerror}" if is_about_the_file and isinstance(exc, OSError) else otherwise
