"""Who attacks and who is attacked in one flow of a detection: nearly always its initiator and its responder.

Not where the flow is only the answer to something the meter could not join to it. A probe cut into fragments has no
ports, so the RST it provokes stands alone and seems to begin a flow; the ICMP error that a reflected datagram provokes
always does. The attacker then is who was answered.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.classes import NAMES
from flowfeatures import WINDOW_COLUMNS, WindowBatch

_SCAN: Final = NAMES.index("scan")
_REFLECTION: Final = NAMES.index("reflection")
_RST_PACKETS: Final = WINDOW_COLUMNS.index("rst_packets")
_TCP: Final[tuple[int, ...]] = (6,)
_ICMP: Final = (1, 58)


def attackers_and_victims(batch: WindowBatch, row: int, *, class_index: int) -> tuple[list[bytes], list[bytes]]:
    """Return W attackers and W victims, 16 address bytes each: the two ends of every record of a window."""
    flows = batch.flows[row]
    sources, targets = ([bytes(address) for address in flows[end]] for end in ("src", "dst"))
    for place in np.flatnonzero(_is_answer(batch, row, class_index)).tolist():
        sources[place], targets[place] = targets[place], sources[place]
    return sources, targets


def _is_answer(batch: WindowBatch, row: int, class_index: int) -> NDArray[np.bool_]:
    """Return bool[W]: records that can only be answers, if the window is an attack of that class.

    A flood may consist of lone RSTs or ICMP errors, so there they are taken as what they seem to be.
    """
    flows = batch.flows[row]
    is_lone = flows["bwd_packets"] == 0
    if class_index == _SCAN:
        is_lone &= batch.values[row, :, _RST_PACKETS] == flows["fwd_packets"]
        protocols = _TCP
    elif class_index == _REFLECTION:
        protocols = _ICMP
    else:
        protocols = ()
    answers: NDArray[np.bool_] = is_lone & (flows["fwd_packets"] > 0) & np.isin(flows["proto"], protocols)
    return answers
