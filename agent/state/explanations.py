"""An incident's snapshot as the record keeps it: strict JSON, its numbers packed; what is read back is checked.

A packed array is base64 of zlib of float32: a window of 16 records and 102 columns takes some two kilobytes.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detection.incidents import IncidentUpdate
from detection.rules import Address
from detection.snapshot import Snapshot
from detection.state import StrictState, TimeUs
from flowfeatures import SCHEMA_ID, WINDOW_COLUMNS

MAX_ROWS: Final = 256
MAX_PACKED: Final = 4 * MAX_ROWS * len(WINDOW_COLUMNS)
Packed = Annotated[str, Field(max_length=2 * MAX_PACKED)]
Count = Annotated[int, Field(ge=0, le=1 << 64)]
Share = Annotated[float, Field(ge=-1e6, le=1e6)]


class KeptFlow(StrictState):
    """One record of the window: its flow, what the network made of it, and whether it is evidence."""

    src: Address
    dst: Address
    src_port: Annotated[int, Field(ge=0, le=65_535)]
    dst_port: Annotated[int, Field(ge=0, le=65_535)]
    proto: Annotated[int, Field(ge=0, le=255)]
    start_us: int
    end_us: int
    fwd_packets: Count
    bwd_packets: Count
    fwd_wire_bytes: Count
    bwd_wire_bytes: Count
    repeats: Count
    attention: Share | None
    alone: Share
    made_it: bool
    is_new: bool


class KeptRange(StrictState):
    """A device's usual range, `float32[F]` packed each."""

    records: Count
    low: Packed
    middle: Packed
    high: Packed


class Explanation(StrictState):
    """What was before the detector when an incident opened; `values` float32[n, F] packed."""

    schema_id: str
    device: Address
    due_us: TimeUs
    bundle: Annotated[str, Field(max_length=200)]
    columns: Annotated[dict[Annotated[str, Field(max_length=64)], Share], Field(max_length=16)]
    flows: Annotated[list[KeptFlow], Field(max_length=MAX_ROWS)]
    values: Packed
    medians: Packed
    usual: KeptRange | None

    @model_validator(mode="after")
    def _holds_together(self) -> Explanation:
        if self.schema_id != SCHEMA_ID:
            raise ValueError(f"made for columns {self.schema_id[:40]!r}, this program has {SCHEMA_ID!r}")
        columns = len(WINDOW_COLUMNS)
        unpacked(self.values, len(self.flows) * columns)
        for packed in [self.medians, *([] if (u := self.usual) is None else [u.low, u.middle, u.high])]:
            unpacked(packed, columns)
        return self

    @property
    def window(self) -> NDArray[np.float32]:
        """Return float32[n, F]."""
        return unpacked(self.values, len(self.flows) * len(WINDOW_COLUMNS)).reshape(len(self.flows), -1)


def explanation_of(update: IncidentUpdate, snapshot: Snapshot) -> Explanation:
    """Return what to keep of an incident's opening."""
    usual = snapshot.usual
    return Explanation(
        schema_id=SCHEMA_ID,
        device=snapshot.device.hex(),
        due_us=max(0, snapshot.due_us),
        bundle=snapshot.bundle[:200],
        columns={column: _share(np.float32(fall)) for column, fall in update.columns},
        flows=[_kept(snapshot, place) for place in range(len(snapshot.flows))],
        values=packed(snapshot.values),
        medians=packed(snapshot.medians),
        usual=None
        if usual is None
        else KeptRange(
            records=usual.records, low=packed(usual.low), middle=packed(usual.middle), high=packed(usual.high)
        ),
    )


def packed(values: NDArray[np.float32]) -> str:
    """Return an array as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, "<f4").tobytes())).decode()


def unpacked(text: str, count: int) -> NDArray[np.float32]:
    """Return an array of so many numbers, those that are none as 0. Raises ValueError for what is not."""
    try:
        inflate = zlib.decompressobj()
        octets = inflate.decompress(base64.b64decode(text, validate=True), 4 * count + 1)
    except (binascii.Error, zlib.error) as exc:
        raise ValueError(f"a packed array cannot be read: {exc}") from exc
    if len(octets) != 4 * count:
        raise ValueError(f"a packed array of {len(octets) // 4}{'+' * (not inflate.eof)} numbers, wanted {count}")
    return np.nan_to_num(np.frombuffer(octets, "<f4").astype(np.float32))


def _kept(snapshot: Snapshot, place: int) -> KeptFlow:
    flow, attention = snapshot.flows[place], snapshot.attention
    return KeptFlow(
        src=flow["src"].tobytes().hex(),
        dst=flow["dst"].tobytes().hex(),
        **{
            name: int(flow[name])
            for name in ("src_port", "dst_port", "proto", "start_us", "end_us", "fwd_packets", "bwd_packets")
        },
        fwd_wire_bytes=int(flow["fwd_wire_bytes"]),
        bwd_wire_bytes=int(flow["bwd_wire_bytes"]),
        repeats=int(snapshot.repeats[place]),
        attention=None if attention is None else _share(attention[place]),
        alone=_share(snapshot.alone[place]),
        made_it=bool(snapshot.made_it[place]),
        is_new=bool(snapshot.is_new[place]),
    )


def _share(value: np.float32) -> float:
    return float(np.clip(np.nan_to_num(value), -1e6, 1e6))
