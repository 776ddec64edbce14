"""Shamir's secret sharing of 16 octets: any `threshold` shares give the secret, fewer say nothing about it.

A polynomial over the integers modulo 2^130 - 5 (the prime of Poly1305) whose constant is the secret; the share of place
p is its value at p + 1, in 17 octets (Shamir, CACM 1979). Coefficients are drawn from a key by HKDF, so that whoever
shares again after a power cut shares the same. Trap: `joined` gives some number for wrong shares too; whoever joins
must know how to tell the secret, by a commitment or a public key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, combinations, islice, zip_longest
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

PRIME: Final = (1 << 130) - 5
SECRET_BYTES: Final = 16
SHARE_BYTES: Final = 17
MOST_TRIES: Final = 2000  # subsets of shares, where many are wrong: a few seconds at most


def split(secret: bytes, *, count: int, threshold: int, key: bytes) -> list[bytes]:
    """Return the shares of places 0 .. count - 1; `key` decides the polynomial and must be as secret as the secret.

    Raises ValueError unless 1 <= threshold <= count and the secret has 16 octets.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= count:
        raise ValueError(f"{len(secret)} octets in {count} shares of which {threshold} are wanted")
    coefficients = [int.from_bytes(secret, "big"), *_drawn(key, threshold - 1)]
    return [_value(coefficients, place + 1).to_bytes(SHARE_BYTES, "big") for place in range(count)]


def joined(shares: Mapping[int, bytes]) -> bytes | None:
    """Return the secret that shares by place say, as many as there are; None where it is none of 16 octets."""
    points = {place + 1: int.from_bytes(share, "big") for place, share in shares.items()}
    if any(value >= PRIME for value in points.values()):
        return None
    total = 0
    for at, value in points.items():
        above, below = 1, 1
        for other in points:
            if other != at:
                above, below = above * other % PRIME, below * (other - at) % PRIME
        total = (total + value * above * pow(below, -1, PRIME)) % PRIME
    return total.to_bytes(SECRET_BYTES, "big") if total < 1 << (8 * SECRET_BYTES) else None


def recovered(
    shares: Mapping[int, bytes], *, threshold: int, is_it: Callable[[bytes], bool]
) -> tuple[bytes, tuple[int, ...]] | None:
    """Return the secret that `threshold` of the shares say and `is_it` knows, and the places of those; None where none.

    Wrong shares do no harm, whosever they are, where they are no more than half of what there is beyond the threshold:
    of all polynomials one alone lies on so many of the rest. Where they are more, subsets are tried, up to MOST_TRIES.
    """
    possible = {place: share for place, share in shares.items() if int.from_bytes(share, "big") < PRIME}
    decoded = _decoded(possible, threshold)
    tries = _subsets(sorted(possible), threshold)
    for places in islice(chain([] if decoded is None else [decoded], tries), MOST_TRIES):
        secret = joined({place: shares[place] for place in places})
        if secret is not None and is_it(secret):
            return secret, places
    return None


def _subsets(places: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Give the subsets of a size, each once: the first places, then all that lack one of them, then two, and so on.

    In the order of their places, nearly all of the first thousands would hold the first place, right or wrong.

    >>> [*_subsets([0, 1, 2, 3], 2)]
    [(0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (0, 3)]
    """
    if len(places) >= size:
        yield tuple(places[:size])
    for end in range(size, len(places)):  # the last one taken; as many before it are left out as it is too far on
        for left_out in combinations(places[:end], end - size + 1):
            yield (*(place for place in places[:end] if place not in left_out), places[end])


def misfits(shares: Mapping[int, bytes], right: tuple[int, ...], secret: bytes) -> list[int]:
    """Return the places whose share does not lie on the polynomial that the right ones lie on."""
    most = {place: shares[place] for place in right[:-1]}
    return [place for place in shares if place not in right and joined({**most, place: shares[place]}) != secret]


def _decoded(shares: Mapping[int, bytes], threshold: int) -> tuple[int, ...] | None:
    """Return places whose shares lie on the one polynomial that all but a few lie on; None where there is none.

    Gao's decoder of Reed-Solomon codes (2003): of the polynomial through all points, wrong ones too, and the product
    of all x - place, a euclidean step too few gives the polynomial sought times one that is zero at the wrong places.
    """
    points = {place + 1: int.from_bytes(share, "big") for place, share in shares.items()}
    if len(points) < threshold:
        return None
    whole, through = [1], [0]
    for at, value in points.items():
        # Newton: what lacks at this point, by a product that is zero at all before.
        lacks = (value - _value(through, at)) * pow(_value(whole, at), -1, PRIME) % PRIME
        through = _plus(through, [lacks * each % PRIME for each in whole])
        whole = _plus([0, *whole], [-at * each % PRIME for each in whole])
    above, below = (whole, [0]), (through, [1])
    while 2 * (len(below[0]) - 1) >= len(points) + threshold:
        quotient, rest = _divided(above[0], below[0])
        above, below = below, (rest, _plus(above[1], [-each % PRIME for each in _times(quotient, below[1])]))
    found, rest = _divided(*below)
    if rest != [0] or len(found) > threshold:
        return None
    right = [at - 1 for at, value in points.items() if _value(found, at) == value]
    return tuple(right[:threshold]) if len(right) >= threshold else None


# -- polynomials, the constant first, without a zero at the end but for 0 itself ---------------------------------------


def _plus(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return _trimmed([(a + b) % PRIME for a, b in zip_longest(one, other, fillvalue=0)])


def _times(one: Sequence[int], other: Sequence[int]) -> list[int]:
    product = [0] * (len(one) + len(other) - 1)
    for place, each in enumerate(one):
        for more, factor in enumerate(other, place):
            product[more] = (product[more] + each * factor) % PRIME
    return _trimmed(product)


def _divided(above: Sequence[int], below: Sequence[int]) -> tuple[list[int], list[int]]:
    rest, quotient = list(above), [0] * max(1, len(above) - len(below) + 1)
    inverse = pow(below[-1], -1, PRIME)
    for place in range(len(above) - len(below), -1, -1):
        factor = quotient[place] = rest[place + len(below) - 1] * inverse % PRIME
        for more, each in enumerate(below, place):
            rest[more] = (rest[more] - factor * each) % PRIME
    return _trimmed(quotient), _trimmed(rest)


def _trimmed(polynomial: list[int]) -> list[int]:
    while len(polynomial) > 1 and not polynomial[-1]:
        polynomial.pop()
    return polynomial


def _drawn(key: bytes, count: int) -> list[int]:
    """Return numbers below the prime; 24 octets each, so that the remainder favours none by more than 2^-62."""
    if not count:
        return []
    raw = b"".join(
        HKDFExpand(SHA256(), 24, b"penstock shamir" + place.to_bytes(4, "big")).derive(key) for place in range(count)
    )
    return [int.from_bytes(raw[24 * place : 24 * (place + 1)], "big") % PRIME for place in range(count)]


def _value(coefficients: list[int], at: int) -> int:
    value = 0
    for each in reversed(coefficients):
        value = (value * at + each) % PRIME
    return value
