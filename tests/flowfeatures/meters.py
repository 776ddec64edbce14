"""The two meters behind one face: `measure(path, meter="oracle" | "engine")`.

Both give `Measured`: records in order of leaving, the counters, and the name of the error that ended the capture.
Flow ids are replaced by the order in which flows first leave a record, so that segmentation can be compared.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from flowfeatures import CaptureFormatError, CaptureTruncated, FlowMeter, FlowSettings, UnknownLinkType, open_capture
from tests.oracle.columns import NAMES
from tests.oracle.meter import Meter, Record, Settings
from tests.oracle.reader import NotACapture, Truncated, UnknownLink, read_frames

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


def measure(*paths: Path, meter: str, settings: Settings = Settings(), labels: Sequence[int] = ()) -> Measured:  # noqa: B008
    """Feed the captures in turn, then flush; a capture that breaks off ends the reading."""
    measured = measure_with_oracle if meter == "oracle" else measure_with_engine
    return measured(paths, settings, labels)


def measure_with_oracle(paths: Iterable[Path], settings: Settings, labels: Sequence[int]) -> Measured:
    """Run the plain-Python meter."""
    meter, records, error = Meter(settings), [], None
    try:
        for path in paths:
            for record in meter.read(read_frames(path), labels):
                records.append(record)
    except Truncated:
        error = "truncated"
    except UnknownLink:
        error = "link_type"
    except NotACapture:
        error = "format"
    records.extend(meter.flush())
    counters = vars(meter.counts) | {"undecoded": dict(meter.counts.undecoded), "live_flows": meter.live_flows}
    return Measured(renumbered(records), counters, error)


def measure_with_engine(paths: Iterable[Path], settings: Settings, labels: Sequence[int]) -> Measured:
    """Run the compiled meter."""

    meter, chunks, error = FlowMeter(FlowSettings(**asdict(settings))), [], None
    try:
        for path in paths:
            with open_capture(path) as capture:
                packet_labels = np.asarray(labels, np.uint8) if len(labels) else None
                for chunk in meter.read(capture, packet_labels=packet_labels):
                    chunks.append(chunk.copy())
    except CaptureTruncated:
        error = "truncated"
    except UnknownLinkType:
        error = "link_type"
    except CaptureFormatError:
        error = "format"
    chunks.extend(chunk.copy() for chunk in meter.flush())
    return Measured(renumbered([from_row(row) for chunk in chunks for row in chunk]), dict(meter.counters), error)


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
