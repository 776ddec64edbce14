"""Memory and CPU of `penstock run` on a cable: quiet, at 10 and 100 thousand packets a second, and under a flood.

The traffic is that of two hundred home devices (`benchmarks.floods busy`), the flood is spoofed; one process sends, the
agent runs as it does on a gateway, with the bundle it comes with. The trap: in a veth pair the kernel's work of
bringing a frame to the socket is done on the sender's account, so the agent's share leaves it out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import harness
from benchmarks.cable import Cable
from benchmarks.harness import Spread
from benchmarks.memory import Memory, cpu_s

ROOT = Path(__file__).resolve().parents[1]
RATES_PER_S = (0, 10_000, 100_000)
WARM_S, STEADY_S = 4.0, 8.0
FLOOD_PACKETS, FLOOD_PER_S = 1_500_000, 100_000
LIMIT_S = 120.0


@dataclass(frozen=True)
class Share:
    """What a rate costs: shares of one core, over several runs."""

    rate_per_s: int
    sent_per_s: Spread
    of_a_core: Spread
    resident_mib: Spread
    dropped: int


@dataclass(frozen=True)
class Flooded:
    """What the spoofed flood leaves of the agent's memory."""

    packets: int
    sent_per_s: float
    dropped: int
    resident_before_mib: float
    resident_at_most_mib: float
    ring_mib: float


@contextmanager
def agent_on(cable: Cable) -> Iterator[subprocess.Popen[str]]:
    """Give `penstock run` on the far end of a cable."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        options = ["--interface", cable.far, "--home-net", "192.168.0.0/16", "--eve", f"{folder}/eve.json"]
        agent = subprocess.Popen(
            cable.python(cable.far, "agent.cli", "run", *options), env=environment, stderr=subprocess.PIPE, text=True
        )
        try:
            assert agent.stderr is not None
            while "watching" not in (line := agent.stderr.readline()):
                if not line:
                    raise RuntimeError(f"penstock run ended with {agent.wait()}")
            yield agent
        finally:
            agent.kill()
            agent.wait()


def dropped_of(agent: subprocess.Popen[str]) -> int:
    """End the agent; return how many packets it says were dropped."""
    agent.terminate()
    _, said = agent.communicate(timeout=LIMIT_S)
    line = next(line for line in said.splitlines() if "packets seen" in line)
    return int(line.rpartition("read, ")[2].split()[0].replace(",", ""))


def sending(cable: Cable, *, kind: str, packets: int, rate_per_s: int) -> subprocess.Popen[str]:
    """Return a sender that has begun."""
    order = cable.python(cable.near, "benchmarks.floods", cable.near, kind, str(packets), str(rate_per_s))
    sender = subprocess.Popen(order, stdout=subprocess.PIPE, text=True, env=os.environ | harness.WORKER_ENVIRONMENT)
    assert sender.stdout is not None
    if sender.stdout.readline() != "ready\n":
        raise RuntimeError("the sender did not begin")
    return sender


def _one(rate_per_s: int) -> tuple[float, float, float, int]:
    """Return what was sent a second, the share of a core, the resident MiB and the drops of one run."""
    with Cable() as cable, agent_on(cable) as agent:
        packets = round(rate_per_s * (WARM_S + STEADY_S + 1))
        sender = sending(cable, kind="busy", packets=packets, rate_per_s=rate_per_s) if rate_per_s else None
        time.sleep(WARM_S)
        began_s, used_s, before = time.monotonic(), cpu_s(agent.pid), cable.received()["rx_packets"]
        time.sleep(STEADY_S)
        wall_s = time.monotonic() - began_s
        share = (cpu_s(agent.pid) - used_s) / wall_s
        sent_per_s = (cable.received()["rx_packets"] - before) / wall_s
        resident = Memory.of(agent.pid).resident
        if sender is not None:
            sender.communicate(timeout=LIMIT_S)
        return sent_per_s, share, resident, dropped_of(agent)


def shares(*, runs: int) -> list[Share]:
    """Return what each rate costs, the rates in turn."""
    taken = harness.interleave({str(rate): lambda rate=rate: _one(rate) for rate in RATES_PER_S}, runs=runs)  # type: ignore[misc]
    return [
        Share(
            rate_per_s=int(rate),
            sent_per_s=Spread.of([each[0] for each in samples]),
            of_a_core=Spread.of([each[1] for each in samples]),
            resident_mib=Spread.of([each[2] for each in samples]),
            dropped=max(each[3] for each in samples),
        )
        for rate, samples in taken.items()
    ]


def flooded() -> Flooded:
    """Return the agent's memory under a spoofed flood."""
    with Cable() as cable, agent_on(cable) as agent:
        before = Memory.of(agent.pid)
        most = before.resident
        sender = sending(cable, kind="spoofed", packets=FLOOD_PACKETS, rate_per_s=FLOOD_PER_S)
        while sender.poll() is None:
            most = max(most, Memory.of(agent.pid).resident)
            time.sleep(0.1)
        most = max(most, Memory.of(agent.pid).resident)
        sent = json.loads(sender.communicate()[0])
        return Flooded(
            packets=int(sent["sent"]),
            sent_per_s=sent["rate_per_s"],
            dropped=dropped_of(agent),
            resident_before_mib=before.resident,
            resident_at_most_mib=most,
            ring_mib=before.ring,
        )


if __name__ == "__main__":
    print(flooded())
    for each in shares(runs=int(sys.argv[1])):
        print(each)
