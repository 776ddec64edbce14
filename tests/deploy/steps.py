"""The first steps of docs/aggregator.md as they stand there: which block, and where it is run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "aggregator.md").read_text()
PLACES = {"on the server": "server", "on the gateway": "gateway", "where the authority is kept": "authority"}


def steps() -> list[tuple[str, str]]:
    """Return the page's blocks of sh, each with its place, in their order."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        first, _, rest = block.partition("\n")
        found.append((PLACES[first.removeprefix("# ")], rest))
    return found
