"""The errors of a live interface that no other error fits.

CaptureError             71  the kernel refuses to capture an interface
└── RingRefused          71  it gives no ring, or none of this size
"""

from __future__ import annotations

from contracts.errors import PenstockError


class CaptureError(PenstockError):
    """The kernel refuses to capture on this interface, for a reason other than a missing privilege."""

    exit_code = 71


class RingRefused(CaptureError):
    """The kernel gives no ring of this size, or of this kind."""
