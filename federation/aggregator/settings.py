"""aggregator.toml: one frozen tree, one default per setting, read once by the program.

What is wrong is one line that names the file, the key, what stands there and what is wanted; an unknown key is an
error, since a misspelt setting would be silence. `python -m federation.aggregator.settings` writes the sample file,
which a test holds against this module.
"""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from contracts.errors import ConfigError
from contracts.terminal import brief, printable
from contracts.trust import TRUST_DIR
from contracts.update import Name
from contracts.whole_file import read_bounded
from federation.aggregator.stores import check_name

FILE: Final = Path("/etc/penstock/aggregator.toml")
SAMPLE: Final = Path(__file__).resolve().parents[2] / "deploy" / "aggregator.toml"
MAX_FILE_BYTES: Final = 1 << 20
FOLDER: Final = Path("/etc/penstock/aggregator")
Strategy = Literal["fedavg", "fedprox", "fedadam", "fedmedian", "fedtrimmedavg", "krum", "bulyan"]


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("an absolute path")
    return path


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


AbsolutePath = Annotated[Path, BeforeValidator(_path), AfterValidator(_absolute)]
Paths = Annotated[
    tuple[AbsolutePath, ...], BeforeValidator(lambda told: tuple(told) if isinstance(told, list) else told)
]


class Section(BaseModel):
    """Frozen and strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FleetSection(Section):
    """Which gateways these are."""

    name: Name = Field(description="the fleet, as its gateways are told", examples=["homes"])


class BrokerSection(Section):
    """Where the gateways' messages come from."""

    url: str = Field(
        "mqtts://127.0.0.1:8883", description="mqtts://host[:port]; mqtt:// for a broker on this machine alone",
        pattern=r"^mqtts?://[^/@\s]+/?$",
    )  # fmt: skip
    ca: AbsolutePath = Field(FOLDER / "ca.pem", description="whose certificates the broker may have")
    cert: AbsolutePath = Field(FOLDER / "aggregator.crt", description="ours; its common name is the user the ACL names")
    key: AbsolutePath = Field(FOLDER / "aggregator.key", description="the private key of it")
    keep_alive_s: int = Field(30, ge=5, le=3600, description="silence after which the connection counts as dead")


class KeysSection(Section):
    """What calls, orders and bundles are signed with; penstock-export keygen makes them."""

    calls: AbsolutePath = Field(
        FOLDER / "calls.pem", description="private key; gateways have its .pub in aggregators.d"
    )
    bundles: AbsolutePath = Field(FOLDER / "bundles.pem", description="private key; gateways have its .pub in trust.d")


class BundleSection(Section):
    """The bundle that the gateways began with."""

    path: AbsolutePath | None = Field(
        None, description="its folder, signed by a key in trust; unset: the one inside this package",
        examples=[Path("/var/lib/penstock-aggregator/first")],
    )  # fmt: skip
    trust: AbsolutePath = Field(TRUST_DIR, description="public keys that vouch for it")


class WindowsSection(Section):
    """Our own labelled captures (docs/lab.md says how to record some), by their ground-truth files."""

    teaching: Paths = Field(
        description="give anchors, and set a new head's level", min_length=1,
        examples=[(FOLDER / "teaching" / "ground_truth.json",)],
    )  # fmt: skip
    judging: Paths = Field(
        description="let a new head and a new bundle through or not; other captures than those that teach",
        min_length=1, examples=[(FOLDER / "judging" / "ground_truth.json",)],
    )  # fmt: skip


class RoundsSection(Section):
    """How rounds are held."""

    is_automatic: bool = Field(True, description="open rounds by themselves; else penstock-aggregator open")
    every_h: float = Field(24.0, ge=0.0, le=8760.0, description="hours from one round's begin to the next, at least")
    lasts_h: float = Field(20.0, gt=0.0, le=8760.0, description="hours a round waits for updates")
    quorum: int = Field(3, ge=1, le=10_000, description="updates below which a round is void; 3 to be robust at all")
    mode: Literal["robust", "private"] = Field(
        "robust", description="robust: we see each gateway's update; private: their sum alone, which no strategy guards"
    )
    strategy: Strategy = Field(
        "fedtrimmedavg", description="fedavg, fedmedian and fedtrimmedavg need nothing; the others are Flower's"
    )
    clip_norm: float = Field(2.0, gt=0.0, le=1000.0, description="how far one gateway can move a head")
    kept_share: float = Field(1.0, gt=0.0, le=1.0, description="of a head's numbers that travel in a round")


class RolloutSection(Section):
    """How a new bundle reaches the gateways."""

    is_automatic: bool = Field(True, description="build releases of adopted heads by themselves")
    every_h: float = Field(24.0, ge=0.0, le=8760.0, description="hours between two releases, at least")
    canary_share: float = Field(0.1, gt=0.0, le=1.0, description="of the gateways that take it first; at least one")
    canary_h: float = Field(24.0, ge=0.0, le=8760.0, description="hours they are watched")


class WorkerSection(Section):
    """This process among others on the same store."""

    name: Name = Field("1", description="each worker its own; part of the client id")
    share: str = Field(
        "", pattern=r"^[A-Za-z0-9_-]{0,32}$",
        description="name of a shared subscription, the same for all workers; empty: one worker alone",
    )  # fmt: skip
    state_dir: AbsolutePath = Field(
        Path("/var/lib/penstock-aggregator"), description="bundles, windows; of all workers on this machine"
    )
    store: Annotated[str, AfterValidator(check_name)] = Field(
        "", description="what all workers keep rounds in: a file of SQLite on a local disk, by its absolute path, or "
        "postgresql://, without a password; empty: aggregator.db in state_dir",
        examples=["postgresql:///penstock?host=/run/postgresql"],
    )  # fmt: skip


class MetricsSection(Section):
    """What Prometheus scrapes. It names no gateway and no address."""

    is_enabled: bool = Field(True, description="serve them")
    port: int = Field(9745, ge=1, le=65_535, description="on 127.0.0.1")


class AggregatorConfig(Section):
    """All settings of `penstock-aggregator`."""

    fleet: FleetSection
    broker: BrokerSection = Field(default_factory=BrokerSection)
    keys: KeysSection = Field(default_factory=KeysSection)
    bundle: BundleSection = Field(default_factory=BundleSection)
    windows: WindowsSection
    rounds: RoundsSection = Field(default_factory=RoundsSection)
    rollout: RolloutSection = Field(default_factory=RolloutSection)
    worker: WorkerSection = Field(default_factory=WorkerSection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)


def load_config(file: Path) -> AggregatorConfig:
    """Return the settings of a file. Raises ConfigError."""
    shown = printable(str(file))
    try:
        # In the standard library from 3.11 on; tomli is the same code for 3.10, and a dependency only there.
        module = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        tree = module.loads(read_bounded(file, most_bytes=MAX_FILE_BYTES).decode())
    except FileNotFoundError as exc:
        wanted_file = "wanted a copy of deploy/aggregator.toml (deploy/install.sh --role aggregator writes one)"
        raise ConfigError(f"{shown}: not there, {wanted_file}") from exc
    except OSError as exc:
        raise ConfigError(f"{shown}: cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{shown}: not TOML: {printable(brief(exc, 120))}") from exc
    try:
        return AggregatorConfig.model_validate(tree)
    except ValidationError as exc:
        raise ConfigError(f"{shown}: {_complaint(exc)}") from None


def sections() -> dict[str, type[Section]]:
    """Return the sections by name."""
    found = {}
    for name, field in AggregatorConfig.model_fields.items():
        assert isinstance(field.annotation, type)
        found[name] = field.annotation
    return found


def wanted(field: FieldInfo) -> str:
    """Return what a field wants to be.

    >>> wanted(RoundsSection.model_fields["quorum"])
    'a whole number from 1 to 10,000'
    """
    kinds = [each for each in _alternatives(field.annotation) if each is not type(None)]
    kind = kinds[0]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f'"{each}"' for each in get_args(kind))
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _bounds(field.metadata)
    if get_origin(kind) is tuple:
        return "a list of absolute paths, one at least"
    return "an absolute path" if kind is Path else "a text of the form described"


def sample(*, active: bool = False) -> str:
    """Return the sample file; `active` without the `#` before settings, for tests that read every one of them."""
    lines = [
        "# Settings of penstock-aggregator. Each key stands here once with its default; docs/federation.md explains."
    ]
    for name, section in sections().items():
        lines += ["", f"# {(section.__doc__ or '').splitlines()[0]}", f"[{name}]"]
        for key, field in section.model_fields.items():
            told = f"{field.description} ({wanted(field)})"
            lines += ["", *(f"# {line}" for line in textwrap.wrap(told, 100, break_on_hyphens=False))]
            mark = "" if active or field.is_required() else "#"
            lines.append(f"{mark}{key} = {_toml(_default(field))}")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> Any:
    if (field.is_required() or field.default is None) and field.examples:
        return field.examples[0]
    return field.default


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"'


def _complaint(exc: ValidationError) -> str:
    """Return the first thing wrong, and how many more there are."""
    errors = exc.errors(include_url=False)
    error = errors[0]
    section, key = (*map(str, error["loc"]), "", "")[:2]
    name = printable(f"{section}.{key}" if key else section)[:80]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    kind = sections().get(section)
    if kind is None:
        return f"{name}: unknown section, wanted one of {', '.join(sections())}{more}"
    if not key:
        return f"[{name}]: missing, or no table{more}"
    if key not in kind.model_fields:
        return f"{name}: unknown key, wanted one of {', '.join(kind.model_fields)}{more}"
    if key == "store":  # which may hold a password, where it must not
        return f"{name}: {error['ctx']['error'] if 'ctx' in error else 'no text'}{more}"
    seen = "missing" if error["type"] == "missing" else printable(brief(error["input"], 60))
    return f"{name}: {seen}, wanted {wanted(kind.model_fields[key])}{more}"


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation


def _bounds(metadata: list[Any]) -> str:
    low = high = ""
    for each in metadata:
        if isinstance(each, annotated_types.Ge):
            low = f" from {each.ge:,}"
        elif isinstance(each, annotated_types.Gt):
            low = f" above {each.gt:,}"
        elif isinstance(each, annotated_types.Le):
            high = f" to {each.le:,}"
    return low + high


if __name__ == "__main__":
    SAMPLE.write_text(sample(), encoding="utf-8")
