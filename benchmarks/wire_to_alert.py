"""How long from an attack's first packet on the wire to the alert at the broker, and what does the agent cost?

    sudo python -m benchmarks.wire_to_alert [--json] [--runs N] [--seeds N ...] [--attacks NAME ...] [--limit S]
                                            [--soak-minutes M] [--keep]

Each technique of the lab in turn against a home that lives behind a bridge, with `penstock run` and a real mosquitto on
the gateway: seconds to the alert, split by stage, and what was missed; then false incidents on benign traffic alone,
memory, and the share of a core at 10 and 100 thousand packets a second. Not in it: a network card, a broker elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import footprint, harness
from benchmarks.alarms import STAGES, Found, attacked, watching
from benchmarks.cable import CableError
from benchmarks.harness import Bars, Spread
from benchmarks.marks import Marked, mark_lines
from lab.attacks import TECHNIQUES
from lab.namespaces import make_run_folder
from lab.network import Network
from lab.plan import Attack, Plan
from lab.plan_file import read_plan
from lab.record import Stage
from lab.scenario import draw_plan
from lab.timetable import draw
from lab.tools import missing

CAPTION = (
    "seconds from the first packet of an attack on the lab's bridge to its alert at a subscriber of mosquitto on the "
    "gateway; each attack meets a fresh agent with the bundle it comes with, its thresholds not yet calibrated"
)
TELNET_10 = "telnet_scan_10_per_s"
AT_ONCE = 8  # attacks that share a home: each keeps the benign activities away that its truth would cover
DEVICES = 12
FAST_PER_S = 10.0
DAY_S = 86_400.0
CONFIDENCE = 0.95
PARTS = ("attacks", "soak", "cost")


@dataclass(frozen=True)
class Soak:
    """Incidents on benign traffic alone; `at_most_per_day` is the upper end of their 95 % interval."""

    hours: float
    devices: int
    incidents: int
    classes: dict[str, int]
    per_day: float
    at_most_per_day: float
    resident_mib: float
    ring_mib: float


def at_most(count: int) -> float:
    """Return the largest mean of a Poisson count that is not refuted by seeing so few (one-sided, 95 %).

    >>> round(at_most(0), 2), round(at_most(1), 2)
    (3.0, 4.74)
    """
    low, high = 0.0, 10.0 * (count + 3)
    for _ in range(80):
        mean = (low + high) / 2
        seen = sum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(count + 1))
        low, high = (mean, high) if seen > 1 - CONFIDENCE else (low, mean)
    return low


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed.

    >>> percentile([3.0, 1.0, 2.0], 0.95)
    3.0
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def plans(names: Sequence[str], seed: int) -> Iterator[Plan]:
    """Give homes with some of the attacks each, every attack once where a home has a victim for it."""
    asked = [name for name in names if name != TELNET_10]
    for first in range(0, len(asked), AT_ONCE):
        some = asked[first : first + AT_ONCE]
        plan = draw_plan(1000 * seed + first, attacks=some, devices=DEVICES)
        # A home without a victim for an attack is given another one.
        drawn = [attack for name, attack in zip(some, plan.attacks, strict=True) if attack.drawn_as == name]
        yield dataclasses.replace(plan, attacks=tuple(drawn))
    if TELNET_10 in names:
        plan = draw_plan(1000 * seed + 999, attacks=["mirai_search"], devices=DEVICES)
        yield dataclasses.replace(plan, attacks=(telnet_scan(plan.attacks[0]),))


def telnet_scan(search: Attack) -> Attack:
    """Return a bot's search as the slow one of the literature: SYNs to ports 23 and 2323, ten a second."""
    argv = list(search.argv)
    for option, value in (("--rate", "10"), ("--count", "300"), ("--ports", "23,2323")):
        argv[argv.index(option) + 1] = value
    return dataclasses.replace(search, argv=tuple(argv), ports=(23, 2323), drawn_as=TELNET_10, limit_s=30.0)


def attacks_of(names: Sequence[str], seed: int, *, limit_s: float) -> Iterator[Found]:
    """Play each attack once; give what became of it."""
    port = 0
    for plan in plans(names, seed):
        run = make_run_folder()
        try:
            with Network(plan) as network:
                stage = Stage(network, run=run, say=lambda _: None)
                stage.open()
                try:
                    stage.live()
                    for number, attack in enumerate(plan.attacks):
                        port += 1
                        found = attacked(stage, attack, number=number, folder=run / f"watch-{port}", limit_s=limit_s)
                        if found is None:
                            say(f"{attack.drawn_as:22s} sent no packet")
                            continue
                        say(line(found))
                        yield found
                finally:
                    stage.stop.set()
        finally:
            shutil.rmtree(run, ignore_errors=True)


def soak(minutes: float, seed: int) -> Soak:
    """Watch a home in which nobody attacks."""
    plan = draw(read_plan("soak"), seed, minutes=minutes)
    run = make_run_folder()
    try:
        with Network(plan) as network:
            stage = Stage(network, run=run, say=lambda _: None)
            stage.open()
            try:
                with watching(stage, run / "watch", port=21_900, is_traced=False) as watch:
                    stage.live()
                    while time.monotonic() - watch.began_s < 60 * minutes:
                        time.sleep(1.0)
                        watch.look()
                    hours = (time.monotonic() - watch.began_s) / 3600
                    opened = [told for told in watch.heard if told.update == 0]
                    resident, ring = watch.resident, watch.ring
            finally:
                stage.stop.set()
    finally:
        shutil.rmtree(run, ignore_errors=True)
    names = [told.attack_class for told in opened]
    return Soak(
        hours=hours,
        devices=len(plan.devices),
        incidents=len(opened),
        classes={name: names.count(name) for name in sorted(set(names))},
        per_day=len(opened) * 24 / hours,
        at_most_per_day=at_most(len(opened)) * 24 / hours,
        resident_mib=resident,
        ring_mib=ring,
    )


def is_fast(found: Found) -> bool:
    """Return whether this is a flood, or a scan of ten packets a second and more."""
    is_scan = found.attack_class in ("scan", "botnet") and found.packets_per_s >= FAST_PER_S
    return (found.attack_class == "flood" or is_scan) and found.technique != TELNET_10


def marked(
    found: Sequence[Found], soaked: Soak | None, shares: Sequence[footprint.Share], flood: footprint.Flooded | None
) -> list[Marked]:
    marks = []
    fast = [each.to_alert_s for each in found if is_fast(each) and each.to_alert_s is not None]
    telnet = [each.to_alert_s for each in found if each.technique == TELNET_10 and each.to_alert_s is not None]
    if fast:
        name = f"floods and scans from {FAST_PER_S:g} packets a second, found: 95th percentile of {len(fast)}"
        marks.append(Marked.at_most(name, percentile(fast, 0.95), 1.0, "s"))
    if telnet:
        name = f"telnet scan of 10 packets a second: 95th percentile of {len(telnet)}"
        marks.append(Marked.at_most(name, percentile(telnet, 0.95), 10.0, "s"))
    if soaked is not None:
        marks.append(Marked.at_most("false incidents a day, as seen", soaked.per_day, 1.0, "a day"))
    resident = [each.resident_mib for each in found] + ([soaked.resident_mib] if soaked else [])
    if resident:
        marks.append(Marked.at_most("resident memory on lab traffic, ring included", max(resident), 150.0, "MiB"))
    if flood is not None:
        name = "resident memory under the spoofed flood, ring included"
        marks.append(Marked.at_most(name, flood.resident_at_most_mib, 230.0, "MiB"))
    return marks


def line(found: Found) -> str:
    told = "MISSED" if found.to_alert_s is None else f"{found.to_alert_s:7.2f} s as {found.said_class}"
    stages = ", ".join(f"{name} {'?' if value is None else f'{value:.2f}'}" for name, value in found.stages_s.items())
    return f"{found.technique:22s} {found.packets_per_s:8.1f}/s  {told:26s} {stages}"


def plot(found: Sequence[Found]) -> list[Bars]:
    told = [each for each in found if each.to_alert_s is not None]
    names = sorted({each.technique for each in told}, key=lambda name: _median(told, name))
    halves = names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :]
    return [
        Bars(title, "s", {name: Spread.of(_times(told, name)) for name in half}, digits=2, is_logarithmic=True)
        for title, half in zip(("the faster half", "the slower half"), halves, strict=True)
        if half
    ]


def _times(found: Sequence[Found], technique: str) -> list[float]:
    return [each.to_alert_s for each in found if each.technique == technique and each.to_alert_s is not None]


def _median(found: Sequence[Found], technique: str) -> float:
    return statistics.median(_times(found, technique))


def summary(found: Sequence[Found]) -> dict[str, object]:
    """Return the percentiles of the whole and of each stage, over the attacks that were found."""
    told = [each for each in found if each.to_alert_s is not None]
    if not told:
        return {}
    stages = {name: [value for each in told if (value := each.stages_s.get(name)) is not None] for name in STAGES}
    return {
        "played": len(found),
        "missed": sorted(each.technique for each in found if each.to_alert_s is None),
        "to_alert_s": {str(p): percentile([each.to_alert_s or 0.0 for each in told], p / 100) for p in (50, 90, 95)},
        "stages_s": {
            name: {str(p): percentile(values, p / 100) for p in (50, 95)} for name, values in stages.items() if values
        },
        "incidents_not_of_the_attack": sum(each.others for each in found),
        "watched_hours": sum(each.watched_s for each in found) / 3600,
    }


def machine() -> dict[str, Any]:
    return {"machine": harness.fingerprint(["numpy", "onnxruntime", "paho-mqtt"])}


def cost(*, runs: int) -> dict[str, Any]:
    return {
        "shares": [asdict(each) for each in footprint.shares(runs=runs)],
        "flood": asdict(footprint.flooded()),
    }


def played(settings: argparse.Namespace) -> list[Found]:
    """Play what is asked for; Ctrl-C ends it, and what was played by then is a result, of fewer attacks."""
    found: list[Found] = []
    with contextlib.suppress(KeyboardInterrupt):
        for seed in settings.seeds:
            for each in attacks_of(settings.attacks, seed, limit_s=settings.limit):
                found.append(each)
    return found


def earlier(path: Path) -> dict[str, Any]:
    """Return the parts of the result that stands there; what a run leaves out is kept, with its own machine."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {name: kept[name] for name in PARTS if name in kept}


def read(
    parts: Mapping[str, Any],
) -> tuple[list[Found], Soak | None, list[footprint.Share], footprint.Flooded | None]:
    """Return what the parts of a result say, as it was measured."""
    found = [Found(**each) for each in parts.get("attacks", {"found": []})["found"]]
    soaked = Soak(**parts["soak"]["seen"]) if "soak" in parts else None
    cost_of = parts.get("cost", {"shares": []})
    shares = [footprint.Share(**each | _spreads(each)) for each in cost_of["shares"]]
    return found, soaked, shares, footprint.Flooded(**cost_of["flood"]) if "flood" in cost_of else None


def _spreads(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Spread(**value) for name, value in values.items() if isinstance(value, dict)}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = harness.parser("wire_to_alert", __doc__.splitlines()[0], runs=5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="homes; each attack once in each")
    parser.add_argument(
        "--attacks", nargs="*", default=[*TECHNIQUES, TELNET_10], help="techniques (all); none leaves them out"
    )
    parser.add_argument("--limit", type=float, default=30.0, help="most seconds of one attack (30)")
    parser.add_argument("--soak-minutes", type=float, default=60.0, help="of benign traffic alone; 0 leaves it out")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    settings = parse(arguments)
    if lacking := missing():
        say(f"missing: apt-get install {' '.join(sorted(set(lacking.values())))}")
        return 69
    if unknown := [name for name in settings.attacks if name not in TECHNIQUES and name != TELNET_10]:
        say(f"no attack named {unknown[0]}; there are {', '.join(TECHNIQUES)}, {TELNET_10}")
        return 64
    path = harness.result_path("wire_to_alert", "json", keep=settings.keep)
    parts = earlier(path)
    try:
        if settings.runs:
            parts["cost"] = {**machine(), **cost(runs=settings.runs)}
    except CableError as exc:
        say(str(exc))
        return 69
    if settings.soak_minutes:
        parts["soak"] = {**machine(), "seen": asdict(soak(settings.soak_minutes, settings.seeds[0]))}
    if settings.attacks:
        at_first = machine()
        found = played(settings)
        parts["attacks"] = {**at_first, "summary": summary(found), "found": [asdict(each) for each in found]}
    found, soaked, shares, flood = read(parts)
    marks = marked(found, soaked, shares, flood)
    result = {
        "benchmark": "wire_to_alert",
        "caption": CAPTION,
        "memory_is": "Rss of /proc/PID/smaps_rollup: shared libraries and the ring's pages included",
        **parts,
        "marks": [each.record() for each in marks],
    }
    harness.write_json(result, path)
    if panels := plot(found):
        harness.write_plot(panels, title=CAPTION, path=harness.result_path("wire_to_alert", "png", keep=settings.keep))
    if settings.json:
        print(json.dumps(result, indent=2))
    else:
        costs = [
            f"{each.rate_per_s:,}/s (sent {each.sent_per_s.text(0)}, dropped {each.dropped:,}): "
            f"{each.of_a_core.scaled(100).text()} % of a core, {each.resident_mib.text()} MiB"
            for each in shares
        ]
        print("\n".join([*(line(each) for each in found), "", *costs, "", *mark_lines(marks)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
