"""A signed bundle, and everything somebody on its way could do to it: each is refused and says why."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import bundle as bundles
from contracts.bundle import MAX_FILE_BYTES, file_sha256, load_bundle, write_manifest
from contracts.errors import BundleCorrupt, BundleError, BundleOutdated, BundleUnreadable, BundleUntrusted
from tests.contracts.conftest import public_pem
from tests.contracts.test_bundle import manifest_of

FILES = ("model.onnx", "model_float.onnx", "MODEL_CARD.md")


@pytest.fixture
def folder(tmp_path, key):
    made = tmp_path / "bundle"
    made.mkdir()
    for name in FILES:
        (made / name).write_bytes(f"what {name} holds".encode())
    sign(made, key)
    return made


def sign(folder, key, **changes):
    files = {name: file_sha256(folder / name) for name in FILES}
    write_manifest(folder, manifest_of(folder, **{"files": files, "release": 5, **changes}))
    (folder / "manifest.sig").write_bytes(key.sign((folder / "manifest.json").read_bytes()))


def flip_a_bit(path, *, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_bundle_signed_by_a_trusted_key_names_its_signer(folder, trust):
    bundle = load_bundle(folder, trust=trust)

    assert bundle.signer == "release-2026"
    assert not bundle.unsigned


def test_a_signed_bundle_named_on_a_command_line_is_unsigned_where_nobody_checked(folder):
    assert load_bundle(folder).unsigned


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig"])
@pytest.mark.parametrize("at", [0, -1])
def test_one_flipped_bit_of_any_file_is_refused(folder, trust, name, at):
    flip_a_bit(folder / name, at=at)

    with pytest.raises(BundleError, match="bundle: ") as caught:
        load_bundle(folder, trust=trust)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig"])
@pytest.mark.parametrize("keep", [0, -1])
def test_a_truncated_file_is_refused(folder, trust, name, keep):
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    with pytest.raises((BundleCorrupt, BundleUntrusted), match=rf"{name}|manifest\.sig"):
        load_bundle(folder, trust=trust)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig"])
def test_a_missing_file_is_refused(folder, trust, name):
    (folder / name).unlink()

    with pytest.raises((BundleUnreadable, BundleUntrusted), match=name):
        load_bundle(folder, trust=trust)


def test_a_bundle_signed_again_by_another_key_is_refused(folder, trust):
    (folder / "model.onnx").write_bytes(b"what an attacker would run")
    sign(folder, Ed25519PrivateKey.generate())

    with pytest.raises(BundleUntrusted, match=r"manifest\.sig is by none of the 1 keys in"):
        load_bundle(folder, trust=trust)


def test_a_key_that_comes_with_the_bundle_is_not_asked(folder, trust):
    other = Ed25519PrivateKey.generate()
    (folder / "release-2026.pub").write_bytes(public_pem(other))
    sign(folder, other)

    with pytest.raises(BundleUntrusted):
        load_bundle(folder, trust=trust)


def test_a_signed_bundle_of_another_schema_is_refused(folder, trust, key):
    sign(folder, key, schema_id="0123456789abcdef")

    with pytest.raises(bundles.SchemaMismatch, match="made for schema_id '0123456789abcdef', this build wants"):
        load_bundle(folder, trust=trust)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_file_nobody_signed_is_refused(folder, trust, trusted):
    (folder / "weights.bin").write_bytes(b"read by the graph, checked by nobody")

    with pytest.raises(BundleCorrupt, match=r"holds 'weights\.bin', which its manifest does not name"):
        load_bundle(folder, trust=trust if trusted else None)


def test_a_folder_within_is_no_part_of_a_bundle(folder, trust):
    (folder / "more").mkdir()

    with pytest.raises(BundleCorrupt, match="holds 'more'"):
        load_bundle(folder, trust=trust)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig"])
def test_a_link_is_refused_even_to_the_very_same_bytes(folder, trust, tmp_path, name):
    shutil.move(folder / name, tmp_path / name)
    os.symlink(tmp_path / name, folder / name)

    with pytest.raises(BundleUnreadable, match=rf"cannot read .*{name}: a symbolic link, wanted the file itself"):
        load_bundle(folder, trust=trust)


def test_the_folder_itself_may_be_a_link(folder, trust, tmp_path):
    os.symlink(folder, tmp_path / "current")

    assert load_bundle(tmp_path / "current", trust=trust).signer == "release-2026"


@pytest.mark.parametrize(
    ("name", "most"), [("model.onnx", MAX_FILE_BYTES), ("MODEL_CARD.md", MAX_FILE_BYTES), ("manifest.sig", 64)]
)
def test_a_file_too_large_to_be_one_is_not_read_to_its_end(folder, trust, name, most):
    with (folder / name).open("r+b") as file:
        file.truncate(1 << 40)

    with pytest.raises(BundleUnreadable, match=rf"{name} is larger than {most} bytes"):
        load_bundle(folder, trust=trust)


def test_an_older_release_is_refused_unless_it_is_a_rollback(folder, trust):
    with pytest.raises(BundleOutdated, match="is release 5, wanted 6 or later unless rolled back"):
        load_bundle(folder, trust=trust, newest=6)

    assert load_bundle(folder, trust=trust, newest=6, rollback=True).manifest.release == 5
    assert load_bundle(folder, trust=trust, newest=5).manifest.release == 5


def test_a_rollback_still_needs_its_signature(folder, trust):
    (folder / "manifest.sig").unlink()

    with pytest.raises(BundleUntrusted, match=r"manifest\.sig is missing, wanted a signature by a key in"):
        load_bundle(folder, trust=trust, newest=6, rollback=True)


def test_the_release_cannot_be_raised_without_the_key(folder, trust):
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**fields, "release": 9}))

    with pytest.raises(BundleUntrusted, match="by none of"):
        load_bundle(folder, trust=trust, newest=6)


def test_the_bundle_this_package_pins_needs_no_signature(folder, trust, monkeypatch):
    (folder / "manifest.sig").unlink()
    monkeypatch.setattr(bundles, "DEFAULT_MANIFEST_SHA256", file_sha256(folder / "manifest.json"))

    bundle = load_bundle(folder, trust=trust)

    assert not bundle.unsigned
    assert bundle.signer is None


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_a_manifest_cannot_name_itself_or_its_signature(folder, trust, key, name):
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"][name] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(fields))
    (folder / "manifest.sig").write_bytes(key.sign((folder / "manifest.json").read_bytes()))

    with pytest.raises(BundleUnreadable, match=r"files must hold model\.onnx and neither"):
        load_bundle(folder, trust=trust)
