"""How many packets does live capture lose, and what does each cost the receiver?

    sudo python -m benchmarks.capture [--json] [--runs N] [--packets N] [--flows N] [--keep]

One sender, one cable of two network namespaces, and each receiver in turn: our ring, our portable source, scapy.sniff;
as fast as the sender can, and at paces the slow ones may bear. Each run must account for every packet: sent = received
by the interface = seen by the socket = read + dropped. Not in it: a network card, its driver and its interrupts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec

from benchmarks import harness
from benchmarks.cable import Cable, CableError
from benchmarks.harness import Bars, Spread
from benchmarks.marks import Marked, mark_lines

CAPTION = (
    "one veth pair, UDP frames of 60 octets; CPU of the receiving process, user + system: ring and portable up to and "
    "including the flow table, sniff up to a callback that counts"
)
PACED_S = 2
LIMIT_S = 120.0
# Receiver -> paces in packets per second; 0 is as fast as the sender can.
PACES: dict[str, tuple[int, ...]] = {
    "ring": (0, 200_000, 20_000),
    "portable": (0, 20_000),
    "sniff": (0, 2_000, 500),
}
FASTEST_RING = "ring, flat out"
Sample = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One receiver at one pace. Counts are those of the worst run where they differ."""

    receiver: str
    pace_per_s: int
    packets: int
    rate_per_s: Spread
    seen: Spread
    read: Spread
    dropped: Spread
    lost: Spread
    lost_percent: Spread
    cpu_us_per_packet: Spread
    off_the_wire: int  # most by which sent and the interface's own count, or that and the socket's, differed
    unaccounted: int  # most by which seen differed from read + dropped
    undecoded: int | None  # frames read that the flow table did not decode; None for sniff
    flows: int | None

    @classmethod
    def of(cls, samples: Sequence[Sample], *, receiver: str, pace_per_s: int) -> Run:
        def spread(name: str) -> Spread:
            return Spread.of([sample[name] for sample in samples])

        lost = [sample["sent"] - sample["read"] for sample in samples]
        first = samples[0]
        return cls(
            receiver=receiver,
            pace_per_s=pace_per_s,
            packets=int(first["sent"]),
            rate_per_s=spread("rate_per_s"),
            seen=spread("seen"),
            read=spread("read"),
            dropped=spread("dropped"),
            lost=Spread.of(lost),
            lost_percent=Spread.of([100 * count / sample["sent"] for count, sample in zip(lost, samples, strict=True)]),
            cpu_us_per_packet=Spread.of([1e6 * sample["cpu_s"] / max(1, sample["read"]) for sample in samples]),
            off_the_wire=int(
                max(
                    abs(sample["sent"] - sample["rx_packets"]) + abs(sample["rx_packets"] - sample["seen"])
                    for sample in samples
                )
            ),
            unaccounted=int(max(abs(sample["unaccounted"]) for sample in samples)),
            undecoded=int(max(s["read"] - s["decoded"] for s in samples)) if "decoded" in first else None,
            flows=int(max(sample["flows"] for sample in samples)) if "flows" in first else None,
        )

    def text(self) -> str:
        apart = self.unaccounted + self.off_the_wire
        return (
            f"sent {self.packets:9,d} at {self.rate_per_s.scaled(1e-3).text()} k/s  seen {self.seen.median:9,.0f}  "
            f"dropped {self.dropped.median:9,.0f}  lost {self.lost_percent.text(2)} %  "
            f"cpu {self.cpu_us_per_packet.text(3)} us per packet read  unaccounted {apart}"
        )


def one_run(cable: Cable, *, receiver: str, pace_per_s: int, packets: int, flows: int) -> Sample:
    """Return one receiver's counts beside the sender's and the interface's.

    Raises RuntimeError with the end of its stderr if either fails.
    """
    environment = os.environ | harness.WORKER_ENVIRONMENT
    count = min(packets, pace_per_s * PACED_S) if pace_per_s else packets
    before = cable.received()
    command = cable.python(cable.far, "benchmarks.receivers", receiver, cable.far)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as listening:
        assert listening.stdout is not None
        if listening.stdout.readline() != "ready\n":
            raise RuntimeError(f"{receiver} did not begin: {listening.communicate()[1][-2000:]}")
        try:
            order = cable.python(cable.near, "benchmarks.sender", cable.near, str(count), str(pace_per_s), str(flows))
            sent = subprocess.run(
                order, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment
            )  # fmt: skip
            said, complaint = listening.communicate(timeout=LIMIT_S)
        finally:
            listening.kill()
    if sent.returncode != 0 or listening.returncode != 0:
        raise RuntimeError(f"{receiver}: {sent.stderr[-1000:]}{complaint[-1000:]}")
    after = cable.received()
    wire = {name: after[name] - before[name] for name in before}
    return {**json.loads(sent.stdout), **wire, **json.loads(said.splitlines()[-1])}


def label(receiver: str, pace_per_s: int) -> str:
    return f"{receiver}, {f'{pace_per_s:,}/s' if pace_per_s else 'flat out'}"


def measure(receivers: Sequence[str], *, packets: int, flows: int, runs: int) -> dict[str, Run]:
    pairs = {label(name, pace): (name, pace) for name in receivers for pace in PACES[name]}
    with Cable() as cable:
        turns = {
            text: partial(one_run, cable, receiver=name, pace_per_s=pace, packets=packets, flows=flows)
            for text, (name, pace) in pairs.items()
        }
        samples = harness.interleave(turns, runs=runs)
    return {text: Run.of(taken, receiver=pairs[text][0], pace_per_s=pairs[text][1]) for text, taken in samples.items()}


def marked(runs: Mapping[str, Run]) -> list[Marked]:
    marks = [
        Marked.at_most(
            "all receivers: packets not accounted for", max(r.unaccounted for r in runs.values()), 0, "packets"
        ),
        Marked.at_most(
            "all receivers: sent, interface and socket apart", max(r.off_the_wire for r in runs.values()), 0, "packets"
        ),
    ]
    ring = runs.get(FASTEST_RING)
    if ring is None:
        return marks
    return [
        Marked.at_least(
            "sender beside the ring: thousand packets per second", ring.rate_per_s.median / 1e3, 450, "k/s"
        ),
        Marked.at_most(f"ring: lost of {ring.packets:,}, worst run", ring.lost.high, 0, "packets"),
        Marked.at_most("ring: CPU per packet, flow table included", ring.cpu_us_per_packet.median, 0.6, "us"),
        *marks,
    ]


def plot(runs: Mapping[str, Run]) -> list[Bars]:
    cost = {name: run.cpu_us_per_packet for name, run in runs.items() if run.read.median}
    return [
        Bars("lost", "percent of the packets sent", {name: run.lost_percent for name, run in runs.items()}, digits=2),
        Bars("cost", "CPU us per packet read", cost, digits=2, is_logarithmic=True),
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.parser("capture", __doc__.splitlines()[0], runs=5)
    parser.add_argument("--packets", type=int, default=1_000_000, help="most packets of a run (1000000)")
    parser.add_argument("--flows", type=int, default=4096, help="flows the packets belong to (4096)")
    parser.add_argument("--receivers", nargs="+", choices=list(PACES), default=list(PACES), help="which of them (all)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    if find_spec("scapy") is None:
        print("scapy is missing: pip install scapy", file=sys.stderr)
        return 69
    machine = harness.fingerprint(["numpy", "scapy"])
    try:
        runs = measure(settings.receivers, packets=settings.packets, flows=settings.flows, runs=settings.runs)
    except CableError as exc:
        print(exc, file=sys.stderr)
        return 69
    marks = marked(runs)
    result = {
        "benchmark": "capture",
        "caption": CAPTION,
        "machine": machine,
        "flows": settings.flows,
        "runs": {name: asdict(run) for name, run in runs.items()},
        "marks": [each.record() for each in marks],
    }
    harness.write_json(result, harness.result_path("capture", "json", keep=settings.keep))
    harness.write_plot(plot(runs), title=CAPTION, path=harness.result_path("capture", "png", keep=settings.keep))
    lines = [f"{name:20s} {run.text()}" for name, run in runs.items()]
    print(json.dumps(result, indent=2) if settings.json else "\n".join([*lines, "", *mark_lines(marks)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
