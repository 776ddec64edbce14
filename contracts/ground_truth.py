"""Ground truth: what is known about captures, and the one place that turns it into labels of flow records.

The file is a JSON list; each entry names captures (with globs, relative to the file) and says in `attack` how to read
them: `benign` every flow is benign; `malicious` flows that match are attack and the rest is left out; `mixed` the rest
is benign, or left out with `rest: "exclude"`. A flow matches by the entry's own attacker, victim, proto and ports, or,
where any of them is given, by packet labels, intervals and a list of flows, in this order; the first that knows a flow
names its class. Unknown keys are kept out of the way with a warning, since files carry notes of their own.
"""

from __future__ import annotations

import csv
import difflib
import glob
import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from contracts.alert import MAX_TIME_US
from contracts.classes import BENIGN, UNKNOWN, class_of_label
from contracts.errors import GroundTruthError
from contracts.files import open_regular
from contracts.matching import Condition, Ends, ExactFlow, FlowList, RecordView
from contracts.terminal import brief
from flowfeatures.addresses import address_bytes

EXCLUDED: Final = -1  # as in flowfeatures: neither benign nor attack, left out
MAX_PACKET_NUMBER: Final = 1 << 28  # one byte each: a label file cannot ask for more than 256 MiB
NOTES: Final = frozenset({"certainty", "note", "linktype", "packets", "first", "last", "terms", "source", "devices"})
PROTOCOLS: Final = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmpv6": 58, "sctp": 132}
FLOW_FIELDS: Final = ("src_ip", "src_port", "dst_ip", "dst_port", "proto", "start", "end", "class")

_FOREVER_US: Final = (-(1 << 62), 1 << 62)
_log = logging.getLogger(__name__)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


def _protocol(value: str | int) -> int:
    text = str(value).strip().lower()
    number = PROTOCOLS.get(text, int(text) if text.isascii() and text.isdigit() else -1)
    if not 0 <= number <= 255:
        raise ValueError(f"{brief(value)} is no protocol: a number below 256 or one of {', '.join(PROTOCOLS)}")
    return number


def _port_range(value: str | int) -> tuple[int, int]:
    first, _, last = str(value).partition("-")
    if not (first.strip().isdecimal() and (last or first).strip().isdecimal()):
        raise ValueError(f"{brief(value)} is no port and no range such as 1-1024")
    bounds = int(first), int(last or first)
    if not 0 <= bounds[0] <= bounds[1] <= 65_535:
        raise ValueError(f"{brief(value)}: ports go from 0 to 65535, the lower first")
    return bounds


def _home_net(text: str) -> None:
    if Ends.one(text).everyone or Ends.one(text).macs:
        raise ValueError(f"{brief(text)} is no network")


def _each(read: Callable[[Any], Any]) -> AfterValidator:
    """Return what refuses a list that holds something `read` does."""

    def check(asked: list[Any]) -> list[Any]:
        for each in asked:
            read(each)
        return asked

    return AfterValidator(check)


_Hosts = Annotated[list[str], BeforeValidator(_listed), _each(Ends.one)]
_Protos = Annotated[list[str | int], BeforeValidator(_listed), _each(_protocol)]
_Ports = Annotated[list[str | int], BeforeValidator(_listed), _each(_port_range)]


class _Asked(BaseModel):
    """What an entry and an interval have in common; None in an interval means as in its entry."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    label: str | None = Field(None, alias="class")
    attacker: _Hosts | None = None
    victim: _Hosts | None = None
    proto: _Protos | None = None
    ports: _Ports | None = None
    technique: str | None = None


class Interval(_Asked):
    """One attack of known time, in seconds since the epoch; an absent end is open."""

    start: float | None = None
    end: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Interval:
        for seconds in (self.start, self.end):
            if seconds is not None:
                _microseconds(seconds)
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError(f"start must not be after end, got {self.start} and {self.end}")
        return self


class Entry(_Asked):
    """One element of the list, as it stands in the file."""

    file: str
    attack: Literal["benign", "malicious", "mixed"]
    intervals: list[Interval] = []
    flows: str | None = None
    labels: str | None = None
    home_nets: Annotated[list[str], _each(_home_net)] | None = None
    rest: Literal["benign", "exclude"] = "benign"


@dataclass(kw_only=True)
class GroundTruth:
    """What is known about one capture. `label` may be called for one batch of its records after another."""

    path: Path
    entry: Entry
    conditions: tuple[Condition, ...] = ()
    flows: FlowList | None = None
    packets: NDArray[np.uint8] | None = None
    attack_records: int = field(default=0, init=False)

    @property
    def attack(self) -> Literal["benign", "malicious", "mixed"]:
        return self.entry.attack

    @property
    def home_nets(self) -> tuple[str, ...] | None:
        """The monitored networks as CIDR, or None where the entry has none."""
        return None if self.entry.home_nets is None else tuple(self.entry.home_nets)

    @property
    def class_index(self) -> int:
        """The class of the entry itself; benign for a benign capture whatever its `class` says."""
        return BENIGN if self.attack == "benign" else _attack_class(self.entry.label)

    @property
    def outside_observation(self) -> bool:
        """Whether an attack is claimed and none of the records labelled so far took part in it (ARP has no flows)."""
        return self.attack != "benign" and self.attack_records == 0

    def packet_labels(self) -> NDArray[np.uint8] | None:
        """Return uint8[n + 1] by packet number from 1: the class index of an attack's packet, else 0; or None."""
        return self.packets

    def label(self, records: NDArray[Any]) -> None:
        """Write the class index of each record into its `label`, or EXCLUDED. `records` is RECORD[n] or FLOW_META[n].

        Records must have been metered with `packet_labels()` where there are any.
        """
        if self.attack == "benign":
            records["label"] = BENIGN
            return
        is_rest_benign = self.attack == "mixed" and self.entry.rest == "benign"
        labels = np.full(len(records), BENIGN if is_rest_benign else EXCLUDED, np.int8)
        is_known = np.zeros(len(records), np.bool_)
        for found, class_index in self._findings(RecordView(records)):
            new = found & ~is_known
            labels[new] = class_index
            is_known |= new
        records["label"] = labels
        self.attack_records += int(np.count_nonzero(labels > BENIGN))

    def _findings(self, view: RecordView) -> Iterator[tuple[NDArray[np.bool_], int]]:
        """Give (bool[n], class index), what is surest first."""
        if self.packets is not None:
            marks = view.records["packet_label"]
            for class_index in np.unique(marks[marks > 0]).tolist():
                yield marks == class_index, class_index
        for condition in self.conditions:
            yield condition.match(view), condition.class_index
        if self.flows is not None:
            for flow, places in self.flows.match(view):
                found = np.zeros(len(view), np.bool_)
                found[places] = True
                yield found, flow.class_index


def load(path: Path | str) -> list[GroundTruth]:
    """Return one GroundTruth per capture file, in the order of the list and, within a glob, of names.

    Raises GroundTruthError naming file, entry, key, what was seen and what was wanted.
    """
    source = Path(path)
    truths: list[GroundTruth] = []
    seen_in: dict[Path, int] = {}
    for number, raw in enumerate(_entries(source)):
        where = f"{source}: entry {number}"
        entry = _entry(where, raw)
        where = f"{where} ({entry.file[:60]})"
        for truth in _truths(source.parent, entry, where):
            if truth.path.resolve() in seen_in:
                _fail(
                    where,
                    "file",
                    f"{truth.path} again",
                    f"a capture once, it is in entry {seen_in[truth.path.resolve()]}",
                )
            seen_in[truth.path.resolve()] = number
            truths.append(truth)
    return truths


def _fail(where: str, key: str, seen: str, wanted: str) -> NoReturn:
    raise GroundTruthError(f"{where}: {key}: seen {seen}, wanted {wanted}")


def _entries(source: Path) -> list[Any]:
    try:
        with open_regular(source) as file:
            raw = json.loads(file.read(), object_pairs_hook=_each_key_once)
    except OSError as exc:
        raise GroundTruthError(f"{source}: cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise GroundTruthError(f"{source}: not JSON: {exc}") from exc
    if not isinstance(raw, list):
        raise GroundTruthError(f"{source}: seen a JSON {type(raw).__name__}, wanted a list of entries")
    return raw


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"seen key {brief(twice)} twice in one object, wanted it once")
    return found


def _entry(where: str, raw: Any) -> Entry:
    if not isinstance(raw, dict):
        raise GroundTruthError(f"{where}: seen a JSON {type(raw).__name__}, wanted an object")
    try:
        entry = Entry.model_validate(raw)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = ".".join(str(part)[:60] for part in error["loc"] if part != "function-before") or "entry"
        is_missing = error["type"] == "missing"
        wanted = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        _fail(where, key, *(("nothing", "this key") if is_missing else (brief(error["input"], most=80), wanted)))
    for part in (entry, *entry.intervals):
        _warn_of_unknown_keys(where, part)
    return entry


def _warn_of_unknown_keys(where: str, part: _Asked) -> None:
    known = [named.alias or name for name, named in type(part).model_fields.items()]
    for key in (part.model_extra or {}).keys() - NOTES:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
        if near:
            _log.warning("%s: key %s has no effect; is %r meant?", where, brief(key), near[0])


def _truths(folder: Path, entry: Entry, where: str) -> Iterator[GroundTruth]:
    paths = _captures(folder, entry.file)
    if not paths:
        _fail(where, "file", f"no file at {folder / entry.file[:60]}", "a capture, or a glob that finds one")
    packets = None
    if entry.labels is not None:
        if len(paths) > 1:
            _fail(where, "labels", f"{len(paths)} captures", "packet labels for one capture")
        packets = _read_packet_labels(folder / entry.labels, entry, where)
    flows = None if entry.flows is None else FlowList(_read_flows(folder / entry.flows, where))
    conditions = tuple(_conditions(entry)) if entry.attack != "benign" else ()
    for path in paths:
        yield GroundTruth(path=path, entry=entry, conditions=conditions, flows=flows, packets=packets)


def _captures(folder: Path, pattern: str) -> list[Path]:
    # A file may have brackets in its name, so the name itself comes before its reading as a glob.
    if os.path.isfile(folder / pattern):  # unlike Path.is_file, False also for a name that no file can have
        return [folder / pattern]
    try:
        found = [folder / name for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True))]
    except ValueError:  # a NUL in the name of a folder
        return []
    return [path for path in found if os.path.isfile(path)]


def _conditions(entry: Entry) -> Iterator[Condition]:
    if entry.intervals:
        for interval in entry.intervals:
            yield _condition(entry, interval)
    elif entry.flows is None and entry.labels is None:
        yield _condition(entry, Interval())


def _condition(entry: Entry, interval: Interval) -> Condition:
    def asked(key: str) -> Any:
        own = getattr(interval, key)
        return getattr(entry, key) if own is None else own

    return Condition(
        class_index=class_of_label(interval.label) if interval.label else _attack_class(entry.label),
        attacker=Ends.of(asked("attacker") or []),
        victim=Ends.of(asked("victim") or []),
        protos=tuple(_protocol(each) for each in asked("proto") or []),
        ports=tuple(_port_range(each) for each in asked("ports") or []),
        start_us=None if interval.start is None else _microseconds(interval.start),
        end_us=None if interval.end is None else _microseconds(interval.end),
    )


def _class_of(label: str | None) -> int:
    return UNKNOWN if label is None else class_of_label(label)


def _attack_class(label: str | None) -> int:
    """Return the class of a label whose flows are attack: one that the table calls benign becomes unknown."""
    found = _class_of(label)
    if found == BENIGN:
        said = "label %s is benign in the class table, but its flows are called attack: class unknown"
        _log.warning(said, brief(label))
        return UNKNOWN
    return found


def _microseconds(seconds: float) -> int:
    if not abs(seconds) <= MAX_TIME_US / 1_000_000:  # nor is not-a-number a time
        raise ValueError(f"{seconds} s is beyond the year 9999")
    # Epoch seconds in a double are exact to 0.2 us, so rounding gives back the microsecond that was written.
    return round(seconds * 1_000_000)


def _read_packet_labels(path: Path, entry: Entry, where: str) -> NDArray[np.uint8]:
    """Return uint8[n + 1] from lines `packet number from 1;0|1|class`."""
    numbers: list[int] = []
    classes: list[int] = []
    for at, line in enumerate(_lines(path, where, "labels"), start=1):
        number, _, label = line.partition(";")
        number, label = number.strip(), label.strip()
        is_number = number.isdecimal() and len(number) <= len(str(MAX_PACKET_NUMBER))
        if not (is_number and label and 1 <= int(number) <= MAX_PACKET_NUMBER):
            _fail(where, "labels", f"{brief(line.strip(), most=80)} at {path}:{at}", "packet number from 1;0|1|class")
        numbers.append(int(number))
        classes.append(
            BENIGN if label == "0" else _attack_class(entry.label) if label == "1" else class_of_label(label)
        )
    labels = np.zeros(max(numbers, default=0) + 1, np.uint8)
    labels[numbers] = classes
    return labels


def _lines(path: Path, where: str, key: str) -> Iterator[str]:
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            yield from (line for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as exc:
        _fail(where, key, f"{str(path)[:200]}: {getattr(exc, 'strerror', None) or exc}", "a text file")


def _read_flows(path: Path, where: str) -> list[ExactFlow]:
    """Return the flows of a CSV with the columns of FLOW_FIELDS."""
    rows = csv.DictReader(_lines(path, where, "flows"))
    try:
        missing = [name for name in FLOW_FIELDS if name not in (rows.fieldnames or ())]
        if missing:
            _fail(where, "flows", f"{path} without {', '.join(missing)}", f"columns {', '.join(FLOW_FIELDS)}")
        return [_exact_flow(row) for row in rows]
    except (ValueError, csv.Error) as exc:
        _fail(where, "flows", f"{exc} at {path}:{rows.line_num}", "a flow")


def _exact_flow(row: dict[str, str]) -> ExactFlow:
    if any(row[name] is None for name in FLOW_FIELDS):  # what csv gives for the fields a short row lacks
        raise ValueError("too few fields")

    def end(side: str) -> tuple[bytes, int]:
        (port, _) = _port_range(row[f"{side}_port"] or 0)
        return address_bytes(row[f"{side}_ip"].strip()), port

    start, stop = (row[name].strip() for name in ("start", "end"))
    return ExactFlow(
        ends=(end("src"), end("dst")),
        proto=_protocol(row["proto"]),
        start_us=_microseconds(float(start)) if start else _FOREVER_US[0],
        end_us=_microseconds(float(stop)) if stop else _FOREVER_US[1],
        class_index=class_of_label(row["class"]),
    )
