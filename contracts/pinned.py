"""The sha256 of models/default/manifest.json, which makes the bundle inside the package trusted.

Written by the exporter (`contracts.bundle.pinned_source`), not by hand. Empty while no bundle is shipped.
"""

from typing import Final

DEFAULT_MANIFEST_SHA256: Final[str] = "c4ca439fed272cc956170cfba790d3f334303f958dac6cb83bfacc1a61980257"
