"""Scapy's socket as a source: slower, and the same to whoever reads it."""

from __future__ import annotations

import socket
import time

import pytest

from agent.capture.accounting import Accounting
from agent.capture.errors import RingRefused
from agent.capture.open_live import open_live
from agent.capture.opener import NativeOpener
from agent.capture.portable import PortableSource
from agent.capture.ring_source import RingSource
from agent.capture.source import CaptureSettings
from contracts.errors import MissingExtra
from tests.capture.wire import GUARD_S, Heard, Wire, datagrams

pytestmark = pytest.mark.needs_root
pytest.importorskip("scapy")


def portable(**settings) -> PortableSource:
    return PortableSource(CaptureSettings(**{"interface": "eth0", **settings}))


def test_what_was_sent_is_what_is_read_and_the_accounts_come_out_even(wire: Wire):
    with portable() as source:
        heard = Heard()
        for round_ in range(1, 6):  # its buffer is small
            wire.send(datagrams(100))
            assert Accounting.of(source.counts(), heard.meter.counters).check() == []
            heard.listen(source, 100 * round_)
        heard.to_the_end(source)

    assert (heard.packets, heard.in_records, len(heard.flows)) == (500, 500, 50)
    assert (source.counts().seen, source.counts().standing, source.counts().abandoned) == (500, 0, 0)
    assert Accounting.of(source.counts(), heard.meter.counters).check() == []


def test_frames_keep_their_vlan_tag_and_their_length(wire: Wire):
    frames = datagrams(20, flows=1, vlans=(7,))
    with portable() as source:
        wire.send(frames)
        heard = Heard().listen(source, 20).to_the_end(source)

    (flow,) = heard.flows
    assert (flow["vlan"].tolist(), flow["fwd_wire_bytes"]) == ([7, 0], sum(map(len, frames)))


def test_a_packet_on_the_loopback_interface_counts_once(wire: Wire):
    with (
        portable(interface="lo") as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        for _ in range(50):
            sender.sendto(b"hello", receiver.getsockname())
        heard = Heard().listen(source, 50).to_the_end(source)

    assert heard.packets == 50


def test_the_filter_is_applied(wire: Wire):
    with portable(filter="udp port 53") as source:
        wire.send(datagrams(60, port=53) + datagrams(70, port=54))
        heard = Heard().listen(source, 60).to_the_end(source)

    assert (heard.packets, source.counts().seen) == (60, 60)


def test_an_interface_deleted_and_made_again_is_taken_up_again(wire: Wire):
    with portable() as source:
        wire.send(datagrams(30))
        heard = Heard().listen(source, 30)
        wire.cut()
        wire.lay()
        until_s = time.monotonic() + GUARD_S
        while source.rebinds == 0 and time.monotonic() < until_s:
            source.read_block(heard.block, 0.05)
        wire.send(datagrams(40))
        heard.listen(source, 70).to_the_end(source)

    assert (heard.packets, source.counts().seen, source.rebinds) == (70, 70, 1)


def test_frames_not_read_before_the_end_are_abandoned(wire: Wire):
    source = portable()
    wire.send(datagrams(12))

    source.close()

    assert (source.counts().seen, source.counts().abandoned, source.counts().standing) == (12, 12, 0)


def test_it_takes_over_where_the_kernel_refuses_a_ring(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object) -> RingSource:
        raise RingRefused("eth0: no ring")

    monkeypatch.setattr("agent.capture.open_live.RingSource", refused)
    with open_live(CaptureSettings(interface="eth0")) as source:
        assert source.report().source == "portable"

    with pytest.raises(RingRefused):  # workers cannot share it
        open_live(CaptureSettings(interface="eth0", fanout_group=1))


def test_the_ring_comes_first(wire: Wire):
    with open_live(CaptureSettings(interface="eth0", block_count=2)) as source:
        assert source.report().source == "ring"


def test_without_scapy_there_is_none(wire: Wire):
    with pytest.raises(MissingExtra, match="pip install scapy"):
        PortableSource(CaptureSettings(interface="eth0"), opener=NativeOpener())
