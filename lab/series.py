"""The list of recordings that training uses, `lab/recordings.txt`: which there are, and which are still to be made."""

from __future__ import annotations

from pathlib import Path

from contracts.errors import UsageError

DEFAULT_LIST = Path(__file__).with_name("recordings.txt")


def read_series(path: Path) -> dict[int, list[str]]:
    """Return seed -> options of `penstock-lab record`, in the order of the file; raises UsageError."""
    series: dict[int, list[str]] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    for number, line in enumerate(lines, start=1):
        seed, *options = line.partition("#")[0].split() or [""]
        if not seed:
            continue
        if not seed.isdecimal() or int(seed) in series:
            raise UsageError(f"{path}:{number}: {seed!r} is no seed, or stands there twice")
        series[int(seed)] = options
    return series


def folder_of(seed: int, output: Path) -> Path:
    """Return where the recording of a seed lies."""
    return output / f"seed-{seed}"


def still_missing(series: dict[int, list[str]], output: Path) -> list[int]:
    """Return the seeds without a recording; its ground truth is written last, so a half one does not count."""
    return [seed for seed in series if not (folder_of(seed, output) / "ground_truth.json").exists()]
