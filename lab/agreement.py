"""Do a capture and its ground truth agree? Asked both ways: of the intervals, and of those who sent.

By time: an interval without a packet, and a packet from attacker to victim outside it, unless `flows.csv` says that
a benign activity sent in its flow. By sender, where that file says who sent: an attack's flow that no interval
covers, and a benign flow that one does.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from contracts.errors import GroundTruthError
from lab.flows import FLOW_FILE, Flow, read_flows, trace
from lab.frames import FlowKey, Frame, flow_key, number_of, quoted, read_claims, read_with_octets
from lab.matching import Matcher

ROUNDING_S = 1e-5  # times stand in flows.csv to the microsecond
COMPLAINT_S = 1.0  # an ICMP error follows its packet at once, over a slow cable too
MOST_NAMED = 5  # flows of a kind of problem that are named, the rest are counted


def read_entry(capture: Path, truth: Path) -> dict[str, Any]:
    """Return the one entry of a ground truth that speaks of a capture; raises GroundTruthError."""
    try:
        entries = [entry for entry in json.loads(truth.read_text()) if entry["file"] == capture.name]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise GroundTruthError(f"{truth}: {exc}") from exc
    if len(entries) != 1:
        raise GroundTruthError(f"{truth}: {len(entries)} entries for {capture.name}, expected 1")
    return dict(entries[0])


def recordings_of(folder: Path) -> list[tuple[Path, Path]]:
    """Return (capture, ground truth) of a recording's folder, or of each recording below it."""
    truths = [folder / "ground_truth.json"]
    if not truths[0].is_file():
        truths = sorted(folder.glob("*/ground_truth.json"))
    if not truths:
        raise GroundTruthError(f"{folder}: no ground_truth.json in it or in a folder below it")
    found = []
    for truth in truths:
        try:
            found += [(truth.with_name(entry["file"]), truth) for entry in json.loads(truth.read_text())]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise GroundTruthError(f"{truth}: {exc}") from exc
    return found


def check(capture: Path, truth: Path) -> list[str]:
    """Return what is wrong between a capture and its ground truth, one line each; an empty list is agreement."""
    entry = read_entry(capture, truth)
    intervals = entry.get("intervals", [])
    seen = list(read_with_octets(capture))
    frames = [frame for frame, _ in seen]
    written = read_flows(capture.with_name(FLOW_FILE)) if entry.get("flow_file") else []
    benign = _benign_spans(written)
    told = [frame for frame, octets in seen if not _is_of_benign(quoted(frame, octets), benign)]
    problems = [*_of_times(intervals, told, benign), *_of_claims(intervals, capture)]
    if entry.get("flow_file"):
        problems += _of_senders(written)
        problems += _of_the_list(written, trace(frames, intervals, sent={}))
    return problems


Spans = dict[FlowKey, list[tuple[float, float]]]


def _benign_spans(flows: list[Flow]) -> Spans:
    """Return when which flows passed in which, as is known, a benign activity sent.

    Who sent is known by the flow's ends, not by its time: a port may have been an attack's before, or after.
    """
    spans: Spans = {}
    for flow in flows:
        if any(not sender.startswith("attack ") for sender in flow.senders):
            source, target = ((number_of(address), port) for address, port in (flow.source, flow.target))
            key = flow_key(flow.proto, source, target)
            spans.setdefault(key, []).append((flow.start_s - ROUNDING_S, flow.end_s + ROUNDING_S))
    return spans


def _is_of_benign(packet: Frame | None, benign: Spans) -> bool:
    """Tell whether a packet that an ICMP error quotes was of a benign flow: kernels complain of what comes too late."""
    if packet is None:
        return False
    key = flow_key(packet.proto, (packet.source, packet.source_port), (packet.target, packet.target_port))
    return any(start <= packet.time_s <= end + COMPLAINT_S for start, end in benign.get(key, []))


def _of_times(intervals: list[dict[str, Any]], frames: list[Frame], benign: Spans) -> list[str]:
    matchers = [Matcher(interval) for interval in intervals]
    labelled, strays = [0] * len(matchers), [0] * len(matchers)
    known: dict[tuple[object, ...], tuple[list[int], list[int], list[tuple[float, float]]]] = {}
    for frame in frames:
        if (found := known.get(frame[1:])) is None:
            exchanged = [number for number, matcher in enumerate(matchers) if matcher.is_exchanged(frame)]
            sent = [n for n in exchanged if intervals[n].get("is_answer") or matchers[n].is_sent(frame)]
            key = flow_key(frame.proto, (frame.source, frame.source_port), (frame.target, frame.target_port))
            found = known[frame[1:]] = sent, exchanged, benign.get(key, [])
        sent, exchanged, spans = found
        if not sent:
            continue
        now = {n for n in exchanged if matchers[n].start_s <= frame.time_s <= matchers[n].end_s}
        for number in sent:
            # What another attack explains is no stray: one that searches everywhere may itself be flooded.
            if number in now:
                labelled[number] += 1
            elif not now and not any(start <= frame.time_s <= end for start, end in spans):
                strays[number] += 1
    problems = []
    for number, interval in enumerate(intervals):
        name = f"interval {number} ({interval['class']}, {interval.get('tool', 'unknown tool')})"
        if not labelled[number] and not matchers[number].is_arp:
            problems.append(f"{name}: no packet from attacker to victim")
        if strays[number]:
            problems.append(f"{name}: {strays[number]} packets from attacker to victim outside it")
    return problems


def _of_claims(intervals: list[dict[str, Any]], capture: Path) -> list[str]:
    """Compare ARP replies in which an attacker claims an address that is not its own with the intervals that say so."""
    lies: dict[str, list[tuple[float, float]]] = {}
    for interval in intervals:
        if interval.get("layer") == "arp":
            lies.setdefault(interval["mac"], []).append((interval["start"], interval["end"]))
    if not lies:
        return []
    own = {i["mac"]: number_of(i["attacker"][0]) for i in intervals if i.get("layer") == "arp"}
    told = [claim for claim in read_claims(capture) if claim.mac in lies and claim.address != own[claim.mac]]
    problems = []
    for mac, spans in lies.items():
        times = [claim.time_s for claim in told if claim.mac == mac]
        problems += [
            f"arp_spoof by {mac}: no lie from {start:.0f} to {end:.0f}"
            for start, end in spans
            if not any(start <= time_s <= end for time_s in times)
        ]
        strays = sum(not any(start <= time_s <= end for start, end in spans) for time_s in times)
        problems += [f"arp_spoof by {mac}: {strays} lies outside its intervals"] if strays else []
    return problems


def _of_senders(flows: list[Flow]) -> list[str]:
    missed = [flow for flow in flows if flow.senders and flow.is_all_attack and not flow.attack_packets]
    blamed = [flow for flow in flows if flow.senders and flow.is_all_benign and flow.attack_packets]
    said = [(flow, "sent by an attack, covered by no interval") for flow in missed[:MOST_NAMED]]
    said += [(flow, "sent by nobody but benign activities, labelled attack") for flow in blamed[:MOST_NAMED]]
    problems = [f"flow {flow.ends} ({', '.join(flow.senders)}): {what}" for flow, what in said]
    for flows_of, what in ((missed, "attack flows covered by no interval"), (blamed, "benign flows labelled attack")):
        if len(flows_of) > MOST_NAMED:
            problems.append(f"{len(flows_of)} {what}")
    return problems


def _of_the_list(written: list[Flow], traced: list[Flow]) -> list[str]:
    """Compare flows.csv with what capture and intervals give."""

    def told(flows: list[Flow]) -> Counter[tuple[object, ...]]:
        return Counter((flow.ends, flow.label, flow.packets, flow.attack_packets) for flow in flows)

    differing = sum(((told(written) - told(traced)) + (told(traced) - told(written))).values())
    return [f"{FLOW_FILE}: {differing} flows differ from capture and intervals"] if differing else []
