"""What crosses the network in a roll-out: an aggregator's *order* to one gateway, and the bundle as one *archive*.

An order is a `contracts.signed` message without payload: which bundle this gateway should run from now on. It is
retained on the gateway's own topic, so that a gateway that was away finds the newest. It vouches for nothing: the
bundle it names must be signed by a key of the trust folder, as any other. `number` rises with every order to a gateway;
one that does not is old. Only with `is_rollback` may the release be lower than the one in use, and a gateway then takes
nothing but what served before, or the package's own: a lying aggregator must not dig up any bundle ever signed.

An archive is a bundle's folder in one piece: magic, length of the header (4, big end first), canonical JSON with names
and sizes in order of names, then the files one after the other. Trap: it is not signed itself; what comes out of it is
a folder that `contracts.bundle.load_bundle` must be asked about.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from contracts.bundle import MANIFEST, MAX_FILES, MAX_MANIFEST_BYTES, SIGNATURE, Bundle
from contracts.errors import BundleUnreadable
from contracts.signed import Header, MessageRefused, header_of, opened, pack, verify
from contracts.update import Name, Sha256, TimeUs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ORDER_MAGIC: Final = b"PSO1"
MAX_ORDER_BYTES: Final = 2048
ARCHIVE_MAGIC: Final = b"PSB1"
MAX_ARCHIVE_BYTES: Final = 4 << 20
_LENGTH_BYTES: Final = 4
_MAX_NAMES_BYTES: Final = 4096
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class OrderHeader(Header):
    """The header of an order. `bundle_sha256` is that of its manifest.json, `archive_sha256` that of the archive."""

    format: Literal[1] = 1
    fleet: Name
    gateway: Name
    number: Annotated[int, Field(ge=1, le=1 << 31)]
    release: Annotated[int, Field(ge=1, lt=1 << 63)]
    bundle_sha256: Sha256
    archive_sha256: Sha256
    archive_bytes: Annotated[int, Field(ge=1, le=MAX_ARCHIVE_BYTES)]
    is_rollback: bool
    issued_us: TimeUs


@dataclass(frozen=True)
class Order:
    """An order that was checked. `sha256` names its octets."""

    header: OrderHeader
    sha256: str


def pack_order(header: OrderHeader, key: Ed25519PrivateKey) -> bytes:
    """Return the octets of an order."""
    return pack(ORDER_MAGIC, header, b"", key=key, most_bytes=MAX_ORDER_BYTES)


def read_order(message: bytes, keys: Iterable[Ed25519PublicKey], *, fleet: str, gateway: str) -> Order:
    """Return an order to this gateway that one of the keys signed. Raises MessageRefused.

    Whether its number is a new one is asked by who remembers the last.
    """
    parts = opened(ORDER_MAGIC, message, most_bytes=MAX_ORDER_BYTES)
    if not any(verify(parts, key) for key in keys):
        raise MessageRefused("signature", "an order by no aggregator that is trusted here")
    header = header_of(OrderHeader, parts.header)
    if parts.payload:
        raise MessageRefused("payload", f"{len(parts.payload)} bytes behind the header, wanted none")
    if header.fleet != fleet:
        raise MessageRefused("fleet", f"of fleet {header.fleet}, wanted {fleet}")
    if header.gateway != gateway:
        raise MessageRefused("wrong gateway", f"to {header.gateway}, wanted {gateway}")
    return Order(header, hashlib.sha256(message).hexdigest())


def pack_archive(bundle: Bundle) -> bytes:
    """Return a bundle's folder as one archive; the same bundle gives the same octets.

    Raises ValueError where it would be larger than MAX_ARCHIVE_BYTES, OSError where a file cannot be read.
    """
    names = sorted({*bundle.manifest.files, MANIFEST} | ({SIGNATURE} if (bundle.path / SIGNATURE).exists() else set()))
    contents = {name: (bundle.path / name).read_bytes() for name in names}
    told = json.dumps([[name, len(content)] for name, content in contents.items()], separators=(",", ":")).encode()
    archive = ARCHIVE_MAGIC + len(told).to_bytes(_LENGTH_BYTES, "big") + told + b"".join(contents.values())
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise ValueError(f"an archive of {len(archive)} bytes, wanted at most {MAX_ARCHIVE_BYTES}")
    return archive


def read_archive(archive: bytes) -> Mapping[str, bytes]:
    """Return the files of an archive by name. Raises BundleUnreadable for anything that is none."""
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise BundleUnreadable(f"archive: {len(archive)} bytes, wanted at most {MAX_ARCHIVE_BYTES}")
    start = len(ARCHIVE_MAGIC) + _LENGTH_BYTES
    if archive[: len(ARCHIVE_MAGIC)] != ARCHIVE_MAGIC or len(archive) < start:
        raise BundleUnreadable("archive: not an archive of a bundle")
    length = int.from_bytes(archive[len(ARCHIVE_MAGIC) : start], "big")
    if length > _MAX_NAMES_BYTES or start + length > len(archive):
        raise BundleUnreadable(f"archive: a header of {length} bytes in {len(archive)}")
    sizes = _sizes(archive[start : start + length])
    at = start + length
    if at + sum(sizes.values()) != len(archive):
        raise BundleUnreadable(f"archive: {len(archive) - at} bytes of files, its header says {sum(sizes.values())}")
    found = {}
    for name, size in sizes.items():
        found[name] = archive[at : at + size]
        at += size
    return found


def unpack_archive(archive: bytes, folder: Path) -> None:
    """Write the files of an archive into a folder that is not there yet. Raises BundleUnreadable, OSError.

    Nothing of them is believed: load the folder as a bundle next.
    """
    contents = read_archive(archive)
    folder.mkdir(parents=True, mode=0o700)
    for name, content in contents.items():
        with open(folder / name, "xb") as file:
            file.write(content)


def _sizes(raw: bytes) -> dict[str, int]:
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise BundleUnreadable(f"archive: its header is not JSON: {exc}") from exc
    sizes: dict[str, int] = {}
    for each in told if isinstance(told, list) and len(told) <= MAX_FILES + 2 else [None]:
        match each:
            case [str(name), int(size)] if _FILE_NAME.fullmatch(name) and not isinstance(size, bool):
                most = MAX_MANIFEST_BYTES if name == MANIFEST else MAX_ARCHIVE_BYTES
                if name in sizes or not 0 <= size <= most:
                    raise BundleUnreadable(f"archive: {name} twice, or of {size} bytes")
                sizes[name] = size
            case _:
                raise BundleUnreadable("archive: its header is no list of names and sizes")
    if list(sizes) != sorted(sizes) or MANIFEST not in sizes:
        raise BundleUnreadable(f"archive: wanted {MANIFEST} among names in order")
    return sizes
