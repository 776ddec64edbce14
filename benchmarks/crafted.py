"""Flow keys chosen to collide: what somebody would send who wants one slot of a hash table to hold all flows.

A family is a set of 5-tuples that one way of hashing flow keys cannot tell apart: sums and exclusive-ors of fields,
CRC-32, FNV-1a, and SipHash-1-3 itself under a key that is known. The hashes are written here once more, in numpy, from
their definitions. The trap: `siphash` follows the layout of our flow keys (flowfeatures/key.pxd); were that to change,
the control of benchmarks.collisions, not a family, would show it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import tuples
from benchmarks.traffic import CACHE, UDP
from benchmarks.tuples import TUPLE, Tuples

SHARED_BITS = 12
SHARED = (1 << SHARED_BITS) - 1  # bits of the hash that are zero in all crafted keys
ZERO_SEED = bytes(16)
CHUNK = 1 << 12  # numbers at a time: larger arrays would be mapped and unmapped anew in every operation
Words = NDArray[np.uint64]


def rotated(x: Words, bits: int) -> Words:
    turned: Words = (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))
    return turned


def sip_round(v0: Words, v1: Words, v2: Words, v3: Words) -> tuple[Words, Words, Words, Words]:
    v0 = v0 + v1
    v2 = v2 + v3
    v1 = rotated(v1, 13) ^ v0
    v3 = rotated(v3, 16) ^ v2
    v0 = rotated(v0, 32)
    v2 = v2 + v1
    v0 = v0 + v3
    v1 = rotated(v1, 17) ^ v2
    v3 = rotated(v3, 21) ^ v0
    return v0, v1, rotated(v2, 32), v3


def siphash13(words: Words, seed: bytes) -> Words:
    """Return SipHash-1-3 (Aumasson and Bernstein, 2012) of each row of uint64[n, k], keyed by 16 octets."""
    k0, k1 = np.frombuffer(seed, "<u8").astype(np.uint64)
    initial = b"somepseudorandomlygeneratedbytes"
    start = np.frombuffer(initial, ">u8").astype(np.uint64)
    v0, v1, v2, v3 = (start[i : i + 1] ^ (k1 if i % 2 else k0) for i in range(4))
    length = np.array([(8 * words.shape[1] & 0xFF) << 56], np.uint64)
    # A word that is the same in all rows is hashed once: numpy spreads the state when it meets one that differs.
    columns = [column[:1] if (column == column[:1]).all() else np.ascontiguousarray(column) for column in words.T]
    for word in (*columns, length):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3 ^ word)
        v0 = v0 ^ word
    v2 = v2 ^ np.uint64(0xFF)
    for _ in range(3):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return np.broadcast_to(v0 ^ v1 ^ v2 ^ v3, len(words))


def key_words(keys: Tuples) -> Words:
    """Return our flow keys as uint64[n, 5]: the lower end's address, the higher end's, then ports and protocol."""
    src, dst, src_port, dst_port = (keys[name].astype(np.uint64) for name in keys.dtype.names or ())
    is_low = (src < dst) | ((src == dst) & (src_port <= dst_port))
    words = np.zeros((len(keys), 5), np.uint64)
    words[:, 1] = address_word(np.where(is_low, src, dst))
    words[:, 3] = address_word(np.where(is_low, dst, src))
    low_port, high_port = np.where(is_low, src_port, dst_port), np.where(is_low, dst_port, src_port)
    words[:, 4] = low_port << np.uint64(48) | high_port << np.uint64(32) | np.uint64(UDP << 24)
    return words


def address_word(address: Words) -> Words:
    """Return the second half of ::ffff:a.b.c.d as its octets stand in memory, read as a little-endian number."""
    word: Words = address.astype(np.uint32).byteswap().astype(np.uint64) << np.uint64(32) | np.uint64(0xFFFF0000)
    return word


def siphash(keys: Tuples, seed: bytes = ZERO_SEED) -> Words:
    return siphash13(key_words(keys), seed)


def octets_of(keys: Tuples) -> NDArray[np.uint8]:
    """Return uint8[n, 13]: the 5-tuple as a naive table would hash it, in network order, destination address last."""
    octets = np.full((len(keys), 13), UDP, np.uint8)
    for start, name, kind in ((0, "src", ">u4"), (4, "src_port", ">u2"), (6, "dst_port", ">u2"), (9, "dst", ">u4")):
        field = np.ascontiguousarray(keys[name].astype(kind))
        octets[:, start : start + field.itemsize] = field.view(np.uint8).reshape(len(keys), -1)
    return octets


def fnv1a(keys: Tuples) -> Words:
    """Return the 64-bit FNV-1a of each 5-tuple."""
    state = np.full(len(keys), 0xCBF29CE484222325, np.uint64)
    for octet in octets_of(keys).T:
        state = (state ^ octet) * np.uint64(0x100000001B3)
    return state


def crc32(keys: Tuples) -> Words:
    """Return the CRC-32 of each 5-tuple."""
    return np.array([zlib.crc32(row.tobytes()) for row in octets_of(keys)], np.uint64)


# -- families -----------------------------------------------------------------------------------------------------


def at_random(count: int) -> Tuples:
    return tuples.distinct(count, seed=7)


def sequential_addresses(count: int) -> Tuples:
    """One source after the other, one destination, the same ports."""
    return filled(count, src=0x0A000001 + np.arange(count), dst=0xC0A80101, src_port=40000, dst_port=443)


def one_pair_of_hosts(count: int) -> Tuples:
    """Two addresses; all that differs are ports, counted up."""
    return filled(count, src=0x0A000005, dst=0xC0A80101, src_port=1 + np.arange(count) % 65535,
                  dst_port=1 + np.arange(count) // 65535)  # fmt: skip


def equal_xor(count: int) -> Tuples:
    """Source xor destination, and port xor port, the same for all: nothing is left for a hash that folds both ends."""
    src = 0x0A000001 + np.arange(count, dtype=np.uint64)
    port = 1024 + np.arange(count, dtype=np.uint64) % 32768
    return filled(count, src=src, dst=src ^ np.uint64(0xC3A55A01), src_port=port, dst_port=port ^ np.uint64(0x8001))


def equal_sums(count: int) -> Tuples:
    """Sums of addresses and of ports the same for all."""
    index = np.arange(count)
    port = 1024 + index % 60000
    return filled(count, src=0x0A000001 + index, dst=0xC0A80101 - index, src_port=port, dst_port=65535 - port)


def equal_crc32(count: int) -> Tuples:
    """CRC-32 the same for all: it is linear, so the last four octets can be solved for."""
    keys = at_random(count)
    keys["dst"] = 0
    base = int(crc32(keys[:1])[0])
    flips = keys[:1].repeat(32)
    flips["dst"] = 1 << np.arange(32, dtype=np.uint64)
    effect = [int(value) ^ base for value in crc32(flips)]
    solution = [solved(bit, effect) for bit in range(32)]
    wanted = crc32(keys) ^ np.uint64(0x5EED5EED)
    for bit in range(32):
        keys["dst"] ^= np.where(wanted >> np.uint64(bit) & np.uint64(1), np.uint32(solution[bit]), np.uint32(0))
    return keys


def solved(bit: int, effect: list[int]) -> int:
    """Return the flips whose effects, combined by exclusive or, are exactly this bit (Gauss and Jordan over GF(2))."""
    rows = [(value, 1 << index) for index, value in enumerate(effect)]
    for column in range(32):
        pivot = next(index for index in range(column, 32) if rows[index][0] >> column & 1)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        value, flips = rows[column]
        rows = [
            (row[0] ^ value, row[1] ^ flips) if index != column and row[0] >> column & 1 else row
            for index, row in enumerate(rows)
        ]
    return rows[bit][1]


def equal_fnv1a(count: int) -> Tuples:
    """The low bits of FNV-1a the same for all."""
    return searched(count, fnv1a, name="fnv1a", zero_bits=SHARED)


def equal_siphash(count: int) -> Tuples:
    """The low bits of our own hash the same for all, were its seed sixteen zero octets."""
    return searched(count, siphash, name="siphash", zero_bits=SHARED)


def neighbours_siphash(count: int) -> Tuples:
    """All but the low bits of their place the same for all: in a table that probes the next place, one long run.

    For a table of at most half its places taken, whose size is a power of two.
    """
    return searched(count, siphash, name="neighbours", zero_bits=((1 << (2 * count - 1).bit_length()) - 1) & ~SHARED)


FAMILIES: dict[str, Callable[[int], Tuples]] = {
    "sequential_addresses": sequential_addresses,
    "one_pair_of_hosts": one_pair_of_hosts,
    "equal_xor": equal_xor,
    "equal_sums": equal_sums,
    "equal_crc32": equal_crc32,
    "equal_fnv1a": equal_fnv1a,
    "equal_siphash": equal_siphash,
    "neighbours_siphash": neighbours_siphash,
}


def filled(count: int, **fields: object) -> Tuples:
    made = np.empty(count, TUPLE)
    for name, value in fields.items():
        made[name] = value
    return made


def searched(
    count: int, hashed: Callable[[Tuples], Words], *, name: str, zero_bits: int, folder: Path = CACHE
) -> Tuples:
    """Return the first `count` keys in whose hash these bits are zero, among ports between two hosts; kept in a file.

    With SHARED one candidate in 4,096 fits, so 100,000 keys are 410 million hashes: some half a minute, once.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = folder / f"crafted-{name}-{count}-{digest}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    found: list[Tuples] = []
    missing, at, mask = count, 0, np.uint64(zero_bits)
    while missing > 0:
        ports = np.arange(at, at + CHUNK, dtype=np.uint32)
        at += CHUNK
        keys = filled(CHUNK, src=0x0A000005, dst=0xC0A80101, src_port=ports & 0xFFFF, dst_port=ports >> 16)
        found.append(keys[hashed(keys) & mask == 0][:missing])
        missing -= len(found[-1])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate(found))
    return np.asarray(np.load(path))
