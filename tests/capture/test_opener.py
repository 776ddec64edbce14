"""With Scapy or without: a filter becomes a program, or an error that says why not and what helps."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from agent.capture.bpf import cut_to
from agent.capture.opener import NativeOpener, ScapyOpener, find_opener
from agent.capture.ring_source import RingSource
from agent.capture.source import CaptureSettings
from contracts.errors import DataMissing, MissingExtra, MissingTool, UsageError

ROOT = Path(__file__).parents[2]
needs_scapy = pytest.mark.skipif(importlib.util.find_spec("scapy") is None, reason="no Scapy")
FIELDS = {0: 4, 8: 2, 16: 1}  # BPF_W, BPF_H, BPF_B


def kept(program, frame: bytes) -> int:
    """Run a program of loads, one comparison each, and returns, as the kernel would; enough for one protocol."""
    at, accumulator = 0, 0
    while True:
        code, yes, no, constant = program[at]
        at += 1
        if code & 7 == 0:  # BPF_LD
            accumulator = int.from_bytes(frame[constant : constant + FIELDS[code & 0x18]], "big")
        elif code == 0x54:  # BPF_ALU | BPF_AND
            accumulator &= constant
        elif code == 0x15:  # BPF_JMP | BPF_JEQ
            at += yes if accumulator == constant else no
        else:
            assert code == 6  # BPF_RET
            return constant


@needs_scapy
def test_a_filter_becomes_a_program_that_tells_frames_apart():
    program = cut_to(ScapyOpener().compiled("arp", link_type=1), 96)

    assert kept(program, bytes(12) + b"\x08\x06" + bytes(28)) == 96
    assert kept(program, bytes(12) + b"\x08\x00" + bytes(28)) == 0


@needs_scapy
def test_a_program_is_made_for_the_link_layer_of_the_interface():
    program = ScapyOpener().compiled("ip6", link_type=101)

    assert kept(program, b"\x60" + bytes(39)) > 0
    assert kept(program, b"\x45" + bytes(39)) == 0


@needs_scapy
def test_a_filter_that_is_none_is_a_usage_error_in_the_compilers_words():
    with pytest.raises(UsageError, match=r"the filter 'udp prt 9' is none: can't parse filter expression"):
        ScapyOpener().compiled("udp prt 9", link_type=1)


@needs_scapy
@pytest.mark.parametrize("text", ["inbound", "ip6 protochain 6"])
def test_a_program_has_no_number_that_the_kernels_form_cannot_hold(text: str):
    program = ScapyOpener().compiled(text, link_type=1)

    assert all(0 <= constant < 1 << 32 for _, _, _, constant in program)


@pytest.mark.parametrize("text", ["port 1\0 and not port 2", "port 1\udcff", "ip" + " and ip" * 600])
def test_a_filter_that_the_compiler_would_misread_or_be_lost_in_is_refused(text: str):
    with pytest.raises(UsageError, match=r"a filter of .* characters, .*: wanted printable ones, at most 4096"):
        ScapyOpener().compiled(text, link_type=1)


def test_a_filter_for_vlan_tags_is_refused_since_it_would_match_nothing():
    with pytest.raises(UsageError, match="cannot see"):
        ScapyOpener().compiled("vlan 5 and udp", link_type=1)


@needs_scapy
def test_without_libpcap_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(*_: object, **__: object) -> None:
        raise ImportError("libpcap is not available. Cannot compile filter !")

    monkeypatch.setattr("scapy.arch.common.compile_filter", missing)

    with pytest.raises(MissingTool, match="apt-get install libpcap"):
        ScapyOpener().compiled("udp", link_type=1)


def test_the_native_opener_refuses_a_filter_and_says_what_helps():
    with pytest.raises(MissingExtra, match=r"'udp' needs Scapy, which is not installed: pip install scapy"):
        NativeOpener().compiled("udp", link_type=1)


def test_which_opener_there_is_follows_from_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    without = find_opener()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    assert (without.name, find_opener().name) == ("native", "scapy")


def test_a_source_without_scapy_refuses_a_filter_before_it_opens_a_socket():
    with pytest.raises(MissingExtra, match="needs Scapy"):
        RingSource(CaptureSettings(interface="lo", filter="udp"), opener=NativeOpener())


def test_an_interface_that_is_not_there_is_named():
    for name in ("nix0", "", "a-name-longer-than-any", "nul\0"):
        with pytest.raises(DataMissing, match=r"no such network interface; there are: .*lo"):
            RingSource(CaptureSettings(interface=name))


@pytest.mark.parametrize(
    "wrong",
    [
        {"snap_length_bytes": 13},
        {"snap_length_bytes": 65536},
        {"block_bytes": 65537},
        {"block_bytes": 4096},
        {"block_count": 1},
        {"block_count": 1025, "block_bytes": 1 << 20},
        {"block_count": 65, "block_bytes": 1 << 24},
        {"retire_timeout_ms": 0},
        {"fanout_group": 65536},
        {"fanout_group": -1},
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_can(wrong: dict[str, int]):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))}: .*wanted"):
        CaptureSettings(interface="lo", **wrong)


@needs_scapy
def test_importing_the_capture_loads_no_scapy_and_a_filter_only_what_it_needs():
    script = (
        "import sys, agent.capture.open_live, agent.capture.live; from agent.capture.opener import ScapyOpener;"
        "before = [name for name in sys.modules if name.startswith('scapy')];"
        "ScapyOpener().compiled('udp', link_type=1);"
        "print(before, 'scapy.all' in sys.modules, any(name.startswith('scapy.layers') for name in sys.modules))"
    )

    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout.strip() == "[] False False"
