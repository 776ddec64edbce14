"""Captures with something done to them: `mutated(k)` is the k-th, the same one on every machine.

A capture is taken apart into its header and its records (pcap) or its blocks (pcapng), one to four things are done to
them, and it is put together again. Most of it goes below the framing, or few mutations would get as far as a flow.
"""

import struct
from collections.abc import Callable
from functools import cache
from random import Random

from tests.flowfeatures.packets import interface_block
from tests.fuzz.captures import captures

Pieces = list[bytes]

WORDS = (0, 1, 15, 16, 20, 0x7FFF, 0xFFFF, 0x10000, 0x100000, 0x100001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
OCTETS = (0, 1, 4, 6, 17, 0x0F, 0x45, 0x4F, 0x5F, 0x60, 0x7F, 0x80, 0xF0, 0xFF)
EXTENSIONS_AND_LAYERS = (0, 1, 6, 17, 43, 44, 51, 58, 60, 135, 139, 140)
PACKET_HEADER_BYTES = {False: 16, True: 28}
"""Octets before the frame in a pcap record, in an enhanced packet block."""


@cache
def pieces_of(name: str) -> tuple[bytes, ...]:
    """Return the seed's header and records, or its blocks."""
    content = captures()[name]
    is_pcapng, pieces, at = content[:4] == b"\x0a\x0d\x0d\x0a", [], 0
    order = ">" if content[:2] == b"\xa1\xb2" or content[8:12] == b"\x1a\x2b\x3c\x4d" else "<"
    while at < len(content):
        if is_pcapng:
            length = struct.unpack_from(order + "I", content, at + 4)[0]
        else:
            length = 24 if at == 0 else 16 + struct.unpack_from(order + "I", content, at + 8)[0]
        pieces.append(content[at : at + length])
        at += length
    return tuple(pieces)


def pick(pieces: Pieces, rng: Random) -> int:
    """Return the index of a piece, seldom that of the header."""
    return rng.randrange(len(pieces)) if rng.random() < 0.1 else rng.randrange(min(1, len(pieces) - 1), len(pieces))


def patch(pieces: Pieces, which: int, at: int, octets: bytes) -> None:
    """Write octets into a piece, as far as it reaches."""
    piece = pieces[which]
    pieces[which] = piece[:at] + octets[: max(0, len(piece) - at)] + piece[at + len(octets) :]


def flip_bits(pieces: Pieces, rng: Random) -> None:
    """Flip one to eight bits of one piece."""
    which = pick(pieces, rng)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(pieces[which]))
        patch(pieces, which, at, bytes([pieces[which][at] ^ 1 << rng.randrange(8)]))


def set_header_word(pieces: Pieces, rng: Random) -> None:
    """Put an extreme into a time, a length, an interface number or a block type."""
    which = pick(pieces, rng)
    order = rng.choice("<>")
    patch(pieces, which, 4 * rng.randrange(8), struct.pack(order + "I", rng.choice(WORDS)))


def set_time(pieces: Pieces, rng: Random) -> None:
    """Put extremes into the time of one piece or of all after it."""
    first = pick(pieces, rng)
    is_pcapng = pieces[0][:4] == b"\x0a\x0d\x0d\x0a"
    words = struct.pack("<II", rng.choice(WORDS), rng.choice(WORDS))
    for which in range(first, len(pieces) if rng.random() < 0.5 else first + 1):
        if not is_pcapng or pieces[which][:4] in (b"\x06\0\0\0", b"\0\0\0\x06"):
            patch(pieces, which, 12 if is_pcapng else 0, words)


def set_frame_octets(pieces: Pieces, rng: Random) -> None:
    """Put extremes into one to three places of one frame's headers."""
    which = pick(pieces, rng)
    start = PACKET_HEADER_BYTES[pieces[0][:4] == b"\x0a\x0d\x0d\x0a"]
    for _ in range(rng.randint(1, 3)):
        values = rng.choice((OCTETS, EXTENSIONS_AND_LAYERS))
        octets = bytes(rng.choice(values) for _ in range(rng.choice((1, 1, 2, 4))))
        patch(pieces, which, start + rng.randrange(90), octets)


def duplicate(pieces: Pieces, rng: Random) -> None:
    """Repeat a piece, or a run of them."""
    first = pick(pieces, rng)
    run = pieces[first : first + rng.choice((1, 1, 1, 5))]
    pieces[first:first] = run * rng.choice((1, 2, 8, 65))


def drop(pieces: Pieces, rng: Random) -> None:
    """Leave out a run of pieces."""
    first = pick(pieces, rng)
    del pieces[first : first + rng.choice((1, 1, 4, 30))]


def swap(pieces: Pieces, rng: Random) -> None:
    """Exchange two pieces."""
    one, other = pick(pieces, rng), pick(pieces, rng)
    pieces[one], pieces[other] = pieces[other], pieces[one]


def splice(pieces: Pieces, rng: Random) -> None:
    """Go on with another capture: its packets, or its header too."""
    others = pieces_of(rng.choice(sorted(captures())))
    at, start = pick(pieces, rng), rng.randrange(len(others))
    pieces[at:] = others[start : start + 40]


def cut_frame(pieces: Pieces, rng: Random) -> None:
    """Take octets out of a piece, or put some in; its lengths lie from then on."""
    which = pick(pieces, rng)
    at = rng.randrange(len(pieces[which]))
    added = rng.randbytes(rng.choice((0, 0, 1, 4, 40)))
    pieces[which] = pieces[which][:at] + added + pieces[which][at + rng.choice((0, 1, 4, 40)) :]


def describe_interfaces(pieces: Pieces, rng: Random) -> None:
    """Describe more interfaces, seldom a great many, with clocks of all kinds."""
    order = "<" if pieces[0][8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    link = rng.choice((0, 1, 12, 101, 108, 113, 228, 276, 0xFFFF))
    added = interface_block(
        link, order, tsresol=rng.choice((None, 0, 6, 9, 19, 0x7F, 0x80, 0xFF)), offset_s=rng.choice((0, 1, -1, 2**62))
    )
    at = pick(pieces, rng)
    pieces[at:at] = [added] * rng.choice((1, 1, 1, 2, 2, 7, 7, 64, 1024))


MUTATIONS: tuple[Callable[[Pieces, Random], None], ...] = (
    flip_bits,
    flip_bits,
    set_header_word,
    set_time,
    set_frame_octets,
    set_frame_octets,
    set_frame_octets,
    duplicate,
    drop,
    swap,
    splice,
    cut_frame,
    describe_interfaces,
)


def spoil_file(content: bytes, rng: Random) -> bytes:
    """Cut the file, or scatter octets over it, framing and all."""
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content) + 1)]
    octets = bytearray(content)
    for _ in range(rng.randint(1, 6) if octets else 0):
        octets[rng.randrange(len(octets))] = rng.choice(OCTETS)
    return bytes(octets)


def mutated(number: int) -> tuple[str, bytes]:
    """Return the seed's name and what became of it; below 1 MiB."""
    rng = Random(number)
    name = rng.choice(sorted(captures()))
    pieces = list(pieces_of(name))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        pieces = [piece for piece in pieces if piece]
        if pieces:
            rng.choice(MUTATIONS)(pieces, rng)
    content = b"".join(pieces)[: 1 << 20]
    return name, spoil_file(content, rng) if rng.random() < 0.15 else content
