"""Keys that sign: made once, read by their owner alone, and what is no key."""

from __future__ import annotations

import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from contracts.errors import OutputError
from contracts.trust import read_public_key
from exporter.sign import fingerprint, load_key, make_key, sign_manifest
from training.errors import KeyRefused


def test_a_new_key_is_for_its_owner_alone_and_its_public_half_for_all(tmp_path):
    make_key(tmp_path / "release")

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes["release"] == 0o600
    assert modes["release.pub"] & 0o022 == 0


def test_both_halves_belong_together(tmp_path):
    digits = make_key(tmp_path / "release")
    (tmp_path / "manifest.json").write_bytes(b"a manifest")
    sign_manifest(tmp_path, load_key(tmp_path / "release"))

    public = read_public_key(tmp_path / "release.pub")

    public.verify((tmp_path / "manifest.sig").read_bytes(), b"a manifest")
    assert fingerprint(public) == digits


@pytest.mark.parametrize("there", ["release", "release.pub"])
def test_a_key_that_stands_is_never_overwritten(tmp_path, there):
    (tmp_path / there).write_bytes(b"the only copy")

    with pytest.raises(OutputError, match=f"cannot write .*{there}: File exists"):
        make_key(tmp_path / "release")

    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"the only copy"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610])
def test_a_key_others_can_reach_is_refused(tmp_path, mode):
    make_key(tmp_path / "release")
    (tmp_path / "release").chmod(mode)

    with pytest.raises(KeyRefused, match=f"has mode {mode:04o}, wanted 0600: others may read it"):
        load_key(tmp_path / "release")


def private_pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: b"", "is not a private key in PEM without a password"),
        (lambda: b"\xff" * 5000, "is not a private key in PEM without a password"),
        (lambda: private_pem(generate_private_key(SECP256R1())), "wanted an Ed25519 private key"),
        (lambda: private_pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"word")), "without a password"),
    ],
    ids=["empty", "noise", "another kind", "with a password"],
)
def test_what_is_no_key_of_ours_is_told(tmp_path, make, complaint):
    (tmp_path / "release").write_bytes(make())
    (tmp_path / "release").chmod(0o600)

    with pytest.raises(KeyRefused, match=complaint) as caught:
        load_key(tmp_path / "release")
    assert "PRIVATE" not in str(caught.value)


def test_a_key_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KeyRefused, match=r"cannot read .*nowhere: No such file"):
        load_key(tmp_path / "nowhere")
