"""Crafted keys: the hashes are the published ones, and the keys collide under what they were made for."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import crafted, tuples

QUICK = [name for name in crafted.FAMILIES if name not in ("equal_fnv1a", "equal_siphash")]


def words_of(octets: bytes) -> np.ndarray:
    return np.frombuffer(octets, "<u8").reshape(1, -1).astype(np.uint64)


def test_siphash_is_the_one_cpython_hashes_octets_with():
    """Of CPython 3.11 with PYTHONHASHSEED=0, which is a seed of zeros: hash(octets) modulo 2^64."""
    said_by_cpython = {bytes(range(40)): 10789553897545236998, b"penstockpenstock": 17547299758383626037}

    said = {octets: int(crafted.siphash13(words_of(octets), crafted.ZERO_SEED)[0]) for octets in said_by_cpython}

    assert said == said_by_cpython


def test_a_word_that_is_the_same_in_all_rows_changes_no_hash():
    rows = np.random.default_rng(1).integers(0, 1 << 63, (6, 5)).astype(np.uint64)
    rows[:, 1:3] = rows[0, 1:3]

    together = crafted.siphash13(rows, bytes(range(16)))

    alone = [int(crafted.siphash13(row.reshape(1, 5), bytes(range(16)))[0]) for row in rows]
    assert together.tolist() == alone


def test_fnv1a_is_the_published_one():
    """An octet at a time in Python's own integers, as the draft has it."""
    keys = crafted.at_random(5)
    expected = []
    for row in crafted.octets_of(keys):
        state = 0xCBF29CE484222325
        for octet in row.tolist():
            state = (state ^ octet) * 0x100000001B3 % (1 << 64)
        expected.append(state)

    assert crafted.fnv1a(keys).tolist() == expected


def test_the_key_of_a_packet_and_of_its_answer_are_the_same():
    keys = crafted.at_random(1_000)

    assert (crafted.key_words(keys) == crafted.key_words(tuples.reversed_ends(keys))).all()


@pytest.mark.parametrize("family", QUICK)
def test_no_two_keys_of_a_family_are_one_flow(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    keys = crafted.FAMILIES[family](70_000)

    assert len(keys) == len(np.unique(crafted.key_words(keys), axis=0)) == 70_000


def test_keys_made_for_a_hash_share_its_low_bits_and_no_others(tmp_path: Path):
    for name, hashed in (("siphash", crafted.siphash), ("fnv1a", crafted.fnv1a)):
        keys = crafted.searched(150, hashed, name=name, zero_bits=crafted.SHARED, folder=tmp_path)

        assert len(np.unique(keys)) == 150
        assert set((hashed(keys) & np.uint64(crafted.SHARED)).tolist()) == {0}
        assert len(np.unique(hashed(keys))) == 150


def test_keys_made_for_one_seed_are_spread_by_another(tmp_path: Path):
    keys = crafted.searched(300, crafted.siphash, name="siphash", zero_bits=crafted.SHARED, folder=tmp_path)

    places = np.unique(crafted.siphash(keys, bytes(range(16))) & np.uint64(crafted.SHARED))

    assert len(places) > 200  # 289 expected of 300 thrown into 4,096


def test_neighbours_begin_within_the_first_4096_places_of_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    keys = crafted.neighbours_siphash(20_000)

    places = crafted.siphash(keys) & np.uint64(65_535)
    assert len(np.unique(keys)) == 20_000
    assert int(places.max()) < 4_096


def test_all_keys_of_equal_crc32_have_one_crc():
    keys = crafted.equal_crc32(2_000)

    sums = {zlib.crc32(row.tobytes()) for row in crafted.octets_of(keys)}

    assert sums == {0x5EED5EED}
    assert len(np.unique(keys["dst"])) > 1_900


def test_all_keys_of_equal_xor_and_equal_sums_fold_to_one():
    xor, total = crafted.equal_xor(70_000), crafted.equal_sums(70_000)

    assert len(np.unique(xor["src"] ^ xor["dst"])) == len(np.unique(xor["src_port"] ^ xor["dst_port"])) == 1
    assert len(np.unique(total["src"].astype(np.int64) + total["dst"])) == 1
    assert len(np.unique(total["src_port"].astype(np.int64) + total["dst_port"])) == 1
