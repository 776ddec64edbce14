"""The sha256 of models/default/manifest.json, which makes the bundle inside the package trusted.

Written by the exporter (`contracts.bundle.pinned_source`), not by hand. Empty while no bundle is shipped.
"""

from typing import Final

DEFAULT_MANIFEST_SHA256: Final[str] = "861f9957c20a6bd522fc49b1a5e3dd8cac5d5bbc3300e4fff42f16da24570005"
