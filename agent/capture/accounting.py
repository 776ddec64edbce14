"""Where every frame and every window went: four sums that must come out even, at any moment.

    seen by the kernel = read + dropped + outgoing left out + malformed + abandoned + standing in the ring
    read               = decoded + undecoded, by reason
    decoded            = metered + shed packets
    windows due        = scored + shed windows + those that wait to be scored

Each number is counted where it happens and none is derived from the others, so a sum that does not come out even means
that something was lost. Two tolerances are stated, not assumed: `meanwhile` frames arrived while the ring was being
counted, `in_hand` frames were handed out and are being decoded. Both are 0 once a capture was stopped and read to its
end, between two blocks of a quiet wire, and in replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.capture.source import Counts


@dataclass(frozen=True, kw_only=True)
class Accounting:
    """The numbers of one run at one moment."""

    kernel: Counts
    decoded: int = 0
    undecoded: Mapping[str, int] = field(default_factory=dict)
    metered: int = 0
    shed_packets: int = 0
    in_hand: int = 0
    windows_due: int = 0
    windows_scored: int = 0
    windows_shed: int = 0
    windows_waiting: int = 0

    @classmethod
    def of(cls, kernel: Counts, meter: Mapping[str, Any], **others: int) -> Accounting:
        """Return the accounts of a source's counts and a meter's counters; `others` are fields of this class."""
        counted = {name: int(meter[name]) for name in ("decoded", "metered", "shed_packets")}
        return cls(kernel=kernel, undecoded=dict(meter["undecoded"]), **counted, **others)

    def check(self) -> list[str]:
        """Return the sums that do not come out even, one line each with its numbers; empty where all do.

        >>> Accounting(kernel=Counts(seen=5, dropped=1, read=3), decoded=3, metered=3).check()
        ['seen 5 is not read 3 + dropped 1 + outgoing 0 + malformed 0 + abandoned 0 + standing 0 (meanwhile 0)']
        """
        kernel = self.kernel
        undecoded = sum(self.undecoded.values())
        at_hand = kernel.read + kernel.outgoing + kernel.malformed + kernel.abandoned + kernel.standing
        found = []
        if not 0 <= kernel.seen - kernel.dropped - at_hand <= kernel.meanwhile:
            found.append(
                f"seen {kernel.seen} is not read {kernel.read} + dropped {kernel.dropped} + outgoing {kernel.outgoing} "
                f"+ malformed {kernel.malformed} + abandoned {kernel.abandoned} + standing {kernel.standing} "
                f"(meanwhile {kernel.meanwhile})"
            )
        if not 0 <= kernel.read - self.decoded - undecoded <= self.in_hand:
            found.append(
                f"read {kernel.read} is not decoded {self.decoded} + undecoded {undecoded} (in hand {self.in_hand})"
            )
        if self.decoded != self.metered + self.shed_packets:
            found.append(f"decoded {self.decoded} is not metered {self.metered} + shed packets {self.shed_packets}")
        if self.windows_due != self.windows_scored + self.windows_shed + self.windows_waiting:
            found.append(
                f"windows due {self.windows_due} is not scored {self.windows_scored} + shed {self.windows_shed} "
                f"+ waiting {self.windows_waiting}"
            )
        return found
