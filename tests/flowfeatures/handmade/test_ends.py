"""Who the two ends are: direction, VLANs, handshake and MAC addresses: FEATURES.md section 2."""

import pytest

from tests.flowfeatures.conftest import Run
from tests.flowfeatures.handmade.reading import packets
from tests.flowfeatures.packets import (
    DEVICE,
    ROUTER_MAC,
    SERVER,
    Conversation,
    ethernet,
    ipv4,
    tcp,
    time_us,
    udp,
    udp_frame,
)


def tagged(at_s: float, *, vlans: tuple = (), back: bool = False) -> tuple[int, bytes]:
    """One UDP frame with VLAN tags, in either direction."""
    src, dst = (SERVER, DEVICE) if back else (DEVICE, SERVER)
    ports = (53, 5000) if back else (5000, 53)
    return time_us(at_s), ethernet(ipv4(udp(*ports), 17, src=src, dst=dst), vlans=vlans)


def test_a_flow_tagged_in_one_direction_only_is_one_flow(run: Run):
    measured = run([tagged(0), tagged(0.1, vlans=(20,), back=True), tagged(0.2)])

    assert packets(measured) == [(2, 1)]
    assert measured.records[0].vlan == (20, 0), "the id of the first tagged packet"


def test_the_first_tagged_packet_gives_both_vlan_ids_outer_first(run: Run):
    measured = run([tagged(0, vlans=(100, 7)), tagged(0.1, vlans=(300,))])

    assert [record.vlan for record in measured.records] == [(100, 7)]


def test_vlans_in_the_key_keep_flows_apart(run: Run):
    frames = [tagged(0, vlans=(10,)), tagged(0.1, vlans=(20,)), tagged(0.2, vlans=(10,), back=True), tagged(0.3)]

    measured = run(frames, vlan_in_key=True)

    assert [(record.vlan, record.fwd_packets, record.bwd_packets) for record in measured.records] == [
        ((10, 0), 1, 1),
        ((20, 0), 1, 0),
        ((0, 0), 1, 0),
    ]


def test_both_ends_on_one_address_still_have_two_directions(run: Run):
    def loop(at_s: float, src_port: int, dst_port: int):
        return time_us(at_s), ethernet(ipv4(udp(src_port, dst_port), 17, src="127.0.0.1", dst="127.0.0.1"))

    assert packets(run([loop(0, 5000, 53), loop(1, 53, 5000), loop(2, 5000, 53)])) == [(2, 1)]


def test_a_first_syn_ack_is_the_responders(run: Run):
    measured = run(Conversation().back(0, "SA").out(0.1, "A").frames)

    (record,) = measured.records
    assert (record.src_port, record.dst_port) == (40000, 80)
    assert packets(measured) == [(1, 1)]
    assert not record.half_open


def test_the_initiator_that_repeats_the_responders_number_has_finished_the_handshake(run: Run):
    talk = Conversation().out(0, "S", seq=10).back(0.1, "SA", seq=0xFFFFFFFF, ack=11).out(0.2, "A", seq=11, ack=0)

    assert run(talk.frames).records[0].handshake, "0xffffffff + 1 is 0"


@pytest.mark.parametrize(("flags", "number"), [("A", 500), ("RA", 501), ("R", 501), ("SA", 501)])
def test_a_guessed_number_or_a_reset_finishes_no_handshake(run: Run, flags: str, number: int):
    talk = Conversation().out(0, "S").back(0.1, "SA", seq=500).out(0.2, flags, ack=number)

    assert not run(talk.frames).records[0].handshake


def test_each_ends_mac_address_is_its_first_frames(run: Run):
    talk = Conversation().out(0, "S").back(0.1, "SA")
    other = time_us(0.2), ethernet(ipv4(tcp(80, 40000), 6, src=SERVER, dst=DEVICE), src="02:00:00:00:00:99")

    (record,) = run([*talk.frames, other]).records

    assert record.src_mac.hex(":") == "02:00:00:00:00:10"
    assert record.dst_mac.hex(":") == ROUTER_MAC


def test_the_mac_address_of_an_end_that_sent_nothing_is_zero(run: Run):
    assert run([udp_frame(0)]).records[0].dst_mac == bytes(6)
