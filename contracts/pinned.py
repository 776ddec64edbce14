"""The sha256 of models/default/manifest.json, which makes the bundle inside the package trusted.

Written by the exporter (`contracts.bundle.pinned_source`), not by hand. Empty while no bundle is shipped.
"""

from typing import Final

DEFAULT_MANIFEST_SHA256: Final[str] = "ccac53daf8546b3f487183740a3b739ea88b1ddc88477379b3787e3dd2f49b97"
