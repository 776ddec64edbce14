"""The labelled captures at hand, each on its side of the split.

Reads the shared data folder's ground truth and the lab's recordings; either may be absent. A capture that no side of
`splits.toml` claims takes no part, and is counted.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from flowfeatures import CaptureFormatError, CaptureTruncated, UnknownLinkType, open_capture
from training.splits import SIDES, TEACHING_SIDES, Splits, lab_folder, refuse_shared_captures, shared_folder
from training.variants import make_variant, variants_of

CAPTURE_NAME = re.compile(r"\.(pcap|pcapng|cap|dmp)\d*(\.(gz|xz|zst))?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LabelledCapture:
    """One capture, where it comes from and which side it stands on. `name` is its path under data/ or lab/."""

    name: str
    source: str
    side: str
    truth: GroundTruth


@dataclass(eq=False)
class CapturesBySide:
    """All captures found, by side, and the names of those that no side claims."""

    sides: dict[str, list[LabelledCapture]] = field(default_factory=lambda: {side: [] for side in SIDES})
    unclaimed: list[str] = field(default_factory=list)

    def truths(self, side: str) -> list[GroundTruth]:
        """Return the ground truth of a side's captures."""
        return [capture.truth for capture in self.sides[side]]

    def add_variants(self, side: str) -> None:
        """Put the variants of a teaching side's captures beside them (see `variants`)."""
        for capture in list(self.sides[side]):
            for variant in variants_of(capture.source, capture.truth):
                if (truth := make_variant(capture.truth, variant)) is not None:
                    name = f"{capture.name}~{variant.name}"
                    self.sides[side].append(LabelledCapture(name, capture.source, side, truth))

    def by_source(self, side: str) -> dict[str, list[LabelledCapture]]:
        """Return a side's captures by source folder, iot_sentinel further by device."""
        found: dict[str, list[LabelledCapture]] = defaultdict(list)
        for capture in self.sides[side]:
            found[capture.source].append(capture)
        return dict(sorted(found.items()))


def find_captures(splits: Splits, *, shared: Path | None = None, lab: Path | None = None) -> CapturesBySide:
    """Return every labelled capture at hand on its side.

    `shared` and `lab` default to the folders of `splits`. Raises SplitError where one capture's bytes stand on a
    teaching side and on another.
    """
    found = CapturesBySide()
    for capture in _all_captures(splits, shared or shared_folder(), lab or lab_folder()):
        if not is_capture(capture.truth):
            continue
        if capture.side in found.sides:
            found.sides[capture.side].append(capture)
        else:
            found.unclaimed.append(capture.name)
    _refuse_leaks(found)
    return found


def is_capture(truth: GroundTruth) -> bool:
    """Return False for a file that a glob swept up and that is no capture, such as a note beside the captures.

    A file named in full, or named as captures are, is never passed over: that it is none is an error to be raised. So
    is a link layer that is not decoded.
    """
    if truth.path.name == Path(truth.entry.file).name or CAPTURE_NAME.search(truth.path.name):
        return True
    try:
        with open_capture(truth.path):
            return True
    except (UnknownLinkType, CaptureTruncated):
        return True
    except CaptureFormatError:
        return False


def _all_captures(splits: Splits, shared: Path | None, lab: Path) -> Iterator[LabelledCapture]:
    if shared is not None:
        root = (shared / "data").resolve()
        for truth in load_ground_truth(root / "ground_truth.json"):
            name = truth.path.resolve().relative_to(root).as_posix()
            yield LabelledCapture(name, name.split("/")[0], splits.side_of_data(name) or "", truth)
    for seed, folder in _recordings(lab):
        for truth in load_ground_truth(folder / "ground_truth.json"):
            yield LabelledCapture(f"lab/{folder.name}/{truth.path.name}", "lab", splits.side_of_seed(seed) or "", truth)


def _recordings(lab: Path) -> Iterator[tuple[int, Path]]:
    """Give (seed, folder) of finished recordings and of variants made of them (`seed-3~pace-0.3`), by seed."""
    folders = []
    for folder in lab.glob("seed-*"):
        number = folder.name.removeprefix("seed-").split("~")[0]
        if number.isdigit() and (folder / "ground_truth.json").is_file():
            folders.append((int(number), folder))
    yield from sorted(folders, key=lambda pair: (pair[0], pair[1].name))


def _refuse_leaks(found: CapturesBySide) -> None:
    """Raise SplitError if a capture that judges is also one that teaches.

    Equal captures of two devices on judging sides are no leak: two kettles may send the very same packets.
    """
    captures = [capture for side in found.sides.values() for capture in side]
    digests = {each.name: hashlib.sha256(each.truth.path.read_bytes()).hexdigest() for each in captures}
    taught = {digests[each.name] for each in captures if each.side in TEACHING_SIDES}
    refuse_shared_captures(
        {name: digest for name, digest in digests.items() if digest in taught},
        {each.name: each.side for each in captures if digests[each.name] in taught},
    )
