"""Frames in, flow records out: the loop over hops 1 to 4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowfeatures.settings import FlowSettings
from flowfeatures.table import FlowTable

if TYPE_CHECKING:
    from flowfeatures.files import Capture
    from flowfeatures.frames import FrameBlock

REPLAY_FLOW_ID_KEY = b"penstock-replay\0"
"""Flow ids must be equal in two replays of one capture; a live agent brings a key of its own."""


class FlowMeter:
    """Turn the frames of captures into flow records.

    Several captures may be read in turn, as if they were one. Records come as arrays of dtype RECORD, in the order in
    which flows end in packet time; what is still alive leaves at `flush`. `read`, `add`, `advance` and `flush` are
    iterators: what is not iterated does not happen.

    `hash_seed` (16 octets, random unless given) places flows in memory and shows in no record; `flow_id_key` (16
    octets) names them. One thread at a time may use a meter; meters of several threads run at the same time.

    Raises ValueError where a key has not 16 octets.
    """

    def __init__(
        self,
        settings: FlowSettings | None = None,
        *,
        flow_id_key: bytes = REPLAY_FLOW_ID_KEY,
        hash_seed: bytes | None = None,
    ) -> None:
        self.settings = settings or FlowSettings()
        self._table = FlowTable(self.settings, flow_id_key, hash_seed)

    def read(self, capture: Capture, *, packet_labels: NDArray[np.uint8] | None = None) -> Iterator[NDArray[np.void]]:
        """Yield RECORD[n] for what ends while the capture is read; flows alive at its end stay.

        `packet_labels[k]` is the label of the capture's k-th frame, counted from 1; a record carries the last one of
        its packets that is not zero.

        Raises what `Capture.read_block` raises, after all records due before that place.
        """
        for block in capture.blocks():
            yield from self.add(block, packet_labels=packet_labels)

    def add(self, block: FrameBlock, *, packet_labels: NDArray[np.uint8] | None = None) -> Iterator[NDArray[np.void]]:
        """Account the block's frames, in order; yield RECORD[n] for what ended meanwhile.

        The block may be filled anew when the iterator is exhausted: no record refers to its octets.
        """
        at = 0
        while at < block.count:
            at = self._table.add_frames(block, at, packet_labels)
            if at < block.count:
                yield self._table.take_records()
        if self._table.waiting:
            yield self._table.take_records()

    def shed(self, block: FrameBlock) -> None:
        """Decode and count the block's frames, and account them in no flow: a live reader is too far behind.

        Their time passes all the same, once `advance` is told of it.
        """
        self._table.shed_frames(block)

    def advance(self, now_us: int) -> Iterator[NDArray[np.void]]:
        """Move the flow clock to `now_us` without a packet; yield RECORD[n] for what was due before it.

        For a live wire that has fallen quiet. A packet stamped earlier may still follow: it is late, and counts as
        docs/decisions/0002 says. The clock does not step back here.
        """
        done = False
        while not done:
            done = self._table.advance(now_us)
            if self._table.waiting:
                yield self._table.take_records()

    def flush(self) -> Iterator[NDArray[np.void]]:
        """Yield RECORD[n] for every flow still alive: the input has ended."""
        done = False
        while not done:
            done = self._table.flush()
            if self._table.waiting:
                yield self._table.take_records()

    @property
    def clock_us(self) -> int:
        """Packet time the meter has reached, in microseconds since the epoch."""
        return self._table.clock_us

    @property
    def counters(self) -> dict[str, Any]:
        """Return what was counted so far.

        packets = decoded + the sum of undecoded (by reason); decoded = metered, each in its flow, + shed_packets; flows
        opened, records left (partial ones among them), super_frames (IP packets above 1,500 octets), evicted_flows
        (table full), emergencies (times its filling up has shortened the timeouts), live_flows.
        """
        return self._table.counters
