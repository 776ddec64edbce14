"""The two meters behind one face: `measure(path, meter="oracle" | "engine")`, or a feed, piece by piece.

Both give `Measured`: records in order of leaving, the counters, and the name of the error that ended the capture.
Flow ids are replaced by the order in which flows first leave a record, so that segmentation can be compared.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from flowfeatures import CaptureFormatError, CaptureTruncated, FlowMeter, FlowSettings, UnknownLinkType, open_capture
from flowfeatures.files import Capture
from flowfeatures.frames import FrameBlock
from tests.oracle.columns import NAMES
from tests.oracle.meter import Meter, Record, Settings
from tests.oracle.reader import Frame, NotACapture, Truncated, UnknownLink, read_frames

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("PENSTOCK_SHARED", REPOSITORY / "../shared")).resolve()
METERS = ("oracle", "engine")
META = tuple(item.name for item in fields(Record) if item.name not in ("columns", "number"))


@dataclass
class Measured:
    """What a meter says of one or more captures."""

    records: list[Record]
    counters: dict[str, object]
    error: str | None
    """`truncated`, `format`, `link_type`, or None when every file was read to its end."""

    @property
    def final(self) -> list[Record]:
        """Records that end a flow."""
        return [record for record in self.records if not record.partial]


class OracleFeed:
    """The plain-Python meter."""

    def __init__(self, settings: Settings) -> None:
        self.meter = Meter(settings)
        self.records: list[Record] = []
        self.error: str | None = None

    def read(self, path: Path, *, labels: Sequence[int] = ()) -> None:
        """Read a capture; one that breaks off leaves its error, and nothing is read after it."""
        if self.error:
            return
        try:
            for record in self.meter.read(read_frames(path), labels):
                self.records.append(record)
        except Truncated:
            self.error = "truncated"
        except UnknownLink:
            self.error = "link_type"
        except NotACapture:
            self.error = "format"

    def read_frames(self, frames: Iterable[Frame]) -> None:
        """Read frames without a file round them."""
        self.records.extend(self.meter.read(frames))

    def advance(self, now_us: int) -> None:
        """Move the clock without a packet."""
        self.records.extend(self.meter.advance(now_us))

    def finish(self) -> Measured:
        """Flush; return all there was."""
        self.records.extend(self.meter.flush())
        counts = self.meter.counts
        counters = vars(counts) | {"undecoded": dict(counts.undecoded), "live_flows": self.meter.live_flows}
        return Measured(renumbered(self.records), counters, self.error)


class EngineFeed:
    """The compiled meter; `keys` are FlowMeter's own."""

    def __init__(self, settings: Settings, **keys: bytes) -> None:
        self.meter = FlowMeter(FlowSettings(**asdict(settings)), **keys)
        self.chunks: list[np.ndarray] = []
        self.error: str | None = None

    def read(self, path: Path, *, labels: Sequence[int] = ()) -> None:
        """Read a capture; one that breaks off leaves its error, and nothing is read after it."""
        packet_labels = np.asarray(labels, np.uint8) if len(labels) else None
        self._read(path, lambda capture: self._take(self.meter.read(capture, packet_labels=packet_labels)))

    def read_blocks(self, path: Path, *, block_frames: int, moments_us: Sequence[Sequence[int]] = ()) -> None:
        """Read a capture in blocks of so many frames; the clock moves to the n-th moments before the n-th block."""

        def feed(capture: Capture) -> None:
            block, moments = FrameBlock(block_frames), iter(moments_us)
            while capture.read_block(block):
                for now_us in next(moments, ()):
                    self.advance(now_us)
                self._take(self.meter.add(block))

        self._read(path, feed)

    def add(self, block: FrameBlock) -> None:
        """Account the frames of a block that came from no file."""
        self._take(self.meter.add(block))

    def _read(self, path: Path, feed: Callable[[Capture], None]) -> None:
        if self.error:
            return
        try:
            with open_capture(path) as capture:
                feed(capture)
        except CaptureTruncated:
            self.error = "truncated"
        except UnknownLinkType:
            self.error = "link_type"
        except CaptureFormatError:
            self.error = "format"

    def advance(self, now_us: int) -> None:
        """Move the clock without a packet."""
        self._take(self.meter.advance(now_us))

    def finish(self) -> Measured:
        """Flush; return all there was."""
        self._take(self.meter.flush())
        records = [from_row(row) for chunk in self.chunks for row in chunk]
        return Measured(renumbered(records), dict(self.meter.counters), self.error)

    def _take(self, chunks: Iterable[np.ndarray]) -> None:
        for chunk in chunks:
            self.chunks.append(chunk.copy())


FEEDS = {"oracle": OracleFeed, "engine": EngineFeed}


def measure(*paths: Path, meter: str, settings: Settings = Settings(), labels: Sequence[int] = ()) -> Measured:  # noqa: B008
    """Feed the captures in turn, then flush; a capture that breaks off ends the reading."""
    feed = FEEDS[meter](settings)
    for path in paths:
        feed.read(path, labels=labels)
    return feed.finish()


def from_row(row: np.void) -> Record:
    """Return an engine's row in the oracle's form; its flow id stands in `number`."""
    values = {name: row[name].item() for name in META if row[name].ndim == 0}
    for name in ("src", "dst", "src_mac", "dst_mac"):
        values[name] = row[name].tobytes()
    for name in ("partial", "half_open", "handshake", "group", "fwd_rst", "bwd_rst"):
        values[name] = bool(values[name])
    values["vlan"] = tuple(row["vlan"].tolist())
    return Record(number=int(row["flow_id"]), columns=row["columns"].tolist(), **values)


def column(record: Record, name: str) -> float:
    """Return one column of a record by name."""
    return record.columns[NAMES.index(name)]


def renumbered(records: list[Record]) -> list[Record]:
    """Return the records with flows numbered from 0 in the order in which they first left a record."""
    numbers: dict[int, int] = {}
    return [replace(record, number=numbers.setdefault(record.number, len(numbers))) for record in records]
