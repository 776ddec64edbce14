"""One file read by both meters, and the tally of what was read."""

from pathlib import Path

from tests.flowfeatures.difference import disagreements
from tests.flowfeatures.meters import measure
from tests.flowfeatures.tally import DIFFERENTIAL_TALLY
from tests.oracle.meter import Settings


def compare(path: Path, how: Settings, *, capture: str | None = None) -> list[str]:
    """Return where the two meters disagree on one file, which is a capture of that name or made up here."""
    oracle, engine = (measure(path, meter=meter, settings=how) for meter in ("oracle", "engine"))
    return DIFFERENTIAL_TALLY.count(disagreements(oracle, engine), oracle, capture=capture)


def compare_all(paths: list[Path], *ways: Settings) -> list[str]:
    """Return the first disagreements of each capture."""
    return [
        f"{path.name} {how}: {line}"
        for path in paths
        for how in ways
        for line in compare(path, how, capture=str(path))[:5]
    ]
