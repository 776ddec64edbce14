"""The sha256 of models/default/manifest.json, which makes the bundle inside the package trusted.

Written by the exporter (`contracts.bundle.pinned_source`), not by hand. Empty while no bundle is shipped.
"""

from typing import Final

DEFAULT_MANIFEST_SHA256: Final[str] = "ae4b9a5a665207ffa02b69cbee7b51d18c46e512ff87acf84b9528de2a853c36"
