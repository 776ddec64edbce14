"""`penstock explain`: why an incident was raised, from what the agent, a replay or the demo kept of it."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

from agent.console.explained import Case, PacketSeen, as_json, write_case
from agent.console.outfile import cannot_write, printing
from agent.state.evidence_files import place_of, read_evidence
from agent.state.incident_record import (
    MAX_INCIDENTS,
    RECORD_FILE,
    RecordedIncident,
    find_explanation,
    find_incident,
    newest_incidents,
)
from agent.state.rules import RULES_FILE, STATE_DIR, RulesFile
from contracts.errors import DataMissing, MissingExtra, UsageError
from contracts.terminal import printable
from detection.rules import RulesState
from detection.state import StateRefused
from flowfeatures import address_text

EPILOG = """\
ALERT_ID is the alert_id or the incident_id of an alert; without one, the incidents that are known are listed.

examples:
  sudo penstock explain
  sudo penstock explain 019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a --plot window.png
  penstock demo && penstock explain --record incidents.db
  penstock replay capture.pcap --record incidents.db
  penstock explain 019ab2c4-55aa-7d10-8a2b-0f6e1d2c3b4a --record incidents.db --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `penstock explain`."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("alert_id", nargs="?", metavar="ALERT_ID", help="of the alert, or its incident_id")
    add("--record", type=Path, metavar="FILE", help="what --record of replay or demo wrote, instead of the agent's")
    add("--state-dir", type=Path, default=STATE_DIR, metavar="DIR", help="the agent's state (default %(default)s)")
    add("--json", action="store_true", help="print it as JSON")
    add("--plot", type=Path, metavar="FILE", help="also draw the window (PNG; wants matplotlib)")


def run(args: argparse.Namespace) -> int:
    """Explain one incident, or list them; return the exit code."""
    path = args.record or args.state_dir / RECORD_FILE
    if args.alert_id is None:
        if args.plot is not None:
            raise UsageError("explain: --plot wants an ALERT_ID")
        return _list(path, is_json=args.json)
    incident = find_incident(path, args.alert_id)
    packets, trouble = _packets(path, incident)
    explanation = find_explanation(path, incident.incident_id)
    case = Case(incident, explanation, _standing(path, incident), packets, trouble)
    if args.plot is not None:
        _plot(case, args.plot)
    with printing() as stream:
        if args.json:
            stream.write(json.dumps(as_json(case)) + "\n")
        else:
            write_case(case, stream)
    return 0


def _list(path: Path, *, is_json: bool) -> int:
    incidents = newest_incidents(path, most=MAX_INCIDENTS)
    with printing() as stream:
        for each in incidents:
            told = each.told
            at = "" if told is None else _text(told.opened_us)
            if is_json:
                row = {"incident_id": each.incident_id, "class": each.attack_class, "score": each.score}
                device = {"device": address_text(bytes.fromhex(each.device))}
                stream.write(json.dumps(row | device | {"told": None if told is None else told.model_dump()}) + "\n")
            else:
                who = address_text(bytes.fromhex(each.device)) if told is None else told.who
                stream.write(
                    printable(f"{each.incident_id}  {at}  {each.attack_class}: {who}, {each.score:.3f}") + "\n"
                )
        if not incidents and not is_json:
            stream.write("no incident is on record\n")
    return 0


def _standing(path: Path, incident: RecordedIncident) -> list[str]:
    """Return what the operator said of an incident, as the rules beside the record have it."""
    try:
        state: RulesState = RulesFile(path.parent / RULES_FILE).read().state
    except StateRefused as exc:
        return [f"the rules cannot be read: {exc}"]
    lines = []
    if (said := state.verdicts.get(incident.incident_id)) is not None:
        lines.append(f"{said}, said an operator")
    for rule in state.benign:
        if rule.incident_id == incident.incident_id:
            lines.append(f"rule {rule.id} keeps its like back until {_text(rule.expires_us)}")
    return lines


def _packets(path: Path, incident: RecordedIncident) -> tuple[list[PacketSeen], str]:
    """Return the packets that were kept, and why they cannot be shown where they cannot."""
    from agent.capture.opener import dissected

    place = place_of(path, incident.incident_id)
    try:
        link_type, frames = read_evidence(place)
        words = dissected([frame.octets for frame in frames], link_type=link_type)
    except FileNotFoundError:
        return [], ""
    except OSError as exc:
        return [], f"{place}: cannot be read: {exc.strerror or exc}"
    except (StateRefused, MissingExtra) as exc:
        return [], str(exc)
    kept = zip(frames, words, strict=True)
    return [PacketSeen(frame.at_us, frame.wire_bytes, text) for frame, text in kept], ""


def _plot(case: Case, path: Path) -> None:
    from agent.console.window_plot import draw

    if case.explanation is None:
        raise DataMissing(f"{case.incident.incident_id}: nothing was kept of how it opened, there is nothing to draw")
    octets = draw(case)
    try:
        path.write_bytes(octets)
    except OSError as exc:
        raise cannot_write(str(path), exc) from exc


def _text(at_us: int) -> str:
    at = datetime.datetime.fromtimestamp(min(max(0, at_us), 253_402_300_799_000_000) / 1e6, datetime.timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M:%S")
