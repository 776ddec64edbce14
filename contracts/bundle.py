"""A bundle: a folder with `model.onnx` and the manifest that says what it expects, promises and was made of.

Loading checks the manifest's shape, that this build computes the columns the model was trained on, and the sha256 of
every file; what the manifest does not name, or what is a link, is refused. Nothing of a bundle is used before.
`default_bundle` is trusted by a sha256 pinned in this package, another by `manifest.sig` and a key of the trust folder
(`contracts.trust`); a folder named on the command line may be `unsigned`, and programs say so. Trap: give the runtime
`Bundle.model`, the bytes that were checked, not the path, or the file may change in between.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contracts.alert import MODEL_NAME
from contracts.classes import BENIGN, HEAD_NAMES, NAMES, UNKNOWN
from contracts.errors import BundleCorrupt, BundleOutdated, BundleUnreadable, BundleUntrusted, SchemaMismatch
from contracts.files import open_regular
from contracts.pinned import DEFAULT_MANIFEST_SHA256
from contracts.terminal import brief
from contracts.trust import SIGNATURE_BYTES, signer_of
from flowfeatures.columns import SCHEMA_ID, WINDOW_COLUMNS

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"  # Ed25519 over the bytes of manifest.json, 64 octets; absent where nobody signed
MODEL: Final = "model.onnx"
MODEL_FLOAT: Final = "model_float.onnx"  # the same network with float32 weights, which is what TensorRT takes
MODEL_CARD: Final = "MODEL_CARD.md"
DEFAULT_DIR: Final = Path(__file__).resolve().parents[1] / "models" / "default"
# A manifest is some 20 KB and a model below 64 KB; the bounds only keep a wrong folder from filling memory.
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_FILE_BYTES: Final = 16 << 20
MAX_FILES: Final = 16
MAX_SHARES: Final = 64
CHUNK_BYTES: Final = 1 << 20
FLOAT32_MAX: Final = 3.4028234e38
FLOAT32_TINY: Final = 1.1754944e-38

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
LogOdds = Annotated[float, Field(ge=-20.0, le=20.0)]
Float32 = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Scaling(_Strict):
    """What the graph does to raw columns before the network; recorded, never applied outside it."""

    kind: Literal["log1p"]
    mean: list[Float32] = Field(description="per column, after log1p")
    std: list[Annotated[float, Field(ge=FLOAT32_TINY, le=FLOAT32_MAX)]]


class Threshold(_Strict):
    """Scores of one class: from `open` on an incident opens, from `severe` on it may be of severity 1."""

    open: Probability
    severe: Probability

    @model_validator(mode="after")
    def _in_order(self) -> Threshold:
        if self.open > self.severe:
            raise ValueError(f"open must not be above severe, got {self.open} and {self.severe}")
        return self


class Interval(_Strict):
    """Where a gateway's own calibration may move a threshold."""

    lo: Probability
    hi: Probability

    @model_validator(mode="after")
    def _in_order(self) -> Interval:
        if self.lo > self.hi:
            raise ValueError(f"lo must not be above hi, got {self.lo} and {self.hi}")
        return self


class SustainedRule(_Strict):
    """How a device's windows add up, as `detection.sustained` averages them, and from which average on they tell.

    A window's log-odds of being no benign one count from `least` to `most`; the newest has `weight`. An average begins
    at `start` and fades back there with `fades_s` of silence. `open` is its threshold, as a score.
    """

    weight: Annotated[float, Field(gt=0.0, le=1.0)]
    start: LogOdds
    least: LogOdds
    most: LogOdds
    fades_s: Annotated[float, Field(ge=1.0, le=86_400.0)]
    open: Annotated[float, Field(ge=0.5, lt=1.0)]

    @model_validator(mode="after")
    def _in_order(self) -> SustainedRule:
        if not self.least <= self.start < log(self.open / (1.0 - self.open)) < self.most:
            raise ValueError(f"wanted least <= start < open's log-odds < most, got {brief(self.model_dump())}")
        return self


class BenignScores(_Strict):
    """How high benign validation windows scored: the tail of what a gateway's own windows are held against.

    `quantiles` holds, per class, the score that each of `shares` of the windows lies at or above (share 0: the highest
    of all), so the numbers never fall. The highest over the sources of the sample counts, each with what is tolerated
    of it; `windows` is how many there were.
    """

    windows: int = Field(ge=1)
    shares: Annotated[list[Probability], Field(min_length=1, max_length=MAX_SHARES)]
    quantiles: dict[str, list[Probability]]

    @model_validator(mode="after")
    def _in_order(self) -> BenignScores:
        if any(later >= earlier for earlier, later in pairwise(self.shares)):
            raise ValueError(f"shares must fall, got {brief(self.shares)}")
        for name, scores in self.quantiles.items():
            if len(scores) != len(self.shares):
                raise ValueError(f"quantiles of {brief(name)} hold {len(scores)} scores, shares {len(self.shares)}")
            if any(later < earlier for earlier, later in pairwise(scores)):
                raise ValueError(f"quantiles of {brief(name)} must not fall, got {brief(scores)}")
        return self


class Source(_Strict):
    """One source of training data and the terms it came under."""

    name: str
    terms: str
    captures: int = Field(ge=0)
    windows: int = Field(ge=0)


class Figures(_Strict):
    """Measurements on one split; None where a figure is undefined there."""

    split: str = Field(description="what was measured on, and how it was kept apart from training")
    values: dict[str, float | int | None]


class Manifest(_Strict):
    """manifest.json. Raises pydantic.ValidationError where a field is missing, unknown or cannot be."""

    format: Literal[1] = FORMAT
    release: int = Field(
        ge=1, lt=1 << 63, description="monotonic; an older one is refused unless the operator rolls back"
    )
    name: Annotated[str, Field(pattern=MODEL_NAME)]
    schema_id: str = Field(description="flowfeatures.SCHEMA_ID at training")
    window: int = Field(ge=1, le=256, description="W")
    features: int = Field(ge=1, description="F")
    classes: list[str] = Field(description="the C outputs of the head, in order")
    scaling: Scaling
    thresholds: dict[str, Threshold] = Field(
        description="every class but benign; unknown where its score means something"
    )
    score: Literal["class", "not benign"] = Field(
        "class", description="what thresholds are held against: each class's probability, or 1 - that of benign"
    )
    interval: Interval
    intervals: dict[str, Interval] = Field(
        default_factory=dict, description="of classes whose scores are of another scale; else `interval` holds"
    )
    sustained: SustainedRule | None = Field(default=None, description="None: every window speaks for itself alone")
    benign_scores: BenignScores | None = Field(
        default=None, description="None in bundles made before they were kept: thresholds are then never lowered"
    )
    benign_medians: list[Float32] = Field(description="raw value per column, over benign training windows")
    files: dict[FileName, Sha256] = Field(max_length=MAX_FILES)
    data: list[Source]
    figures: dict[str, Figures]
    unknown_score: str = Field(description="what the graph's unknown_score is; 'constant' means it says nothing")
    attention: str = Field(description="what the graph's attention is; 'uniform' means it says nothing")
    quantisation: str
    parameters: int = Field(ge=1)
    seed: int
    training_commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}(-dirty)?$")]
    created: datetime.date

    @model_validator(mode="after")
    def _hang_together(self) -> Manifest:
        for field, values in (
            ("scaling.mean", self.scaling.mean),
            ("scaling.std", self.scaling.std),
            ("benign_medians", self.benign_medians),
        ):
            if len(values) != self.features:
                raise ValueError(f"{field} holds {len(values)} values, features is {self.features}")
        if self.sustained is not None and self.score != "not benign":
            raise ValueError(f"sustained wants the score 'not benign', got {self.score!r}")
        attacks = {name for index, name in enumerate(self.classes) if index != BENIGN}
        if set(self.thresholds) - {NAMES[UNKNOWN]} != attacks:
            raise ValueError(f"thresholds must name {sorted(attacks)}, got {brief(sorted(self.thresholds))}")
        for field, named in (
            ("intervals", set(self.intervals)),
            ("benign_scores.quantiles", set(self.benign_scores.quantiles if self.benign_scores else ())),
        ):
            if astray := sorted(named - set(self.thresholds)):
                raise ValueError(f"{field} names {brief(astray[0])}, which has no threshold")
        if MODEL not in self.files or {MANIFEST, SIGNATURE} & set(self.files):
            names = brief(sorted(self.files))
            raise ValueError(f"files must hold {MODEL} and neither {MANIFEST} nor {SIGNATURE}, got {names}")
        return self


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A checked bundle. `model` holds the checked bytes of model.onnx; `unsigned` says nobody vouches for it.

    `signer` is the name of the key in the trust folder that vouches for it, None where it is the package's pin or
    nobody.
    """

    path: Path
    manifest: Manifest
    manifest_sha256: str
    model: bytes
    unsigned: bool
    signer: str | None = None

    @property
    def model_path(self) -> Path:
        return self.path / MODEL


def load_bundle(
    path: Path | str,
    *,
    pinned: bool = False,
    trust: Path | None = None,
    newest: int = 0,
    rollback: bool = False,
) -> Bundle:
    """Return the bundle in a folder, every file checked.

    With `pinned` the manifest must be the one this package was built with; with `trust`, a folder of public keys, that
    one or one signed by a key in it. `newest` is the release in use: an older one is refused unless it is a `rollback`.
    Raises BundleUnreadable, SchemaMismatch, BundleCorrupt, BundleUntrusted or BundleOutdated, each naming the file,
    what was seen and what was wanted.
    """
    if not str(path):
        raise BundleUnreadable("bundle: the name of its folder is empty")
    folder = Path(path)
    raw = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
    digest = hashlib.sha256(raw).hexdigest()
    signer = None
    if pinned:
        _check_pin(folder / MANIFEST, digest)
    elif trust is not None and digest != DEFAULT_MANIFEST_SHA256:
        signer = _check_signature(folder, raw, trust)
    manifest = _manifest(folder / MANIFEST, raw)
    if manifest.release < newest and not rollback:
        raise BundleOutdated(
            f"bundle: {folder / MANIFEST} is release {manifest.release}, wanted {newest} or later unless rolled back"
        )
    _check_names(folder, manifest)
    model = _read(folder / MODEL, MAX_FILE_BYTES)
    for name, wanted in sorted(manifest.files.items()):
        _check_sha256(folder / name, [model] if name == MODEL else _chunks(folder / name, MAX_FILE_BYTES), wanted)
    return Bundle(
        path=folder,
        manifest=manifest,
        manifest_sha256=digest,
        model=model,
        unsigned=not pinned and trust is None,
        signer=signer,
    )


def default_bundle() -> Bundle:
    """Return the bundle inside the package. Raises as load_bundle does, BundleUntrusted if it is not the pinned one."""
    return load_bundle(DEFAULT_DIR, pinned=True)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as the manifest wants it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write manifest.json beside the files it names, all at once; return its sha256 (what `pinned_source` pins)."""
    raw = (json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    draft = folder / (MANIFEST + ".new")
    draft.write_bytes(raw)
    os.replace(draft, folder / MANIFEST)
    return hashlib.sha256(raw).hexdigest()


def pinned_source(manifest_sha256: str) -> str:
    """Return the text of contracts/pinned.py that trusts this manifest and no other."""
    if not re.fullmatch(r"[0-9a-f]{64}", manifest_sha256):
        raise ValueError(f"a sha256 in hex is wanted, got {manifest_sha256!r}")
    text = Path(__file__).with_name("pinned.py").read_text(encoding="utf-8")
    return re.sub(r'(?m)^(DEFAULT_MANIFEST_SHA256.*= )"[0-9a-f]*"$', rf'\g<1>"{manifest_sha256}"', text)


def _read(path: Path, max_bytes: int) -> bytes:
    return b"".join(_chunks(path, max_bytes))


def _chunks(path: Path, max_bytes: int) -> Iterator[bytes]:
    read_bytes = 0
    try:
        with open_regular(path, follow_link=False) as file:
            while chunk := file.read(CHUNK_BYTES):
                read_bytes += len(chunk)
                if read_bytes > max_bytes:
                    raise BundleUnreadable(f"bundle: {path} is larger than {max_bytes} bytes")
                yield chunk
    except OSError as exc:
        raise BundleUnreadable(f"bundle: cannot read {path}: {exc.strerror or exc}") from exc


def _check_sha256(path: Path, chunks: Iterable[bytes], wanted: str) -> None:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    if (seen := digest.hexdigest()) != wanted:
        raise BundleCorrupt(f"bundle: {path} has sha256 {seen}, its manifest wants {wanted}")


def _check_pin(path: Path, seen: str) -> None:
    wanted = DEFAULT_MANIFEST_SHA256
    if seen != wanted:
        raise BundleUntrusted(f"bundle: {path} has sha256 {seen}, this package pins {wanted or 'none'}")


def _check_signature(folder: Path, raw: bytes, trust: Path) -> str:
    """Return the name of the trusted key that signed the manifest's bytes."""
    path = folder / SIGNATURE
    if not os.path.lexists(path):
        raise BundleUntrusted(f"bundle: {path} is missing, wanted a signature by a key in {trust}")
    return signer_of(raw, signature=_read(path, SIGNATURE_BYTES), path=path, trust=trust)


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Raise BundleCorrupt where the folder holds what the manifest does not name: nobody checked or signed it."""
    try:
        names = {each.name for each in folder.iterdir()}
    except OSError as exc:
        raise BundleUnreadable(f"bundle: cannot list {folder}: {exc.strerror or exc}") from exc
    if extra := sorted(names - set(manifest.files) - {MANIFEST, SIGNATURE}):
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise BundleCorrupt(f"bundle: {folder} holds {brief(extra[0])}{more}, which its manifest does not name")


def _manifest(path: Path, raw: bytes) -> Manifest:
    try:
        seen = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise BundleUnreadable(f"bundle: {path} is not JSON: {exc}") from exc
    if not isinstance(seen, dict):
        raise BundleUnreadable(f"bundle: {path} holds a JSON {type(seen).__name__}, wanted an object")
    # Before the shape: a bundle made for another build should say so, not complain about its lists.
    _check_schema(path, seen)
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as exc:
        raise BundleUnreadable(f"bundle: {path}: {first_complaint(exc)}") from exc


def _check_schema(path: Path, seen: Mapping[str, Any]) -> None:
    wanted: dict[str, Any] = {
        "format": FORMAT,
        "schema_id": SCHEMA_ID,
        "features": len(WINDOW_COLUMNS),
        "classes": list(HEAD_NAMES),
    }
    for field, value in wanted.items():
        if field in seen and seen[field] != value:
            made_for = f"{field} {brief(seen[field])}"
            raise SchemaMismatch(f"bundle: {path}: made for {made_for}, this build wants {brief(value)}")


def first_complaint(exc: ValidationError) -> str:
    """Return the first thing pydantic has to say, on one line: where, what, and what it saw instead."""
    error = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part)[:60] for part in error["loc"])
    seen = brief(error["input"])
    if error["type"] == "missing" or isinstance(error["input"], dict | list):
        seen = ""
    message = error["msg"].removeprefix("Value error, ")
    text = f"{where}: {message}" if where else message
    return f"{text}, got {seen}" if seen else text
