"""Two ways to turn a filter's text into a program and open a plain socket, with Scapy or without; packets in words.

The only module that imports Scapy (GPL-2.0-only), and only the submodules it calls, when it calls them: `scapy.all`
costs 2.2 s and 63 MB. Without Scapy everything works but filters and the portable source. The trap: Scapy remembers
interfaces by name, so an index is never asked of it, but of the kernel (`interface.py`).
"""

from __future__ import annotations

import importlib.util
import logging
import re
import struct
from collections.abc import Sequence
from typing import Any, Final, Protocol

from agent.capture.bpf import Program
from contracts.errors import MissingExtra, MissingTool, UsageError

DLT: Final = {1: 1, 101: 12}
"""LINKTYPE_ number -> the number libpcap's compiler knows the same frames by."""

STUMBLES: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    OSError,
    struct.error,
    RecursionError,
)
LONGEST_FILTER: Final = 4096
"""Characters. As many took up to 3.5 s to compile, and the time grows with the cube of the length."""


class Opener(Protocol):
    """What a source asks for when it opens an interface."""

    name: str

    def compiled(self, text: str, *, link_type: int) -> Program:
        """Return the program of a pcap filter for frames of a LINKTYPE_ number. Raises UsageError where it is none."""

    def listening_socket(self, interface: str, *, promiscuous: bool) -> Any:
        """Return an open socket of Scapy's with `recv_raw`, `ins` and `close`. Raises OSError."""


class NativeOpener:
    """Opens without Scapy: every frame or none."""

    name = "native"

    def compiled(self, text: str, *, link_type: int) -> Program:
        """Refuse: a filter's text needs a compiler."""
        raise MissingExtra(f"the filter {text!r} needs Scapy, which is not installed: pip install scapy")

    def listening_socket(self, interface: str, *, promiscuous: bool) -> Any:
        """Refuse: the portable source is Scapy's socket."""
        raise MissingExtra(f"{interface}: the portable source needs Scapy, which is not installed: pip install scapy")


class ScapyOpener:
    """Opens with Scapy, whose compiler is libpcap's."""

    name = "scapy"

    def compiled(self, text: str, *, link_type: int) -> Program:
        """Return the program of a pcap filter.

        Raises UsageError where it is none or asks for VLAN tags, MissingTool where libpcap is not there.
        """
        if re.search(r"\bvlan\b", text):
            # The kernel takes the outer tag off before a filter runs; libpcap's program would seek it in the octets.
            raise UsageError(f"the filter {text!r} asks for VLAN tags, which a live filter cannot see; leave vlan out")
        if not text.isprintable() or len(text) > LONGEST_FILTER:
            # A zero would end it early, and libpcap's compiler takes minutes over a long one, deaf to every signal.
            raise UsageError(
                f"a filter of {len(text)} characters, beginning with {text[:40]!r}: "
                f"wanted printable ones, at most {LONGEST_FILTER}"
            )
        from scapy.arch.common import compile_filter, free_filter
        from scapy.error import Scapy_Exception

        try:
            made = compile_filter(text, linktype=DLT[link_type])
        except ImportError as exc:
            raise MissingTool(f"the filter {text!r} needs libpcap: sudo apt-get install libpcap0.8") from exc
        except Scapy_Exception as exc:
            raise UsageError(f"the filter {text!r} is none: {_reason(exc)}") from exc
        try:
            # Scapy declares the constant signed; it is not.
            return tuple((each.code, each.jt, each.jf, each.k & 0xFFFFFFFF) for each in made.bf_insns[: made.bf_len])
        finally:
            free_filter(made)

    def listening_socket(self, interface: str, *, promiscuous: bool) -> Any:
        """Return Scapy's socket that also hears what goes out, for this platform."""
        import scapy.arch  # names the socket of this platform
        import scapy.packet  # noqa: F401  # the class Scapy falls back on for link types nobody has loaded
        from scapy.config import conf
        from scapy.error import log_runtime

        # A name Scapy has seen before keeps its old index: it may have been deleted and made again since.
        conf.ifaces.reload()
        log_runtime.setLevel(logging.ERROR)  # it warns of the class it falls back on, which nobody asks for
        return conf.L2listen(iface=interface, promisc=promiscuous)


def dissected(frames: Sequence[bytes], *, link_type: int) -> list[str]:
    """Return each frame in Scapy's words, `Ether / IP / TCP ...`. Raises MissingExtra without Scapy.

    Only layers that were asked for here are known; what Scapy stumbles over is told by its length.
    """
    if not importlib.util.find_spec("scapy"):
        raise MissingExtra("the packets' words come from Scapy, which is not installed: pip install scapy")
    import scapy.layers.dhcp
    import scapy.layers.dns
    import scapy.layers.inet
    import scapy.layers.inet6
    import scapy.layers.l2
    import scapy.layers.ntp  # noqa: F401
    from scapy.config import conf
    from scapy.packet import Raw

    kind = conf.l2types.num2layer.get(DLT.get(link_type, link_type), Raw)
    found = []
    for octets in frames:
        try:
            found.append(str(kind(octets).summary()))
        except STUMBLES:
            found.append(f"{len(octets)} octets that Scapy cannot read")
    return found


def find_opener() -> Opener:
    """Return the opener this installation has; nothing of Scapy is imported yet."""
    return ScapyOpener() if importlib.util.find_spec("scapy") else NativeOpener()


def _reason(error: Exception) -> str:
    """Return the words of libpcap, which Scapy puts in brackets behind its own."""
    found = re.search(r"\(([^()]*)\)$", str(error))
    return found.group(1) if found else str(error)
