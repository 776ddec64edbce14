"""A flood of a million flows: with room for all of them, and under the default cap. Part of benchmarks.extract.

Every flow is a SYN and the victim's answer, and with an idle timeout longer than the flood all are alive at once.
nfstream reads it once, since that takes minutes, and not at all where its memory might not be at hand.
`python -m benchmarks.million CAPTURE` is the check, a process of its own outside every clock: it compares each record
with the generator. The trap: peak memory is of the whole process, mapped files among it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import harness, traffic
from benchmarks.harness import Bars, Spread
from benchmarks.marks import Marked

PACKETS = 2_000_000
IDLE_TIMEOUT_S = 300  # the flood lasts 200 s
BASELINE_BYTES = 6 << 30  # nfstream took 3.6 GB for these flows
BASELINE_LIMIT_S = 1800.0
MB_PER_MIB = 2**20 / 1e6
SEEN = np.dtype(
    [
        ("src", "u4"), ("src_port", "u2"), ("dst", "u4"), ("dst_port", "u2"), ("proto", "u1"),
        ("start_us", "i8"), ("end_us", "i8"), ("fwd_packets", "u4"), ("bwd_packets", "u4"),
    ]
)  # fmt: skip
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Million:
    """One side's figures on the flood of a million flows."""

    flows: int
    packets: int
    evicted: int | None
    emergencies: int | None
    decoded: int | None
    cpu_s: Spread
    packets_per_cpu_s: Spread
    peak_mib: Spread
    own_mib: Spread | None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Million:
        first = samples[0]
        counts = {name: int(first[name]) if name in first else None for name in ("evicted", "emergencies", "decoded")}
        own = [sample["own_bytes"] / 2**20 for sample in samples if "own_bytes" in sample]
        return cls(
            flows=int(first["flows"]),
            packets=int(first["packets"]),
            **counts,
            cpu_s=Spread.of([sample["cpu_s"] for sample in samples]),
            packets_per_cpu_s=Spread.of([sample["packets"] / sample["cpu_s"] for sample in samples]),
            peak_mib=Spread.of([sample["peak_bytes"] / 2**20 for sample in samples]),
            own_mib=Spread.of(own) if own else None,
        )

    def text(self) -> str:
        own = f" ({self.own_mib.median:.0f} without mapped files)" if self.own_mib else ""
        cap = f"  evicted {self.evicted:,} emergencies {self.emergencies}" if self.evicted is not None else ""
        rate = self.packets_per_cpu_s.scaled(1e-6).text(2)
        return (
            f"{self.flows:8,d} flows {self.packets:10,d} packets  cpu {self.cpu_s.text(2)} s  "
            f"{rate} M packets per CPU s  peak {self.peak_mib.median:.0f} MiB{own}{cap}"
        )


@dataclass(frozen=True)
class Flood:
    """All sides on the flood, what the check found, and why a side is missing."""

    packets: int
    sides: Mapping[str, Million]
    check: Mapping[str, int]
    left_out: Mapping[str, str]

    def marked(self) -> list[Marked]:
        roomy, capped, flows = self.sides["penstock"], self.sides["penstock_default"], self.packets // 2
        at_least, at_most = Marked.at_least, Marked.at_most
        rate = roomy.packets_per_cpu_s.median / 1e6
        return [
            at_least("million flows, room for all: records as generated", self.check["right"], flows, "records"),
            at_most("million flows, room for all: records beyond those", self.check["records"] - flows, 0, "records"),
            at_most("million flows, room for all: evicted", roomy.evicted or 0, 0, "flows"),
            at_least("million flows, room for all: M packets per CPU second", rate, 1.0, "M/s"),
            at_most("million flows, room for all: peak memory", roomy.peak_mib.high * MB_PER_MIB, 900.0, "MB"),
            at_most("million flows, default cap: peak memory", capped.peak_mib.high * MB_PER_MIB, 110.0, "MB"),
            at_most(
                "million flows, default cap: |decoded packets - packets in records|",
                abs((capped.decoded or 0) - capped.packets), 0, "packets",
            ),
        ]  # fmt: skip

    def record(self) -> dict[str, object]:
        return {**asdict(self), "idle_timeout_s": IDLE_TIMEOUT_S}

    def lines(self) -> list[str]:
        lines = [f"flood of {self.packets // 2:,} flows (idle {IDLE_TIMEOUT_S} s: without a cap all live at once):"]
        lines += [f"  {name:16s} {side.text()}" for name, side in self.sides.items()]
        lines += [f"  {name:16s} left out: {why}" for name, why in self.left_out.items()]
        checked = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in self.check.items())
        return [*lines, f"  penstock's records beside the generator: {checked}"]


def memory_available_bytes() -> int:
    """Return what the kernel thinks can be had without swapping."""
    return 1024 * int(harness.first_line_of("/proc/meminfo", "MemAvailable").split()[0])


def measure(*, packets: int, runs: int) -> Flood:
    capture = str(traffic.capture("flood", packets=packets))
    idle = str(IDLE_TIMEOUT_S)
    turns = {
        side: partial(harness.run_worker, "benchmarks.extractors", side, capture, idle)
        for side in ("penstock", "penstock_default")
    }
    sides = {name: Million.of(taken) for name, taken in harness.interleave(turns, runs=runs).items()}
    check = harness.run_worker("benchmarks.million", capture, str(packets))
    left_out = {}
    available = memory_available_bytes()
    wanted = BASELINE_BYTES * packets // PACKETS
    if available < wanted:
        left_out["nfstream"] = f"{available / 2**30:.1f} GiB of memory available, {wanted / 2**30:.1f} wanted"
    else:
        arguments = ("benchmarks.extractors", "nfstream", capture, idle)
        sides["nfstream"] = Million.of([harness.run_worker(*arguments, limit_s=BASELINE_LIMIT_S)])
    return Flood(packets, sides, {name: int(count) for name, count in check.items()}, left_out)


def plot(flood: Flood) -> Bars:
    return Bars(
        title=f"flood of {flood.packets // 2:,} flows: memory",
        unit="peak resident MiB",
        values={name: side.peak_mib for name, side in flood.sides.items()},
    )


def seen(batch: NDArray[np.void]) -> NDArray[np.void]:
    """Return what of each record the generator knows: SEEN[n]."""
    taken = np.empty(len(batch), SEEN)
    for name in SEEN.names or ():
        taken[name] = batch[name] if name not in ("src", "dst") else ipv4_numbers(batch[name])
    return taken


def ipv4_numbers(addresses: NDArray[np.uint8]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(addresses[:, 12:16]).view(">u4")[:, 0].astype(np.uint32)


def generated(packets: int) -> NDArray[np.void]:
    """Return what the records of the flood must hold: SEEN[n], in order of their sources."""
    flows = list(traffic.flood_flows(packets))
    wanted = np.zeros(len(flows), SEEN)
    start_us, source, port, _ = np.array(flows, np.int64).T
    wanted["start_us"], wanted["end_us"] = start_us, start_us + traffic.FLOOD_GAP_US // 2
    wanted["src"], wanted["src_port"] = source, port
    wanted["dst"], wanted["dst_port"], wanted["proto"] = traffic.FLOOD_VICTIM, 80, traffic.TCP
    wanted["fwd_packets"] = wanted["bwd_packets"] = 1
    return np.sort(wanted, order="src")


def check(capture: Path, *, packets: int) -> dict[str, int]:
    """Return how many records there are, how many are as generated, and how many 5-tuples came twice.

    `packets` is an even number, so that every SYN is answered.
    """
    from benchmarks.extractors import ROOM_FOR_ALL, compared
    from flowfeatures import FlowMeter, open_capture

    meter = FlowMeter(compared(idle_timeout_s=IDLE_TIMEOUT_S, max_flows=ROOM_FOR_ALL))
    with open_capture(capture) as opened:
        taken = np.concatenate([seen(batch) for part in (meter.read(opened), meter.flush()) for batch in part])
    taken.sort(order="src")
    wanted = generated(packets)
    # No source comes twice among those wanted, so one that comes twice here is a 5-tuple too many or a wrong one.
    once = taken[np.unique(taken["src"], return_index=True)[1]]
    places = np.searchsorted(once["src"], wanted["src"]).clip(max=len(once) - 1)
    return {
        "records": len(taken),
        "right": int((once[places] == wanted).sum()),
        "with_one_packet_each_way": int(((taken["fwd_packets"] == 1) & (taken["bwd_packets"] == 1)).sum()),
        "five_tuples_twice": len(taken) - len(np.unique(taken[["src", "src_port", "dst", "dst_port", "proto"]])),
    }


if __name__ == "__main__":
    print(json.dumps(check(Path(sys.argv[1]), packets=int(sys.argv[2]))))
