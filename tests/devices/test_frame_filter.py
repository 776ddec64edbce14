"""The kernel itself runs the filter, on a socket pair that carries frames as datagrams: no root, no interface."""

from __future__ import annotations

import random
import socket

import pytest

from agent.capture.bpf import attach
from agent.devices.frame_filter import WHO_IS_WHO
from agent.devices.frames import read
from agent.devices.hints import Refused
from tests.devices.said import LAMP, LAMP_IP, announced, arp, datagram, dhcp, neighbour
from tests.flowfeatures.packets import ethernet, ipv4, ipv6, tcp, udp

LET_THROUGH = [
    arp(LAMP, LAMP_IP),
    dhcp(LAMP),
    dhcp(LAMP, kind=5, given=LAMP_IP),
    announced(LAMP, LAMP_IP, "lamp"),
    announced(LAMP, "fe80::10", "lamp"),
    neighbour(LAMP, 135, src="fe80::10"),
    neighbour(LAMP, 136, src="fe80::10"),
    ethernet(ipv4(datagram(bytes(240), 68, 67), 17, options_bytes=8)),
]
KEPT_OUT = [
    ethernet(ipv4(tcp(40_000, 67, "S"), 6)),
    ethernet(ipv4(udp(5353, 53), 17)),
    ethernet(ipv4(udp(67, 1000), 17)),
    ethernet(ipv4(datagram(bytes(240), 68, 67), 17, fragment_offset=8)),
    ethernet(ipv6(udp(5353, 53), 17)),
    ethernet(ipv6(udp(68, 67), 17)),
    neighbour(LAMP, 134, src="fe80::10"),
    ethernet(ipv6(tcp(1, 5353), 6)),
    ethernet(b"\0" * 60, ether_type=0x88CC),
    b"",
    arp(LAMP, LAMP_IP)[:13],
]


def passes(frames: list[bytes]) -> list[bytes]:
    """Return the frames the kernel lets through; an empty datagram is none."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        attach(receiver, WHO_IS_WHO)
        came = []
        for frame in frames:
            sender.send(frame)
            try:
                came.append(receiver.recv(4096, socket.MSG_DONTWAIT))
            except BlockingIOError:
                continue
        return came


def test_frames_that_say_who_is_who_pass_whole():
    assert passes(LET_THROUGH) == LET_THROUGH


def test_all_others_do_not():
    assert passes(KEPT_OUT) == []


@pytest.mark.parametrize("seed", range(3))
def test_whatever_says_something_passes(seed: int):
    """What the reader makes sense of without a tag, the filter must not keep out; over mutated frames."""
    dice = random.Random(seed)
    telling = []
    for _ in range(2_000):
        frame = bytearray(dice.choice([*LET_THROUGH, *KEPT_OUT[:9]]))
        for _ in range(dice.randint(0, 3)):
            frame[dice.randrange(12, min(60, len(frame)))] = dice.choice((0, 6, 17, 58, 67, 68, 0x08, 0x86, 0xDD, 135))
        try:
            read(bytes(frame))
        except Refused:
            continue
        if frame[12:14] not in (b"\x81\x00", b"\x88\xa8"):
            telling.append(bytes(frame))

    assert len(telling) > 100
    assert passes(telling) == telling
