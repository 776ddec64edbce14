"""Orders and archives: what was made is read, and whatever else comes is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.bundle import MANIFEST, default_bundle, load_bundle
from contracts.errors import BundleUnreadable
from contracts.rollout import (
    ARCHIVE_MAGIC,
    MAX_ARCHIVE_BYTES,
    OrderHeader,
    pack_archive,
    pack_order,
    read_archive,
    read_order,
    unpack_archive,
)
from contracts.signed import MessageRefused

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def header(**changes: object) -> OrderHeader:
    told: dict[str, object] = {
        "fleet": "homes", "gateway": "attic", "number": 3, "release": 7, "bundle_sha256": "a" * 64,
        "archive_sha256": "b" * 64, "archive_bytes": 49_000, "is_rollback": False, "issued_us": 1,
    }  # fmt: skip
    return OrderHeader(**{**told, **changes})


def refused(message: bytes) -> str:
    with pytest.raises(MessageRefused) as caught:
        read_order(message, [KEY.public_key()], fleet="homes", gateway="attic")
    return caught.value.reason


def test_an_order_says_what_was_ordered():
    order = read_order(pack_order(header(), KEY), [KEY.public_key()], fleet="homes", gateway="attic")

    assert order.header == header()


def test_an_order_by_another_key_to_another_gateway_or_of_another_fleet_is_refused():
    whole = pack_order(header(), KEY)

    assert refused(pack_order(header(), OTHER)) == "signature"
    assert refused(pack_order(header(gateway="barn"), KEY)) == "wrong gateway"
    assert refused(pack_order(header(fleet="others"), KEY)) == "fleet"
    assert refused(whole[:-1]) == "truncated"
    assert refused(whole[:20]) == "truncated"
    assert refused(whole + bytes(4096)) == "oversize"
    assert refused(b"PSC1" + whole[4:]) == "foreign"


@pytest.mark.parametrize("place", range(0, 360, 7))
def test_an_order_of_which_one_bit_was_turned_is_refused(place: int):
    changed = bytearray(pack_order(header(), KEY))
    changed[place] ^= 1

    with pytest.raises(MessageRefused):
        read_order(bytes(changed), [KEY.public_key()], fleet="homes", gateway="attic")


def test_a_bundle_comes_out_of_an_archive_as_it_went_in(tmp_path: Path):
    bundle = default_bundle()

    archive = pack_archive(bundle)
    unpack_archive(archive, tmp_path / "bundle")

    assert load_bundle(tmp_path / "bundle").manifest_sha256 == bundle.manifest_sha256
    assert archive == pack_archive(bundle)
    assert len(archive) < MAX_ARCHIVE_BYTES / 8  # room for a fleet's next ones


def archive_of(names: object, content: bytes = b"") -> bytes:
    told = json.dumps(names, separators=(",", ":")).encode()
    return ARCHIVE_MAGIC + len(told).to_bytes(4, "big") + told + content


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"PSB1",
        b"PSB2" + pack_archive(default_bundle())[4:],
        pack_archive(default_bundle())[:-1],
        pack_archive(default_bundle()) + b"x",
        bytes(MAX_ARCHIVE_BYTES + 1),
        archive_of([]),
        archive_of({}),
        archive_of([[MANIFEST, 0], ["a", 0]]),  # not in order
        archive_of([[MANIFEST, 0], [MANIFEST, 0]]),
        archive_of([["../../etc/passwd", 0], [MANIFEST, 0]]),
        archive_of([["a/b", 0], [MANIFEST, 0]]),
        archive_of([["..", 0], [MANIFEST, 0]]),
        archive_of([[".hidden", 0], [MANIFEST, 0]]),
        archive_of([["a", -1], [MANIFEST, 1]]),
        archive_of([["a", True], [MANIFEST, 0]], b"x"),
        archive_of([["a", 1.0], [MANIFEST, 0]], b"x"),
        archive_of([[f"f{place:02}", 0] for place in range(40)] + [[MANIFEST, 0]]),
        ARCHIVE_MAGIC + (1 << 31).to_bytes(4, "big"),
        ARCHIVE_MAGIC + (4).to_bytes(4, "big") + b"[[[[",
    ],
    ids=range(20),
)
def test_what_is_no_archive_is_refused(archive: bytes, tmp_path: Path):
    with pytest.raises(BundleUnreadable):
        read_archive(archive)
    with pytest.raises(BundleUnreadable):
        unpack_archive(archive, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_comes_out_is_not_believed(tmp_path: Path):
    archive = bytearray(pack_archive(default_bundle()))
    archive[-1] ^= 1

    unpack_archive(bytes(archive), tmp_path / "bundle")

    with pytest.raises(Exception, match="its manifest wants"):
        load_bundle(tmp_path / "bundle")
