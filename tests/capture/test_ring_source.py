"""The ring on real interfaces: what was sent is what was read, whatever happens to the interface."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from agent.capture import interface, ring_socket
from agent.capture.accounting import Accounting
from agent.capture.errors import CaptureError, RingRefused
from agent.capture.ring_source import RingSource
from agent.capture.source import CaptureSettings
from contracts.errors import DataMissing, UsageError
from flowfeatures import FlowMeter, UnknownLinkType, open_capture
from flowfeatures.frames import FrameBlock
from lab.namespaces import entered
from tests.capture.wire import GUARD_S, Heard, Wire, datagrams, ip
from tests.faults.figures import IS_TIMED
from tests.oracle.reader import read_frames

pytestmark = pytest.mark.needs_root

DEMO = Path(__file__).parents[2] / "lab" / "demo" / "capture.pcap"
# A block is taken every 20 ms, be it ever so empty: so many last while a sender beside us stands still now and then.
LASTING = {"block_bytes": 1 << 16, "block_count": 256}


def ring(**settings) -> RingSource:
    return RingSource(CaptureSettings(**{"interface": "eth0", **LASTING, **settings}))


def exchanged(flows: np.ndarray) -> dict[tuple, tuple[int, int]]:
    """Return packets and octets of each pair of ends, whoever began."""
    sums: dict[tuple, tuple[int, int]] = {}
    for flow in flows:
        ends = sorted([(flow["src"].tobytes(), int(flow["src_port"])), (flow["dst"].tobytes(), int(flow["dst_port"]))])
        key = (*ends, int(flow["proto"]))
        packets, octets = sums.get(key, (0, 0))
        more = int(flow["fwd_packets"] + flow["bwd_packets"]), int(flow["fwd_wire_bytes"] + flow["bwd_wire_bytes"])
        sums[key] = (packets + more[0], octets + more[1])
    return sums


def rebound(source: RingSource, heard: Heard) -> float:
    """Read until the source has taken up its interface again; return the seconds that took. Nothing must come."""
    began_s = time.monotonic()
    while source.rebinds == 0 and time.monotonic() < began_s + GUARD_S:
        assert source.read_block(heard.block, 0.05) == 0
    return time.monotonic() - began_s


def even(source: RingSource, meter: FlowMeter) -> bool:
    """Return whether all accounts come out even, to the last frame: with nothing on its way."""
    counts = source.counts()
    assert counts.meanwhile == 0, counts
    assert Accounting.of(counts, meter.counters).check() == []
    return True


def test_what_was_sent_is_what_is_read(wire: Wire):
    with ring() as source:
        sent = wire.send(datagrams(5000))
        heard = Heard().listen(source, sent).to_the_end(source)

        assert even(source, heard.meter)
    assert (heard.packets, heard.in_records, len(heard.flows)) == (5000, 5000, 50)
    assert (source.counts().seen, source.counts().dropped, source.counts().standing) == (5000, 0, 0)
    assert even(source, heard.meter)


def test_a_capture_played_onto_the_wire_gives_what_the_file_gives(wire: Wire):
    """Times differ, and so where a flow is cut; what each pair of ends exchanged does not."""
    frames = [frame.data.ljust(frame.wire_bytes, b"\0") for frame in read_frames(DEMO)]
    from_file = FlowMeter()
    with open_capture(DEMO) as capture:
        records = [*from_file.read(capture), *from_file.flush()]

    with ring(block_count=512) as source:
        wire.send(frames)
        heard = Heard().listen(source, len(frames)).to_the_end(source)

        assert even(source, heard.meter)
    assert heard.meter.counters["undecoded"] == from_file.counters["undecoded"]
    assert exchanged(heard.flows) == exchanged(np.concatenate(records))


def test_the_accounts_come_out_even_while_frames_stand_in_the_ring(wire: Wire):
    with ring() as source:
        wire.send(datagrams(700))
        heard = Heard(block=FrameBlock(100))
        standing, unread = [], []

        while heard.packets < 700:
            assert even(source, heard.meter)
            standing.append(source.counts().standing)
            unread.append(700 - heard.packets)
            heard.listen(source, heard.packets + 1)

    assert standing == unread
    assert len(standing) >= 7


def test_what_the_kernel_dropped_is_counted(wire: Wire):
    with ring(block_bytes=1 << 16, block_count=2) as source:
        sent = wire.send(datagrams(4000))
        heard = Heard().to_the_end(source)
        counts, report = source.counts(), source.report()

        assert even(source, heard.meter)
    assert counts.seen == sent
    assert 0 < counts.dropped == sent - heard.packets
    assert report.ring_full > 0
    assert "the kernel dropped" in report.warnings()[0]


def test_frames_not_read_before_the_end_are_abandoned_and_said_so(wire: Wire):
    source = ring()
    wire.send(datagrams(30))

    source.close()

    assert (source.counts().seen, source.counts().abandoned) == (30, 30)
    assert even(source, FlowMeter())
    assert any("stood in the ring" in line for line in source.report().warnings())


def test_after_stop_nothing_more_is_taken_in(wire: Wire):
    with ring() as source:
        wire.send(datagrams(40))
        source.stop()
        wire.send(datagrams(40))

        heard = Heard().to_the_end(source)

    assert (heard.packets, source.counts().seen) == (40, 40)


@pytest.mark.parametrize("vlans", [(7,), (7, 9)])
def test_frames_keep_their_vlan_tags_and_their_length(wire: Wire, vlans: tuple[int, ...]):
    frames = datagrams(20, flows=1, vlans=vlans)
    with ring() as source:
        wire.send(frames)
        heard = Heard().listen(source, 20).to_the_end(source)

    (flow,) = heard.flows
    assert flow["vlan"].tolist() == [*vlans, 0][:2]
    assert flow["fwd_wire_bytes"] == sum(map(len, frames))


def test_a_vlan_interface_hears_its_own_vlan(wire: Wire):
    ip("-n", wire.near, "link", "add", "link", "eth0", "name", "eth0.7", "type", "vlan", "id", "7")
    ip("-n", wire.near, "link", "set", "eth0.7", "up")
    with ring(interface="eth0.7") as source:
        wire.send(datagrams(10, vlans=(7,)) + datagrams(10, vlans=(8,)))
        heard = Heard().listen(source, 10).to_the_end(source)

    assert heard.packets == 10


@pytest.mark.parametrize("kernel", ["of today", "without PACKET_IGNORE_OUTGOING"])
def test_a_packet_on_the_loopback_interface_counts_once(wire: Wire, monkeypatch: pytest.MonkeyPatch, kernel: str):
    if kernel != "of today":
        monkeypatch.setattr(ring_socket, "PACKET_IGNORE_OUTGOING", 9999)
    with (
        ring(interface="lo") as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        for _ in range(100):
            sender.sendto(b"hello", receiver.getsockname())
        heard = Heard().listen(source, 100).to_the_end(source)

        assert even(source, heard.meter)
    assert (heard.packets, len(heard.flows)) == (100, 1)
    assert source.counts().outgoing == (0 if kernel == "of today" else 100)


def test_both_directions_of_an_interface_are_heard(wire: Wire):
    with ring() as source, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as own:
        own.bind(("eth0", 0))
        for frame in datagrams(30, flows=1):
            own.send(frame)
        wire.send(datagrams(30, flows=1))
        heard = Heard().listen(source, 60).to_the_end(source)

    assert heard.packets == 60


def test_a_filter_whose_program_the_kernel_refuses_is_a_usage_error(wire: Wire):
    pytest.importorskip("scapy")

    with pytest.raises(UsageError, match=r"eth0: the filter, a program of .* is refused by the kernel"):
        ring(filter="ip6 protochain 6")


def test_the_filter_is_applied_by_the_kernel(wire: Wire):
    pytest.importorskip("scapy")
    with ring(filter="udp port 53") as source:
        wire.send(datagrams(60, port=53) + datagrams(70, port=54))
        heard = Heard().listen(source, 60).to_the_end(source)

        assert even(source, heard.meter)
    assert (heard.packets, source.counts().seen) == (60, 60)


@pytest.mark.parametrize("text", [None, "udp"])
def test_a_frame_is_cut_to_the_snap_length_and_its_length_is_kept(wire: Wire, text: str | None):
    frames = datagrams(5, flows=1)
    with ring(filter=text, snap_length_bytes=42) as source:  # Ethernet 14, IPv4 20, UDP 8
        wire.send(frames)
        heard = Heard().listen(source, 5).to_the_end(source)

    assert heard.meter.counters["undecoded"] == {}
    assert heard.flows["fwd_wire_bytes"].sum() == sum(map(len, frames))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_interface_is_promiscuous_as_long_as_it_is_captured(wire: Wire, wanted: bool):
    def promiscuity() -> int:
        return int(json.loads(ip("-n", wire.near, "-d", "-j", "link", "show", "dev", "eth0"))[0]["promiscuity"])

    with ring(promiscuous=wanted):
        during = promiscuity()

    assert (during, promiscuity()) == (int(wanted), 0)


def test_two_workers_share_the_flows_without_loss_or_duplicates(wire: Wire):
    with ring(fanout_group=77) as one, ring(fanout_group=77) as other:
        sent = wire.send(datagrams(4000, flows=100, back=True))
        until_s = time.monotonic() + GUARD_S
        heard_one, heard_other = Heard(), Heard()
        while heard_one.packets + heard_other.packets < sent and time.monotonic() < until_s:
            heard_one.listen(one, heard_one.packets + (one.counts().standing > 0))
            heard_other.listen(other, heard_other.packets + (other.counts().standing > 0))
        heard_one.to_the_end(one)
        heard_other.to_the_end(other)

        assert even(one, heard_one.meter)
        assert even(other, heard_other.meter)
    flows = np.concatenate([heard_one.flows, heard_other.flows])
    assert heard_one.packets + heard_other.packets == sent == one.counts().seen + other.counts().seen
    assert min(heard_one.packets, heard_other.packets) > 0
    assert len(np.unique(flows["flow_id"])) == len(flows) == 100  # both directions of a flow go to one worker
    assert set(flows["bwd_packets"]) == {20}


def test_an_interface_deleted_and_made_again_is_taken_up_again_within_two_seconds(wire: Wire):
    with ring() as source:
        wire.send(datagrams(300))
        wire.cut()
        wire.lay()
        heard = Heard().listen(source, 300)
        took_s = rebound(source, heard)
        wire.send(datagrams(500))
        heard.listen(source, 800).to_the_end(source)

        assert even(source, heard.meter)
    if IS_TIMED:
        assert took_s < 2.0
    assert (heard.packets, source.counts().seen, source.rebinds) == (800, 800, 1)


def test_what_stood_in_the_ring_of_a_deleted_interface_is_still_read(wire: Wire):
    with ring() as source:
        wire.send(datagrams(300))
        wire.cut()
        heard = Heard().listen(source, 300)
        absent = source.report()
        wire.lay()
        rebound(source, heard)
        heard.to_the_end(source)

        assert even(source, heard.meter)
    assert (heard.packets, source.counts().abandoned, absent.is_absent) == (300, 0, True)
    assert any("gone" in line for line in absent.warnings())


def test_a_link_that_flaps_loses_nothing_that_came_while_it_was_up(wire: Wire):
    with ring() as source:
        heard = Heard()
        for round_ in range(3):
            wire.send(datagrams(200))
            heard.listen(source, 200 * (round_ + 1))
            ip("-n", wire.near, "link", "set", "eth0", "down")
            assert source.read_block(heard.block, 0.05) == 0
            is_down = source.report().is_down
            ip("-n", wire.near, "link", "set", "eth0", "up")
            wire.wait_for_carrier()
            assert is_down
        heard.to_the_end(source)

        assert even(source, heard.meter)
    assert (heard.packets, source.rebinds, source.report().link_downs) == (600, 0, 3)


def test_an_interface_that_is_down_is_waited_for(wire: Wire):
    ip("-n", wire.near, "link", "set", "eth0", "down")
    with ring() as source:
        before = source.report()
        ip("-n", wire.near, "link", "set", "eth0", "up")
        wire.wait_for_carrier()
        wire.send(datagrams(25))
        heard = Heard().listen(source, 25).to_the_end(source)

        assert even(source, heard.meter)
    assert before.warnings() == ["eth0: the interface is down: ip link set eth0 up"]
    assert (heard.packets, source.report().link_downs, source.report().warnings()) == (25, 0, [])


def test_glued_packets_are_seen_and_the_report_says_how_to_stop_it(wire: Wire):
    for name, address in ((wire.near, "10.9.0.1/24"), (wire.far, "10.9.0.2/24")):
        ip("-n", name, "addr", "add", address, "dev", "eth0")
    ip("netns", "exec", wire.near, "ethtool", "-K", "eth0", "gro", "on")
    ip("netns", "exec", wire.far, "ethtool", "-K", "eth0", "tx", "on", "gso", "on", "tso", "on")
    with ring() as source, socket.create_server(("10.9.0.1", 0)) as server:
        with entered(wire.far), socket.create_connection(server.getsockname(), timeout=GUARD_S) as client:
            taken, _ = server.accept()
            with taken:
                taken.settimeout(GUARD_S)
                for _ in range(32):
                    client.sendall(bytes(65536))
                    left = 65536
                    while left:
                        left -= len(taken.recv(left))
        heard = Heard().to_the_end(source)
        report = source.report()

        assert even(source, heard.meter)
    assert "gro" in report.offloads
    assert heard.meter.counters["super_frames"] > 0
    assert heard.flows["fwd_wire_bytes"].max() > 32 * 65536  # nothing but headers was kept, the length is that of all
    assert any("sudo ethtool -K eth0" in line and "gro off" in line for line in report.warnings())


def test_without_offloads_the_report_has_no_warning(wire: Wire):
    with ring() as source:
        report = source.report()

    assert (report.offloads, report.warnings(), report.driver) == ((), [], "veth")


def test_raw_ip_of_a_tunnel_is_read(wire: Wire):
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun")
    ip("-n", wire.near, "tuntap", "add", "dev", "tun0", "mode", "tun")
    ip("-n", wire.near, "addr", "add", "10.8.0.1/24", "dev", "tun0")
    ip("-n", wire.near, "link", "set", "tun0", "up")

    with open("/dev/net/tun", "r+b", buffering=0) as tunnel:
        fcntl.ioctl(tunnel, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        with ring(interface="tun0") as source:
            for frame in datagrams(20, flows=1):
                tunnel.write(frame[14:])
            heard = Heard().listen(source, 20).to_the_end(source)

    assert heard.packets == heard.in_records == 20
    assert source.report().link == "raw"


def test_the_accounts_come_out_even_in_the_middle_of_traffic(wire: Wire):
    frames, bursts = datagrams(1000), 30
    beside = multiprocessing.get_context("fork")  # truly beside us
    may_send = beside.Semaphore(2)  # bursts ahead of what we read, so that it does not end before we began

    def send() -> None:
        for _ in range(bursts):
            may_send.acquire()
            wire.send(frames)

    sender = beside.Process(target=send)
    with ring() as source:
        heard, checks = Heard(block=FrameBlock(256)), 0
        sender.start()
        until_s = time.monotonic() + GUARD_S
        while source.counts().seen < bursts * len(frames) and time.monotonic() < until_s:
            heard.listen(source, heard.packets + 1)
            assert Accounting.of(source.counts(), heard.meter.counters).check() == []
            checks += 1
            may_send.release()
        sender.join()
        heard.to_the_end(source)

        assert even(source, heard.meter)
    assert source.counts().seen == bursts * len(frames)
    assert checks > 10


def test_a_capture_stopped_in_the_middle_of_traffic_is_exact(wire: Wire):
    sender = threading.Thread(target=wire.send, args=(datagrams(2000) * 10,))
    with ring() as source:
        sender.start()
        heard = Heard().listen(source, 3000).to_the_end(source)

        assert even(source, heard.meter)
        sender.join()
        assert even(source, heard.meter)
    assert source.counts().abandoned == 0


def test_an_interface_made_again_under_its_old_index_is_noticed(wire: Wire):
    with ring() as source:
        index = socket.if_nametoindex("eth0")
        wire.send(datagrams(20))
        wire.cut()
        wire.lay(near_index=index)
        heard = Heard().listen(source, 20)
        rebound(source, heard)
        wire.send(datagrams(30))
        heard.listen(source, 50).to_the_end(source)

        assert socket.if_nametoindex("eth0") == index
    assert (heard.packets, source.rebinds) == (50, 1)


def test_workers_take_up_an_interface_made_again_together(wire: Wire):
    with ring(fanout_group=9) as one, ring(fanout_group=9) as other:
        wire.cut()
        wire.lay()
        heard_one, heard_other = Heard(), Heard()
        until_s = time.monotonic() + GUARD_S
        while one.rebinds + other.rebinds < 2 and time.monotonic() < until_s:
            one.read_block(heard_one.block, 0.02)
            other.read_block(heard_other.block, 0.02)
        sent = wire.send(datagrams(1000, flows=64))
        heard_one.to_the_end(one)
        heard_other.to_the_end(other)

    assert (one.rebinds, other.rebinds) == (1, 1)
    assert heard_one.packets + heard_other.packets == sent
    assert min(heard_one.packets, heard_other.packets) > 0


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_an_interface_that_is_not_there_is_named_with_those_that_are(wire: Wire):
    with pytest.raises(DataMissing, match=r"nix0: no such network interface; there are: lo, eth0"):
        ring(interface="nix0")


def test_a_link_layer_that_is_not_decoded_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(interface.LINK_TYPES, 1)

    with pytest.raises(UnknownLinkType, match="eth0: hardware type 1 is not captured"):
        ring()


def test_a_ring_larger_than_the_kernel_gives_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring_socket, "FRAME_BYTES", 2040)  # no multiple of 16

    with pytest.raises(RingRefused, match="a ring of 256 blocks of 65536 octets is refused"):
        ring()


def test_a_group_of_another_kind_is_refused(wire: Wire):
    with ring(fanout_group=5), pytest.raises(CaptureError, match="in fanout group 5"):
        ring(interface="lo", fanout_group=5)


CHILD = """
import json, sys
from agent.capture.ring_source import RingSource
from agent.capture.source import CaptureSettings
from flowfeatures.frames import FrameBlock
block = FrameBlock()
with RingSource(CaptureSettings(interface="eth0", fanout_group=3, filter=sys.argv[1] or None)) as source:
    print("ready", flush=True)
    sys.stdin.readline()
    source.stop()
    read = 0
    while (count := source.read_block(block, 0.05)) or not source.is_drained:
        read += count
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(json.dumps([read, source.counts().seen, int(status["CapEff"], 16)]))
"""


def as_if(capabilities: str, *arguments: str) -> subprocess.Popen:
    """Start the child with so many capabilities, in the namespace the test stands in."""
    try:
        return subprocess.Popen(
            ["setpriv", f"--bounding-set={capabilities}", sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    except FileNotFoundError:
        pytest.skip("not installed: setpriv")


def test_cap_net_raw_is_all_it_takes(wire: Wire):
    child = as_if("-all,+net_raw", "")
    said = child.stdout.readline()
    wire.send(datagrams(150))

    out, err = child.communicate("end\n", timeout=GUARD_S)

    assert (said, err) == ("ready\n", "")
    assert json.loads(out) == [150, 150, 1 << 13]


def test_without_it_the_error_says_how_to_get_it(wire: Wire):
    child = as_if("-all", "")

    _, err = child.communicate("end\n", timeout=GUARD_S)

    assert "NeedsRoot: eth0: capturing needs CAP_NET_RAW" in err
    assert "sudo setcap cap_net_raw+ep" in err
    assert "AmbientCapabilities=CAP_NET_RAW" in err
