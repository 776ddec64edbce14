"""Until when a certificate holds, as a doctor says it. Imports cryptography: only what looks for faults comes here."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from contracts.files import open_regular
from contracts.findings import Finding, fail, ok, warn

SOON_DAYS: Final = 30
MAX_PEM_BYTES: Final = 1 << 20


def first_to_end(path: Path) -> x509.Certificate:
    """Return of a PEM file's certificates the one that ends first. Raises OSError, or ValueError where it has none."""
    with open_regular(path) as file:
        found = x509.load_pem_x509_certificates(file.read(MAX_PEM_BYTES))
    return min(found, key=lambda each: each.not_valid_after_utc)


def expiry(name: str, certificate: x509.Certificate, *, renewed: str) -> Finding:
    """Say how long it holds. `renewed` is what to do once a new one is there."""
    now = datetime.datetime.now(datetime.timezone.utc)
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    days = (ends - now).total_seconds() / 86_400
    if days <= 0:
        return fail("certificate", f"{name}: ended on {ends:%Y-%m-%d}", f"renew it, then {renewed}")
    if begins > now:
        return fail("certificate", f"{name}: begins on {begins:%Y-%m-%d}", "is the clock right?")
    if days < SOON_DAYS:
        return warn("certificate", f"{name}: ends in {days:.0f} days, on {ends:%Y-%m-%d}", "renew it")
    return ok("certificate", f"{name}: until {ends:%Y-%m-%d}")
