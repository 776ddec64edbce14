"""Socket filters as plain instructions: keep so many octets of a frame, keep nothing, or what a compiler made of text.

Classic BPF, run by the kernel before a frame is copied: what a filter turns away is neither seen nor dropped.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

Program: TypeAlias = Sequence[tuple[int, int, int, int]]
"""Instructions as (code, jump if true, jump if false, constant)."""

RETURN: Final = 0x06  # BPF_RET | BPF_K: keep as many octets of the frame as the constant says
SO_ATTACH_FILTER: Final = 26  # <asm-generic/socket.h>; Python has no name for it
NOTHING: Final[Program] = ((RETURN, 0, 0, 0),)


def keeping(snap_length_bytes: int) -> Program:
    """Return the program that keeps every frame, cut to so many octets.

    >>> keeping(512)
    ((6, 0, 0, 512),)
    """
    return ((RETURN, 0, 0, snap_length_bytes),)


def cut_to(program: Program, snap_length_bytes: int) -> Program:
    """Return the program with at most so many octets kept of what it keeps.

    >>> cut_to([(0x28, 0, 0, 12), (0x15, 0, 1, 0x0800), (6, 0, 0, 65535), (6, 0, 0, 0)], 512)[2:]
    ((6, 0, 0, 512), (6, 0, 0, 0))
    """
    return tuple(
        (code, yes, no, min(constant, snap_length_bytes) if code == RETURN else constant)
        for code, yes, no, constant in program
    )


def attach(sock: socket.socket, program: Program) -> None:
    """Let the kernel run the program on every frame the socket would get; the one before is replaced at once."""
    octets = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(octets, len(octets))
    head = struct.pack("HP", len(program), ctypes.addressof(instructions))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)
