"""Recordings as another network would have shown them: slower, faster, one-sided, all of it at home, swept by a device.

The lab plays at its own speed, its tap sees both directions and its attackers often stand outside; in other people's
captures not. A variant is a new capture with its own ground truth, so that flows and windows are computed anew and
everything in them agrees. Reads classic pcap with Ethernet frames only (what the lab and iot_sentinel are).
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contracts.ground_truth import GroundTruth
from contracts.ground_truth import load as load_ground_truth
from training.frames import TCP, UDP, Frame, read_frames, write_frames
from training.sweeps import with_sweeps

VARIANTS = Path(__file__).resolve().parents[1] / ".cache" / "variants"
SYN_ACK = 0x12
SYN_WINDOWS = (512, 1024, 2048, 4128, 5840, 8192, 14600, 16384, 28960, 32120, 42340, 64240, 65535)


@dataclass(frozen=True)
class Variant:
    """What to change: `pace` multiplies the time between packets; `is_one_way` drops what responders send; `is_flat`
    makes the lab's outside hosts home devices too, as where one network holds attackers, servers and victims; `stacks`
    gives every connection the window sizes of another TCP stack or tool, drawn for each of its two ends; `is_swept`
    has devices look for neighbours (`sweeps`)."""

    name: str
    pace: float = 1.0
    is_one_way: bool = False
    is_flat: bool = False
    stacks: bool = False
    is_swept: bool = False


FLAT, ONE_WAY = Variant("flat", is_flat=True), Variant("one_way", is_one_way=True, is_flat=True)
SLOW, FAST = Variant("slow", pace=4.0), Variant("fast", pace=0.25)
GLACIAL = Variant("glacial", pace=30.0)
SWEPT = Variant("swept", is_swept=True)
OTHER_STACKS = Variant("other_stacks", stacks=True)  # judged, never taught
_OF_ATTACKS: dict[str, tuple[Variant, ...]] = {
    "lab": (FLAT, ONE_WAY, SLOW, FAST, SWEPT),
    "brute": (SLOW, FAST),
    "ddos": (SLOW, FAST),
}
_OF_BENIGN: dict[str, tuple[Variant, ...]] = {
    "lab": (FLAT, ONE_WAY, SLOW, GLACIAL, SWEPT),
    "iot_sentinel": (ONE_WAY, GLACIAL),
}


def variants_of(source: str, truth: GroundTruth) -> tuple[Variant, ...]:
    """Return what a teaching side also sees of a capture; judging sides see captures only as they are.

    Benign captures are minutes of set-up or of a busy lab; slowed down they are hours of a home where little happens.
    """
    is_benign = truth.attack == "benign" or (truth.attack == "mixed" and not truth.entry.intervals)
    return (_OF_BENIGN if is_benign else _OF_ATTACKS).get(source, ())


def make_variant(truth: GroundTruth, variant: Variant, *, folder: Path = VARIANTS) -> GroundTruth | None:
    """Return the ground truth of a variant of a capture, written under a folder unless it is there already.

    None where the capture is no classic pcap of Ethernet frames, or carries packet labels, which a variant would shift.
    """
    if truth.entry.labels or truth.entry.flows:
        return None
    home = folder / variant.name / "/".join(truth.path.resolve().parts[-3:])
    truth_file = home / "ground_truth.json"
    if not truth_file.is_file() or truth_file.stat().st_mtime < truth.path.stat().st_mtime:
        frames = read_frames(truth.path)
        if frames is None:
            return None
        home.mkdir(parents=True, exist_ok=True)
        frames, sweeps = _swept(frames, truth) if variant.is_swept else (frames, [])
        first_us = frames[0].at_us if frames else 0
        kept = _initiators_only(frames) if variant.is_one_way else iter(frames)
        kept = _of_other_stacks(kept) if variant.stacks else kept
        paced = (replace(each, at_us=first_us + round((each.at_us - first_us) * variant.pace)) for each in kept)
        write_frames(home / "capture.pcap", paced)
        truth_file.write_text(json.dumps([_entry(truth, variant, sweeps, first_us=first_us)]))
    return load_ground_truth(truth_file)[0]


def _swept(frames: list[Frame], truth: GroundTruth) -> tuple[list[Frame], list[dict[str, Any]]]:
    notes = truth.entry.model_extra or {}
    devices = [each for each in notes.get("devices", {}).values() if ":" not in each]
    seed = zlib.crc32("/".join(truth.path.resolve().parts[-2:]).encode())
    return with_sweeps(frames, devices=devices, seed=seed)


def _entry(truth: GroundTruth, variant: Variant, sweeps: list[dict[str, Any]], *, first_us: int) -> dict[str, Any]:
    """Return the ground truth's entry with its intervals on the variant's clock and the variant's idea of home."""
    entry = truth.entry.model_dump(mode="json", by_alias=True, exclude_none=True)
    if sweeps:
        entry |= {"attack": "mixed", "intervals": [*entry.get("intervals", []), *sweeps]}
        if entry.get("home_nets"):
            entry["home_nets"] = [*entry["home_nets"], *(net for each in sweeps for net in each["victim"])]
    first_s = first_us / 1e6
    for interval in entry.get("intervals", []):
        for end in ("start", "end"):
            if end in interval:
                interval[end] = first_s + (interval[end] - first_s) * variant.pace
    outside = entry.pop("outside", {})  # the lab's note: name -> address
    if variant.is_flat and entry.get("home_nets"):
        entry["home_nets"] = [*entry["home_nets"], *outside.values()]
    return entry | {"file": "capture.pcap"}


def _initiators_only(frames: list[Frame]) -> Iterator[Frame]:
    """Give the frames less what the responder of a flow sent; what has no flow stays."""
    initiator: dict[tuple[bytes, ...], bytes] = {}
    for frame in frames:
        ends = _ends(frame.octets)
        if ends is None:
            yield frame
            continue
        source, target, proto, is_answer = ends
        key = (min(source, target), max(source, target), proto)
        if initiator.setdefault(key, target if is_answer else source) == source:
            yield frame


def _of_other_stacks(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Give the frames with every TCP window of a connection's end replaced by one that this end drew."""
    rng = random.Random(0)
    window_of: dict[tuple[bytes, bytes], bytes] = {}
    for frame in frames:
        ends = _ends(frame.octets)
        at = 14 + (frame.octets[14] & 15) * 4 + 14 if ends else 0
        if ends is None or ends[2] != bytes([TCP]) or len(frame.octets) < at + 2:
            yield frame
            continue
        window = window_of.setdefault(ends[:2], rng.choice(SYN_WINDOWS).to_bytes(2, "big"))
        yield replace(frame, octets=frame.octets[:at] + window + frame.octets[at + 2 :])


def _ends(frame: bytes) -> tuple[bytes, bytes, bytes, bool] | None:
    """Return (source, target, protocol, whether it opens as a SYN+ACK) of an IPv4 frame; an end is address and port."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return None
    layer4 = 14 + (frame[14] & 15) * 4
    proto, source, target = frame[23], frame[26:30], frame[30:34]
    if proto not in (TCP, UDP) or len(frame) < layer4 + 4:
        return source, target, bytes([proto]), False
    is_answer = proto == TCP and len(frame) > layer4 + 13 and frame[layer4 + 13] & SYN_ACK == SYN_ACK
    return source + frame[layer4 : layer4 + 2], target + frame[layer4 + 2 : layer4 + 4], bytes([proto]), is_answer
