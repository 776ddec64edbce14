"""Packets that end-to-end tests play: a port scan from outside, which all of them can find, and what is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.flowfeatures.packets import Conversation, TimedFrame, write_pcap

CAMERA, PHONE, SCANNER, CLOUD = "192.168.1.10", "192.168.1.20", "203.0.113.9", "198.51.100.7"


def scan_frames(*, ports: int = 40, begin_s: float = 10.0, every_s: float = 0.05) -> list[TimedFrame]:
    """Return a SYN to each port of the camera, each answered by RST."""
    frames = []
    for number in range(ports):
        at_s = begin_s + number * every_s
        probe = Conversation(device=SCANNER, server=CAMERA, device_port=50_000 + number, server_port=1 + number)
        frames += probe.out(at_s, "S").back(at_s + 0.001, "RA").frames
    return frames


def chat_frames(*, begin_s: float = 0.0, times: int = 20, every_s: float = 1.0) -> list[TimedFrame]:
    """Return short TCP conversations of the phone with its cloud, all closed as they should be."""
    frames = []
    for number in range(times):
        chat = Conversation(device=PHONE, server=CLOUD, device_port=40_000 + number, server_port=443)
        at_s = begin_s + number * every_s
        chat.out(at_s, "S", seq=1).back(at_s + 0.01, "SA", seq=9, ack=2).out(at_s + 0.02, "A", seq=2, ack=10)
        chat.out(at_s + 0.03, "PA", 120, seq=2, ack=10).back(at_s + 0.04, "PA", 900, seq=10, ack=122)
        chat.out(at_s + 0.05, "FA", seq=122, ack=910).back(at_s + 0.06, "FA", seq=910, ack=123)
        frames += chat.out(at_s + 0.07, "A", seq=123, ack=911).frames
    return frames


def reading_frames(ports: Iterator[int], *, count: int, every_s: float = 0.25) -> list[TimedFrame]:
    """Return what an app does that connects to a broker at home for every handful of readings, and hangs up again."""
    frames = []
    for number in range(count):
        at_s = every_s * number
        line = Conversation(device=PHONE, server=CAMERA, device_port=next(ports), server_port=1883)
        line.out(at_s, "S").back(at_s + 0.005, "SA").out(at_s + 0.006, "A")
        for place in range(6):
            line.out(at_s + 0.01 + 0.01 * place, "PA", 20)
        line.out(at_s + 0.3, "FA").back(at_s + 0.31, "FA")
        frames += line.frames
    return sorted(frames)


def write_scan(path: Path, **shape: float) -> Path:
    """Write a capture in which the phone chats and the camera is scanned from outside."""
    return write_pcap(path, sorted(scan_frames(**shape) + chat_frames()))
