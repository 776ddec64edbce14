"""Whose signature counts: the keys of a folder, made here, and what is no key or no folder to trust."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.errors import BundleUntrusted
from contracts.trust import MAX_KEYS, signer_of
from tests.contracts.conftest import public_pem


def signer(trust, signature, *, message=b"a manifest"):
    return signer_of(message, signature=signature, path=trust / "manifest.sig", trust=trust)


def test_a_signature_is_told_by_the_name_of_its_key(trust, key):
    assert signer(trust, key.sign(b"a manifest")) == "release-2026"


def test_while_keys_are_rotated_old_and_new_both_count(trust, key):
    newer = Ed25519PrivateKey.generate()
    (trust / "release-2027.pub").write_bytes(public_pem(newer))

    assert signer(trust, key.sign(b"a manifest")) == "release-2026"
    assert signer(trust, newer.sign(b"a manifest")) == "release-2027"


def test_a_key_taken_away_counts_no_more(trust, key):
    (trust / "release-2026.pub").unlink()

    with pytest.raises(BundleUntrusted, match="by none of the 0 keys in"):
        signer(trust, key.sign(b"a manifest"))


def test_a_folder_that_is_not_there_trusts_nobody(tmp_path, key):
    with pytest.raises(BundleUntrusted, match="by none of the 0 keys in"):
        signer(tmp_path / "nowhere", key.sign(b"a manifest"))


def test_a_signature_of_something_else_does_not_count(trust, key):
    with pytest.raises(BundleUntrusted, match="by none of the 1 keys"):
        signer(trust, key.sign(b"a manifest"), message=b"another manifest")


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_told_as_that(trust, length):
    with pytest.raises(BundleUntrusted, match=f"has {length} bytes, wanted 64"):
        signer(trust, b"\0" * length)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not a public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is not a public key in PEM"),
        (public_pem(generate_private_key(SECP256R1())), "wanted an Ed25519 public key"),
    ],
)
def test_a_file_that_is_no_key_is_named_and_not_passed_over(trust, key, content, complaint):
    (trust / "a.pub").write_bytes(content)

    with pytest.raises(BundleUntrusted, match=rf"a\.pub is .*{complaint.removeprefix('is ')}"):
        signer(trust, key.sign(b"a manifest"))


@pytest.mark.parametrize("what", ["folder", "key"])
def test_what_others_may_write_is_trusted_by_nobody(trust, key, what):
    (trust if what == "folder" else trust / "release-2026.pub").chmod(0o777)

    with pytest.raises(BundleUntrusted, match=r"has mode 0777, wanted none that others may write"):
        signer(trust, key.sign(b"a manifest"))


def test_other_files_in_the_folder_are_no_keys(trust, key):
    (trust / "README").write_text("how to rotate")

    assert signer(trust, key.sign(b"a manifest")) == "release-2026"


def test_there_is_a_bound_on_keys(trust, key):
    for number in range(MAX_KEYS):
        (trust / f"more-{number}.pub").write_bytes(public_pem(key))

    with pytest.raises(BundleUntrusted, match=f"holds {MAX_KEYS + 1} keys, wanted at most {MAX_KEYS}"):
        signer(trust, key.sign(b"a manifest"))
