"""The sha256 of models/default/manifest.json, which makes the bundle inside the package trusted.

Written by the exporter (`contracts.bundle.pinned_source`), not by hand. Empty while no bundle is shipped.
"""

from typing import Final

DEFAULT_MANIFEST_SHA256: Final[str] = "2992e0fee1b483a72eaa4736a5ef8f28a89821e1f473eec1e678faad3a9aa98c"
