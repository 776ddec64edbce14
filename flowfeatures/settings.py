"""When a flow ends: the settings of a flow table, in seconds, with the defaults of docs/FEATURES.md section 2."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Say when flows end and which records they leave behind.

    Raises ValueError where a time is negative or not a number, a timeout other than the linger is infinite or above
    ten years, or max_flows is below 1.
    """

    active_timeout_s: float = 120.0
    """A flow older than this is cut: it leaves a record and goes on with its counters reset."""
    tcp_idle_timeout_s: float = 60.0
    """A TCP flow without a packet for this long has ended."""
    other_idle_timeout_s: float = 15.0
    """The same for every other protocol."""
    half_open_timeout_s: float = 5.0
    """The same for a TCP flow of which only the initiator's SYNs were seen."""
    linger_s: float = 0.25
    """A closed TCP flow still takes packets for this long; `math.inf`: until it is idle."""
    partials: bool = False
    """Also emit partial records of live flows, after 0.25, 1, 5 s, then every 30 s, and at 8, 64, 512 packets."""
    vlan_in_key: bool = False
    """Keep flows of different VLANs apart. Off: a mirror port often tags one direction only."""
    max_flows: int = 65_536
    """Live flows kept (some 270 octets each, 1,000 from the fourth packet on). Beyond it half-open ones leave first,
    then those of few packets, then the oldest; and timeouts are shortened until 7 in 10 are left."""

    def __post_init__(self) -> None:
        ten_years_s = 10 * 366 * 86_400
        for name in ("active_timeout_s", "tcp_idle_timeout_s", "other_idle_timeout_s", "half_open_timeout_s"):
            value = getattr(self, name)
            if not 0 <= value <= ten_years_s:
                raise ValueError(f"{name}: {value}, wanted 0 to {ten_years_s} seconds")
        if not (0 <= self.linger_s <= ten_years_s or self.linger_s == math.inf):
            raise ValueError(f"linger_s: {self.linger_s}, wanted 0 to {ten_years_s} seconds, or inf")
        if not 1 <= self.max_flows <= 2**31:
            raise ValueError(f"max_flows: {self.max_flows}, wanted 1 to {2**31}")

    @classmethod
    def wtmc(cls) -> "FlowSettings":
        """Return the settings under which the corrected CICFlowMeter (WTMC 2021) can be compared with us."""
        return cls(
            active_timeout_s=120.0,
            tcp_idle_timeout_s=120.0,
            other_idle_timeout_s=120.0,
            half_open_timeout_s=120.0,
            linger_s=math.inf,
        )
