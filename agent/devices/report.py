"""What is told of devices to the rest of the agent: a name, a move, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from flowfeatures import address_bytes

STATE_VERSION: Final = 1
MAX_ROWS: Final = 1024


@dataclass(frozen=True)
class DeviceName:
    """Who has an address. `mac` as text; `name` as DHCP or mDNS gave it, if one did."""

    mac: str
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Move:
    """A device went from one address to another (16 octets each)."""

    old: bytes
    new: bytes
    mac: bytes


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """One device, for a person. `wishes` is DHCP's option 55 in hexadecimal, a hint of what kind of device it is."""

    mac: str
    name: str | None
    addresses: tuple[str, ...]
    wishes: str
    is_settled: bool


@dataclass(frozen=True, kw_only=True)
class DeviceCounts:
    """Numbers: of devices as of now, of everything else since the start."""

    COUNTS: ClassVar = (
        "frames",
        "dropped",
        "moves",
        "renames",
        "takeovers",
        "contested",
        "contested_names",
        "forgotten",
        "no_room",
    )

    devices: int
    settled: int
    addresses: int
    named: int
    frames: int
    dropped: int
    """Frames the kernel or the bound on their rate kept from us."""
    moves: int
    renames: int
    takeovers: int
    contested: int
    """Claims of an address that another device holds."""
    contested_names: int
    forgotten: int
    no_room: int
    refused: Mapping[str, int]
    refused_moves: Mapping[str, int]


def rows_of(state: object) -> list[DeviceRow]:
    """Return the devices of a saved state. Raises ValueError where it is none: the file may be anything by now."""
    listed = state.get("devices") if isinstance(state, dict) and state.get("version") == STATE_VERSION else None
    if not isinstance(listed, list):
        raise ValueError(f"devices: no state of version {STATE_VERSION}")  # noqa: TRY004  # a file's fault, not a caller's
    rows = [_row(each) for each in listed[:MAX_ROWS]]
    if len({row.mac for row in rows}) != len(rows):
        raise ValueError("devices: one MAC twice")
    return rows


def _row(value: object) -> DeviceRow:
    try:
        fields = dict(value)  # type: ignore[call-overload]
        row = DeviceRow(**{**fields, "addresses": tuple(fields["addresses"])})
        bytes.fromhex(row.wishes)
        if len(bytes.fromhex(row.mac.replace(":", ""))) != 6 or not isinstance(row.name, str | None):
            raise ValueError(f"devices: {row.mac!r} with name {row.name!r}")
        for address in row.addresses:
            address_bytes(address)
    except (TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"devices: a row of another shape: {exc}") from exc
    return row
