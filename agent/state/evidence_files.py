"""The packets an incident opened with: small pcap files beside its record, written whole, bounded, read back checked.

`evidence/INCIDENT_ID.pcap` in the state folder; beyond so many octets in all, or an age, the oldest files go.
"""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.whole_file import read_bounded, write_whole
from detection.state import StateRefused

EVIDENCE_FOLDER: Final = "evidence"
MAX_FILE_BYTES: Final = 1 << 26
MAGIC: Final = 0xA1B2C3D4
_NAME: Final = re.compile(r"[0-9a-f-]{36}\.pcap")


@dataclass(frozen=True)
class KeptFrame:
    """One frame of a file; `wire_bytes` is what it had before it was cut."""

    at_us: int
    wire_bytes: int
    octets: bytes


def place_of(record: Path, incident_id: str) -> Path:
    """Return where the packets of an incident stand, if any were kept, by the record that knows it."""
    return record.parent / EVIDENCE_FOLDER / f"{incident_id}.pcap"


def files_of(folder: Path) -> list[Path]:
    """Return the files of a state folder, oldest first; links and what is named otherwise are left out."""
    found = []
    try:
        for path in (folder / EVIDENCE_FOLDER).iterdir():
            if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                found.append((path.stat().st_mtime_ns, path))
    except OSError:
        return [path for _, path in sorted(found)]
    return [path for _, path in sorted(found)]


def write_evidence(state_dir: Path, incident_id: str, pcap: bytes, *, max_bytes: int, max_age_s: float) -> None:
    """Keep the packets of an incident; older ones make room. Raises OutputError."""
    write_whole(state_dir / EVIDENCE_FOLDER / f"{incident_id}.pcap", pcap)
    trim(state_dir, max_bytes=max_bytes, max_age_s=max_age_s)


def trim(state_dir: Path, *, max_bytes: int, max_age_s: float) -> int:
    """Delete what is too old or too much, oldest first; return how many files went."""
    files = [(path, path.stat()) for path in files_of(state_dir)]
    left_bytes, gone = sum(facts.st_size for _, facts in files), 0
    for path, facts in files:
        if left_bytes > max_bytes or facts.st_mtime < time.time() - max_age_s:
            path.unlink(missing_ok=True)
            left_bytes -= facts.st_size
            gone += 1
    return gone


def read_evidence(path: Path) -> tuple[int, list[KeptFrame]]:
    """Return link type and frames of a file of ours. Raises FileNotFoundError, OSError and StateRefused."""
    octets = read_bounded(path, most_bytes=MAX_FILE_BYTES)
    if len(octets) < 24 or struct.unpack_from("<I", octets)[0] != MAGIC:
        raise StateRefused(f"{path}: is no capture of this agent")
    frames, at = [], 24
    while at < len(octets):
        if at + 16 > len(octets):
            raise StateRefused(f"{path}: ends inside the header at octet {at}")
        seconds, micros, captured, wire = struct.unpack_from("<4I", octets, at)
        at += 16
        if captured > len(octets) - at:
            raise StateRefused(f"{path}: a frame of {captured} octets at octet {at}, {len(octets) - at} are left")
        frames.append(KeptFrame(seconds * 1_000_000 + micros, wire, octets[at : at + captured]))
        at += captured
    return struct.unpack_from("<I", octets, 20)[0], frames
