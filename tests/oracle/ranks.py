"""Which flow a full table can best spare: two queues, `half_open` before `embryo`; behind both, the oldest entry.

A flow stands in at most one queue and is only ever put at the tail of one. The trap: packets are counted since the
flow came to be, so a cut at the active timeout does not make it young again; it takes it out for good.
"""

from tests.oracle.flow import Flow
from tests.oracle.packet import ACK, SYN, TCP, Packet

LAST_EMBRYO_PACKET = 3


class Ranks:
    """The two queues; dictionaries without values, since they keep their order and forget a member at once."""

    def __init__(self) -> None:
        self.half_open: dict[Flow, None] = {}
        self.embryo: dict[Flow, None] = {}

    def enter(self, flow: Flow, first: Packet) -> None:
        """Put a flow that opens with this packet at the tail of its queue."""
        is_bare_syn = flow.proto == TCP and first.flags & (SYN | ACK) == SYN
        (self.half_open if is_bare_syn else self.embryo)[flow] = None

    def after_packet(self, flow: Flow) -> None:
        """Move the flow on, if the packet that it has just taken changes where it stands."""
        is_grown = flow.packets_seen > LAST_EMBRYO_PACKET
        if flow in self.half_open and not flow.is_half_open:
            del self.half_open[flow]
            if not is_grown:
                self.embryo[flow] = None
        elif is_grown:
            self.embryo.pop(flow, None)

    def leave(self, flow: Flow) -> None:
        """Take the flow out of either queue: it was cut, or its entry has left the table."""
        self.half_open.pop(flow, None)
        self.embryo.pop(flow, None)

    def first(self) -> Flow | None:
        """Return the flow to spare first, or None where both queues are empty."""
        return next(iter(self.half_open), None) or next(iter(self.embryo), None)
