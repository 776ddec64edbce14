"""`penstock demo`: the capture that comes with penstock, replayed, and what was found held against what was done.

The capture and its ground truth were recorded in the lab and lie beside its code; nothing of that code is imported.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TextIO

import numpy as np

from agent.commands.replay import ReplaySettings, replay
from agent.console.outfile import STDOUT, printing
from agent.console.summary import write_report
from agent.console.terminal import BOLD, RED, Paint
from contracts import ground_truth
from contracts.classes import NAMES
from contracts.errors import DataMissing
from contracts.ground_truth import GroundTruth
from contracts.matching import Condition, RecordView
from contracts.terminal import printable
from detection.incidents import IncidentUpdate
from flowfeatures import DEFAULT_HOME_NETS, address_text

EVE_FILE = "eve.json"
RECORD_FILE = "incidents.db"
FOUND_OTHERWISE = 1
ENDS = ("attacker", "victim")
MAX_NAMED = 3

EPILOG = f"""\
Alerts are written to {EVE_FILE} in the current directory, what `penstock explain --record {RECORD_FILE}` tells of them
beside it. The exit code is {FOUND_OTHERWISE} where an attack of the ground truth was not found, or something was found
that is none. An attack that was found may have been called something else as well: that is told, and is no false alarm.

examples:
  penstock demo
  penstock demo --eve /tmp/eve.json
"""


@dataclass(frozen=True)
class Attack:
    """One attack of the ground truth, and the incidents that are it."""

    condition: Condition
    attacker: str
    victim: str
    incidents: tuple[IncidentUpdate, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock demo`."""
    parser.epilog = EPILOG
    eve_help = "write alerts as EVE JSON lines (default %(default)s); - is stdout"
    parser.add_argument("--eve", default=EVE_FILE, metavar="FILE", help=eve_help)
    record_help = "write what `penstock explain` tells of incidents (default %(default)s)"
    parser.add_argument("--record", type=Path, default=Path(RECORD_FILE), metavar="FILE", help=record_help)


def run(args: argparse.Namespace) -> int:
    """Replay the demo capture, say who attacked whom, and return the exit code."""
    truth_path = demo_folder() / "ground_truth.json"
    (truth,) = ground_truth.load(truth_path)
    settings = ReplaySettings(
        captures=(truth.path,),
        home_nets=truth.home_nets or DEFAULT_HOME_NETS,
        eve=args.eve,
        also_read=(truth_path,),
        record=args.record,
    )
    outcome = replay(settings)
    with printing() as stdout:
        stream = sys.stderr if args.eve == STDOUT else stdout
        write_report(outcome, stream)
        if outcome.exit_code:
            return outcome.exit_code
        is_right = write_verdict(truth, outcome.incidents, stream)
        write_why(args.record, outcome.incidents, stream)
        return 0 if is_right else FOUND_OTHERWISE


def demo_folder() -> Path:
    """Return the folder of the demo capture, in a checkout or an installed package. Raises DataMissing without it."""
    spec = find_spec("lab")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "demo" / "ground_truth.json").is_file():
            return Path(place) / "demo"
    raise DataMissing("the demo capture is not installed: wanted demo/ground_truth.json beside the package lab")


def write_verdict(truth: GroundTruth, incidents: list[IncidentUpdate], stream: TextIO) -> bool:
    """Say of each attack whether it was found, and what was found beside; return whether all is as it should be."""
    paint = Paint(stream)
    attacks = attacks_of(truth, incidents)
    stream.write(f"\n{paint('what was done, and what was said of it', BOLD)}\n")
    for attack in attacks:
        stream.write(f"  {_verdict(attack)}\n")
    explained = {incident.incident_id for attack in attacks for incident in attack.incidents}
    others = [incident for incident in incidents if incident.incident_id not in explained]
    false = 0
    for incident in others:
        same = next((each for each in attacks if each.incidents and _is_between(each.condition, incident)), None)
        if same is not None:
            name = NAMES[same.condition.class_index]
            stream.write(f"  also    {incident.class_name}: said of the same {name} by {same.attacker}\n")
            continue
        false += 1
        stream.write(paint(f"  false alarm: {incident.class_name} at {address_text(incident.device)}", RED) + "\n")
    if not false:
        stream.write("  nothing else was raised\n")
    return not false and all(attack.incidents for attack in attacks)


def write_why(record: Path, incidents: list[IncidentUpdate], stream: TextIO) -> None:
    """Say how to ask why, by the name this program was called by: in a checkout it is on no PATH."""
    if incidents:
        stream.write("\nwhy, of each:\n")
    is_by_path = Path(sys.argv[0]).name == "penstock" and which("penstock") is None
    program = sys.argv[0] if is_by_path else "penstock"
    for incident in incidents:
        stream.write(printable(f"  {program} explain {incident.incident_id} --record {record}") + "\n")


def attacks_of(truth: GroundTruth, incidents: list[IncidentUpdate]) -> list[Attack]:
    """Return the attacks of a ground truth, each with the incidents that name its class, attacker, victim and time."""
    found = []
    for condition, interval in zip(truth.conditions, truth.entry.intervals, strict=True):
        attacker, victim = (_named(getattr(interval, end) or getattr(truth.entry, end)) for end in ENDS)
        own = tuple(incident for incident in incidents if _is_it(condition, incident))
        found.append(Attack(condition, attacker, victim, own))
    return found


def _named(hosts: list[str] | None) -> str:
    """Return the hosts of one end; a flood from forged addresses has too many to name."""
    if not hosts:
        return "anyone"
    return ", ".join(hosts) if len(hosts) <= MAX_NAMED else f"any of {len(hosts)} networks"


def _is_it(condition: Condition, incident: IncidentUpdate) -> bool:
    """Return whether an incident is an attack: its class, its time, and its attacker and victim the right way round."""
    return incident.class_index == condition.class_index and _is_between(condition, incident)


def _is_between(condition: Condition, incident: IncidentUpdate) -> bool:
    """Return whether an incident is of an attack's time and ends, whatever it is called."""
    flow = RecordView(np.array([incident.parties.flow]))
    return bool(condition.match(flow)[0]) and bool(
        condition.attacker.hold(flow, "src")[0] and condition.victim.hold(flow, "dst")[0]
    )


def _verdict(attack: Attack) -> str:
    name = NAMES[attack.condition.class_index]
    what = f"{name}: {attack.attacker} attacked {attack.victim}"
    if not attack.incidents:
        return f"MISSED  {what}"
    first = min(attack.incidents, key=lambda incident: incident.opened_us)
    began_us = attack.condition.start_us
    after = f" {(first.opened_us - began_us) / 1e6:.2f} s after it began" if began_us is not None else ""
    return f"found   {what}; said{after}, score {first.score:.3f}"
