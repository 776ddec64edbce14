"""What frames say of devices, and what is refused, for which reason; real captures and broken ones."""

from __future__ import annotations

import random
import struct

import pytest

from agent.devices.frames import read
from agent.devices.hints import REASONS, Hint, Refused, clean_name
from flowfeatures import address_text
from tests.devices.said import (
    BROADCAST,
    CAMERA_IP,
    FORGER,
    LAMP,
    LAMP_IP,
    announced,
    arp,
    at,
    datagram,
    dhcp,
    labels,
    mdns,
    neighbour,
    option,
    record,
    udp4,
)
from tests.flowfeatures.meters import SHARED
from tests.flowfeatures.packets import ethernet, ipv4, ipv6, mac_bytes, udp

LINK_LOCAL = "fe80::10"


def refusal(frame: bytes) -> str:
    with pytest.raises(Refused) as refused:
        read(frame)
    return refused.value.reason


@pytest.mark.parametrize("operation", [1, 2])
def test_arp_claims_its_senders_address(operation: int):
    assert read(arp(LAMP, LAMP_IP, operation=operation)) == Hint(mac=mac_bytes(LAMP), address=at(LAMP_IP))


def test_a_tagged_frame_is_read_like_an_untagged_one():
    plain = arp(LAMP, LAMP_IP)

    assert read(plain[:12] + b"\x81\x00\x00\x05" + plain[12:]) == read(plain)


def test_dhcp_tells_name_and_wishes_of_a_client():
    hint = read(dhcp(LAMP, name="lamp", options=option(55, bytes([1, 3, 6]))))

    assert (hint.mac, hint.name, hint.wishes, hint.address) == (mac_bytes(LAMP), b"lamp", bytes([1, 3, 6]), None)


def test_dhcp_renewal_claims_the_address_it_renews():
    assert read(dhcp(LAMP, address=LAMP_IP)).address == at(LAMP_IP)


def test_a_servers_acknowledgement_claims_for_its_client():
    hint = read(dhcp(LAMP, kind=5, given=LAMP_IP, sender="02:00:00:00:00:01"))

    assert (hint.mac, hint.address, hint.name) == (mac_bytes(LAMP), at(LAMP_IP), None)


@pytest.mark.parametrize(
    "value", [b"\x04\0\0" + labels("lamp.home.arpa"), b"\x00\0\0lamp.home.arpa", b"\x04\0\0\x04lamp"]
)
def test_a_full_name_gives_its_first_label_in_either_encoding(value: bytes):
    assert read(dhcp(LAMP, options=option(81, value))).name == b"lamp"


def test_mdns_names_who_announces_its_own_address():
    assert read(announced(LAMP, LAMP_IP, "lamp")).name == b"lamp"
    assert read(announced(LAMP, LINK_LOCAL, "lamp")).name == b"lamp"


def test_mdns_of_somebody_elses_address_names_nobody():
    reflected = mdns(LAMP, LAMP_IP, record(labels("camera.local"), CAMERA_IP))

    assert read(reflected) == Hint(mac=mac_bytes(LAMP), address=at(LAMP_IP))


def test_mdns_goodbyes_questions_and_other_domains_name_nobody():
    goodbye = mdns(LAMP, LAMP_IP, record(labels("lamp.local"), LAMP_IP, ttl=0))
    other = mdns(LAMP, LAMP_IP, record(labels("lamp.example"), LAMP_IP))
    question = mdns(LAMP, LAMP_IP, record(labels("lamp.local"), LAMP_IP), response=False)

    assert [read(frame).name for frame in (goodbye, other, question)] == [None, None, None]


def test_mdns_names_are_read_through_pointers():
    first = labels("x.local") + struct.pack(">HHIH", 16, 1, 120, 1) + b"\0"  # a TXT record; .local stands at 14
    pointed = mdns(LAMP, LAMP_IP, first, record(b"\x04lamp\xc0\x0e", LAMP_IP))

    assert read(pointed).name == b"lamp"


def test_a_pointer_in_a_circle_ends():
    at_itself = record(b"\x04lamp\xc0\x0c", LAMP_IP)

    assert refusal(mdns(LAMP, LAMP_IP, at_itself)) == "bad_mdns"


def test_neighbours_that_ask_claim_their_source_and_those_that_answer_their_target():
    asks = neighbour(LAMP, 135, src=LINK_LOCAL)
    answers = neighbour(LAMP, 136, src="fe80::99", target=LINK_LOCAL)

    assert read(asks).address == read(answers).address == at(LINK_LOCAL)


PLAIN_DHCP = dhcp(LAMP, name="lamp")
OPTIONS_AT = 14 + 20 + 8 + 240


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "truncated"),
        (arp(LAMP, LAMP_IP)[:-1], "truncated"),
        (ethernet(ipv4(udp(1, 2), 17)), "other_protocol"),
        (ethernet(b"", ether_type=0x88CC), "other_protocol"),
        (arp("03:00:00:00:00:01", LAMP_IP), "bad_mac"),
        (arp("00:00:00:00:00:00", LAMP_IP), "bad_mac"),
        (arp(FORGER, LAMP_IP, speaks_for=LAMP), "mac_differs"),
        (arp(LAMP, LAMP_IP, operation=3), "bad_arp"),
        (arp(LAMP, "0.0.0.0"), "no_claim"),
        (arp(LAMP, "224.0.0.1"), "no_claim"),
        (arp(LAMP, "255.255.255.255"), "no_claim"),
        (dhcp(LAMP, sender=FORGER), "mac_differs"),
        (dhcp(BROADCAST, sender=LAMP), "bad_mac"),
        (dhcp(LAMP, relay="192.168.1.2"), "relayed"),
        (dhcp(LAMP, kind=7), "no_claim"),
        (dhcp(LAMP, kind=2, given=LAMP_IP), "no_claim"),
        (PLAIN_DHCP[: OPTIONS_AT - 4] + bytes(4) + PLAIN_DHCP[OPTIONS_AT:], "bad_dhcp"),
        (dhcp(LAMP, options=bytes([60, 200])), "bad_dhcp"),
        (ethernet(udp4(bytes(100), 68, 67, src="0.0.0.0", dst="255.255.255.255"), src=LAMP), "truncated"),
        (neighbour(LAMP, 135, src="::"), "no_claim"),
        (neighbour(LAMP, 136, src=LINK_LOCAL, target="ff02::1"), "no_claim"),
        (neighbour(LAMP, 135, src=LINK_LOCAL, hop_limit=64), "not_on_link"),
        (neighbour(FORGER, 136, src=LINK_LOCAL, target=LINK_LOCAL, linked=LAMP), "mac_differs"),
        (neighbour(LAMP, 134, src=LINK_LOCAL), "other_protocol"),
        (ethernet(ipv4(datagram(b"", 5353, 5353), 17, src=LAMP_IP, more_fragments=True), src=LAMP), "fragment"),
        (ethernet(ipv6(bytes(8), 58, src=LINK_LOCAL, payload_length=99), src=LAMP), "truncated"),
        (mdns(LAMP, LAMP_IP, *[record(labels("x.local"), CAMERA_IP)] * 65), "bad_mdns"),
    ],
)
def test_a_frame_is_refused_for_its_reason(frame: bytes, reason: str):
    assert refusal(frame) == reason
    assert reason in REASONS


def test_names_that_no_host_may_have_are_none():
    refused = [b"", b"-x", b"a\nb", b"a\x1b[0m", "caf\u00e9".encode(), b"x" * 64, b"localhost", b'a","b', b"<b>"]

    assert [clean_name(each) for each in refused] == [None] * len(refused)
    assert [clean_name(each) for each in (b"lamp-1", b"Living Room", b"HF_LPB100", b"x" * 63)][2] == "HF_LPB100"


def test_cut_anywhere_a_frame_is_refused_or_says_no_more_than_the_whole():
    whole = [PLAIN_DHCP, announced(LAMP, LAMP_IP, "lamp"), neighbour(LAMP, 136, src=LINK_LOCAL), arp(LAMP, LAMP_IP)]

    for frame in whole:
        for length in range(len(frame)):
            assert refusal(frame[:length]) == "truncated"


def test_no_octets_make_the_reader_fail_in_another_way():
    """Mutations of good frames, 20,000 of them; each is read, or refused for a reason of the list."""
    dice = random.Random(26)
    seeds = [
        PLAIN_DHCP,
        dhcp(LAMP, kind=5, given=LAMP_IP, options=option(81, b"\x04\0\0" + labels("lamp.home"))),
        mdns(LAMP, LAMP_IP, record(labels("x.local"), CAMERA_IP), record(b"\x04lamp\xc0\x0e", LAMP_IP)),
        announced(LAMP, LINK_LOCAL, "lamp"),
        neighbour(LAMP, 135, src=LINK_LOCAL),
        arp(LAMP, LAMP_IP),
    ]
    reasons = set()

    for _ in range(20_000):
        frame = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            frame[dice.randrange(12, len(frame))] = dice.choice((0, 1, 0x3F, 0xC0, 0xFF, dice.randrange(256)))
        try:
            hint = read(bytes(frame[: dice.choice((len(frame), dice.randrange(len(frame))))]))
        except Refused as refused:
            reasons.add(refused.reason)
        else:
            assert len(hint.mac) == 6
            assert hint.address is None or address_text(hint.address)

    assert reasons <= set(REASONS)
    assert {"bad_mdns", "bad_dhcp", "truncated", "mac_differs", "no_claim"} <= reasons


def chained(count: int) -> bytes:
    """Return a message in which each record's name is a pointer to the name of the one before."""
    first = record(labels("a.other"), LAMP_IP)
    places = [12, *range(12 + len(first), 12 + len(first) + 16 * count, 16)]
    return mdns(LAMP, LAMP_IP, first, *(record(struct.pack(">H", 0xC000 | each), LAMP_IP) for each in places[:count]))


def test_a_walk_along_pointers_ends_after_four():
    assert read(chained(4)).name is None
    assert refusal(chained(5)) == "bad_mdns"


def test_of_many_names_of_the_source_eight_are_looked_at():
    others = [record(labels("a.other"), LAMP_IP)] * 8

    assert read(mdns(LAMP, LAMP_IP, *others[1:], record(labels("lamp.local"), LAMP_IP))).name == b"lamp"
    assert refusal(mdns(LAMP, LAMP_IP, *others, record(labels("lamp.local"), LAMP_IP))) == "bad_mdns"


@pytest.mark.parametrize(
    ("folder", "mac", "name"),
    [("Aria", "20:f8:5e:ca:91:52", b"GainSpanca9152"), ("D-LinkDayCam", "b0:c5:54:1c:71:85", b"DCS-930LB1_1C7185")],
)
def test_real_devices_say_their_names(folder: str, mac: str, name: bytes):
    captures = sorted((SHARED / "data" / "iot_sentinel").rglob(f"{folder}/Setup-A-1-STA.pcap"))
    if not captures:
        pytest.skip(f"{folder} of iot_sentinel is absent (PENSTOCK_SHARED)")
    rdpcap = pytest.importorskip("scapy.utils").RawPcapReader

    names = set()
    for frame, _ in rdpcap(str(captures[0])):
        try:
            hint = read(frame)
        except Refused:
            continue
        if hint.mac == mac_bytes(mac) and hint.name:
            names.add(hint.name)

    assert name in names
