"""Does the agent lose packets, or speak later, while `penstock-finetune` learns beside it?

    sudo python -m benchmarks.finetune_beside [--json] [--runs N] [--keep] [--shift N]

Two sides in turn: `penstock run` on a cable at 20 thousand packets a second of two hundred home devices, alone; and the
same with the trainer learning from 2,000 windows over and over, at its unit's priority (nice 15, batch, idle disk).
Into both a port scan goes every few seconds, each at another device: from its first frame to its alert in eve.json. The
trap: what the unit says by control groups (CPUWeight=, IOWeight=, MemoryMax=) is not in it; and on a machine with other
work the trainer would get nothing at nice 15, and disturb nobody: --shift moves agent and trainer together.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import finetune_cost, footprint, harness, tuples
from benchmarks.cable import Cable, CableError
from benchmarks.harness import Spread
from benchmarks.memory import cpu_s

RATE_PER_S = 20_000
WARM_S, EVERY_S, SCANS = 2.0, 2.5, 4
PORTS, PROBES_PER_S = 200, 100
POLL_S, MARGIN_S = 0.002, 2.0
MODULE = "benchmarks.finetune_beside"
SCANNER = 0xCB007109  # 203.0.113.9
FIRST_TARGET = 0xC0A8C80A  # 192.168.200.10: none of the busy devices
PROTO_AT, OFFSET_AT, FLAGS_AT, TCP = 23, 46, 47, 6
SYN, RST_ACK = 0x02, 0x14
NICE = {"agent": -5, "trainer": 15}  # as the units say
LOW_PRIORITY = ("ionice", "-c", "3", "chrt", "--batch", "0")
CAPTION = "penstock run at 20 kpps on a veth pair, alone and with penstock-finetune learning beside it at low priority"


@dataclass(frozen=True)
class Run:
    """One turn of one side. `to_alert_s` has one number a scan; `trained` are the trainings that ended meanwhile."""

    sent: int
    dropped: int
    to_alert_s: tuple[float, ...]
    missed: int
    trained: int
    trainer_cpu_s: float
    cpu_of_a_core: float


def probes(target: int) -> list[tuple[bytes, bytes]]:
    """Return a SYN to each port of a device, and its refusal."""
    there = np.zeros(PORTS, tuples.TUPLE)
    there["src"], there["dst"] = SCANNER, target
    there["src_port"], there["dst_port"] = 50_000 + np.arange(PORTS), 1 + np.arange(PORTS)
    made = []
    for flows, flags in ((there, SYN), (tuples.reversed_ends(there), RST_ACK)):
        octets = tuples.frames(flows).view(np.uint8).reshape(PORTS, -1)
        octets[:, PROTO_AT] = TCP
        octets[:, 38:] = 0
        octets[:, OFFSET_AT], octets[:, FLAGS_AT] = 5 << 4, flags
        made.append([bytes(each) for each in octets])
    return list(zip(*made, strict=True))


def scan(interface: str, targets: Sequence[int]) -> None:
    """Scan devices one after the other; print when each scan began, in seconds of the wall clock."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        ready = [probes(target) for target in targets]
        next_s = time.monotonic()
        for frames in ready:
            print(time.time(), flush=True)
            for number, pair in enumerate(frames):
                for frame in pair:
                    sock.send(frame)
                time.sleep(max(0.0, next_s + (number + 1) / PROBES_PER_S - time.monotonic()))
            next_s += EVERY_S
            time.sleep(max(0.0, next_s - time.monotonic()))


@dataclass
class Trained:
    """What a trainer that was ended says of itself."""

    runs: int = 0
    cpu_s: float = 0.0


@contextlib.contextmanager
def training(folder: Path | None, *, shift: int) -> Iterator[Trained]:
    """Let the trainer learn over and over, if there is a folder to learn from; what it did is known at the end."""
    done = Trained()
    if folder is None:
        yield done
        return
    command = ["nice", "-n", str(NICE["trainer"] + shift), *LOW_PRIORITY, sys.executable, "-m", MODULE, "train"]
    with subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, text=True, env=_environment()) as trainer:
        try:
            yield done
        finally:
            trainer.terminate()
            said, _ = trainer.communicate()
            runs, cpu_s = said.split()
            done.runs, done.cpu_s = int(runs), float(cpu_s)


def train_forever(folder: str) -> None:
    """Run the trainer again and again, each a process of its own, until told to end; print what that came to."""
    # It would make itself nicer than the nice value it is given here.
    program = "import os, sys; os.nice = lambda _: 0; from federation.gateway.program import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--state-dir", folder, "--dry-run", "--now"]
    places = ["--aggregators", f"{folder}/aggregators.d", "--fleet", finetune_cost.FLEET]
    is_over: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def end(*_: object) -> None:
        is_over.append(1)
        if child is not None:
            child.kill()

    signal.signal(signal.SIGTERM, end)
    runs = 0
    while not is_over:
        child = subprocess.Popen([*command, *places], stdout=subprocess.DEVNULL)
        runs += child.wait() == 0
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(runs, spent.ru_utime + spent.ru_stime, flush=True)


class Ear(threading.Thread):
    """Notes when each first message of a scan came to stand in eve.json, by the device it is about."""

    def __init__(self, eve: Path) -> None:
        super().__init__(daemon=True)
        self.heard_s: dict[str, float] = {}
        self._eve = eve
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._eve.exists():
            if self._is_over.wait(POLL_S):
                return
        with self._eve.open() as file:
            rest = ""
            while not self._is_over.wait(POLL_S):
                rest += file.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    alert = json.loads(line)
                    if "scan" in alert["alert"]["signature"]:
                        self.heard_s.setdefault(alert["dest_ip"], time.time())

    def end(self) -> None:
        self._is_over.set()
        self.join()


def one(folder: Path | None, *, shift: int) -> Run:
    """Return what one turn came to."""
    with tempfile.TemporaryDirectory() as place, Cable() as cable, _agent(cable, Path(place), shift=shift) as agent:
        packets = round(RATE_PER_S * (WARM_S + SCANS * EVERY_S + MARGIN_S))
        sender = footprint.sending(cable, kind="busy", packets=packets, rate_per_s=RATE_PER_S)
        ear = Ear(Path(place) / "eve.json")
        ear.start()
        with training(folder, shift=shift) as trained:
            time.sleep(WARM_S)
            before, used_s, began_s = cable.received()["rx_packets"], cpu_s(agent.pid), time.monotonic()
            targets = [FIRST_TARGET + number for number in range(SCANS)]
            module = cable.python(cable.near, MODULE, "scan", cable.near, *map(str, targets))
            said = subprocess.run(module, capture_output=True, text=True, check=True, env=_environment()).stdout
            wall_s = time.monotonic() - began_s
            used_s, sent = cpu_s(agent.pid) - used_s, cable.received()["rx_packets"] - before
        time.sleep(MARGIN_S)
        ear.end()
        sender.kill()
        sender.wait()
        began = {_text(target): float(line) for target, line in zip(targets, said.split(), strict=True)}
        times = tuple(ear.heard_s[device] - at_s for device, at_s in began.items() if device in ear.heard_s)
        return Run(
            sent=sent,
            dropped=footprint.dropped_of(agent),
            to_alert_s=times,
            missed=len(began) - len(times),
            trained=trained.runs,
            trainer_cpu_s=trained.cpu_s,
            cpu_of_a_core=used_s / wall_s,
        )


def _text(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


@contextlib.contextmanager
def _agent(cable: Cable, folder: Path, *, shift: int) -> Iterator[subprocess.Popen[str]]:
    options = ["--interface", cable.far, "--home-net", "192.168.0.0/16", "--eve", f"{folder}/eve.json"]
    command = ["nice", "-n", str(NICE["agent"] + shift), *cable.python(cable.far, "agent.cli", "run", *options)]
    agent = subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE, text=True)
    try:
        assert agent.stderr is not None
        while "watching" not in (line := agent.stderr.readline()):
            if not line:
                raise RuntimeError(f"penstock run ended with {agent.wait()}")
        yield agent
    finally:
        agent.kill()
        agent.wait()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(footprint.ROOT)} | harness.WORKER_ENVIRONMENT


def measured(*, runs: int, shift: int) -> dict[str, Any]:
    """Return both sides, their turns one after the other."""
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        finetune_cost._prepare(state, mode="robust")
        sides = harness.interleave(
            {"alone": partial(one, None, shift=shift), "beside": partial(one, state, shift=shift)}, runs=runs
        )
    return {side: _told(taken) for side, taken in sides.items()}


def _told(taken: Sequence[Run]) -> dict[str, Any]:
    times = [each for run in taken for each in run.to_alert_s]
    return {
        "to_alert_s": asdict(Spread.of(times)),
        "missed": sum(run.missed for run in taken),
        "packets": sum(run.sent for run in taken),
        "dropped": sum(run.dropped for run in taken),
        "dropped_most": max(run.dropped for run in taken),
        "agent_of_a_core": asdict(Spread.of([run.cpu_of_a_core for run in taken])),
        "trainings": sum(run.trained for run in taken),
        "trainer_cpu_s": sum(run.trainer_cpu_s for run in taken),
        "turns": [asdict(run) for run in taken],
    }


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["scan"]:
        scan(given[1], [int(each) for each in given[2:]])
        return 0
    if given[:1] == ["train"]:
        train_forever(given[1])
        return 0
    parser = harness.parser("finetune_beside", str(__doc__).splitlines()[0], runs=5)
    parser.add_argument("--shift", type=int, default=0, help="add to the nice values of agent and trainer (0)")
    args = parser.parse_args(given)
    if missing := [tool for tool in ("ip", "nice", "ionice", "chrt") if shutil.which(tool) is None]:
        raise CableError(f"missing: {', '.join(missing)}")
    result: dict[str, Any] = {
        "benchmark": "finetune_beside",
        "caption": CAPTION,
        "machine": harness.fingerprint(["numpy", "onnxruntime"]),
        "rate_per_s": RATE_PER_S,
        "nice": {name: os.nice(0) + own + args.shift for name, own in NICE.items()},
        "sides": measured(runs=args.runs, shift=args.shift),
    }
    harness.write_json(result, harness.result_path("finetune_beside", "json", keep=args.keep))
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(lines(result["sides"])))
    return 0


def lines(sides: dict[str, Any]) -> list[str]:
    """Return the sides for people."""
    told = []
    for side, seen in sides.items():
        spread = Spread(**seen["to_alert_s"])
        told.append(
            f"{side:7} {seen['packets']:>11,} packets, {seen['dropped']:,} dropped; scans: alert after "
            f"{spread.text(3)} s, {seen['missed']} missed; agent {seen['agent_of_a_core']['median']:.2f} of a core; "
            f"{seen['trainings']} trainings, {seen['trainer_cpu_s']:.1f} CPU s"
        )
    return told


if __name__ == "__main__":
    sys.exit(main())
