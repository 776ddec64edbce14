"""Every technique, really played: its packets stand in a short recording under the truth's label. Needs root."""

from __future__ import annotations

import dataclasses
import os
import random
import re

import pytest

from contracts.classes import NAMES, class_of_label
from contracts.ground_truth import load
from lab import habits, tools
from lab.agreement import check
from lab.attacks import TECHNIQUES
from lab.benign.offers import with_offers
from lab.frames import number_of, read_claims, read_frames
from lab.matching import Matcher
from lab.record import record
from lab.scenario import draw_plan, draw_scene

SEED = 0  # its home has every service that a technique wants
LIMIT_S = 7.0
TUNNEL_S = 14.0  # iodine tries some ways before its tunnel stands
SLOWEST_S = 15.0  # for three turns
LIE_S = 5  # arpspoof lies every two seconds, and takes it back in some more
LEAST = 2  # packets of each technique
SLOWER = (1, 2, 4)  # in so much more time, where the machine did not let each technique come to its second packet

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(tools.missing()), reason=f"not installed: {', '.join(tools.missing())} (see lab/apt.txt)"),
]


def drawn(name, scene, slower):
    """Return an attack that sends some packets in little time, and with little time."""
    while True:
        attack = TECHNIQUES[name](scene)
        if name == "arp_spoof":
            argv = (*attack.argv[:-1], re.sub(r"INT \d+", f"INT {LIE_S * slower}", attack.argv[-1]))
            return dataclasses.replace(attack, argv=argv, limit_s=(LIE_S + 12.0) * slower)
        if name == "iodine_tunnel":
            return dataclasses.replace(attack, limit_s=TUNNEL_S * slower)
        rate = float(attack.argv[attack.argv.index("--rate") + 1]) if "--rate" in attack.argv else 1.0
        if 3.0 / rate <= SLOWEST_S:
            return dataclasses.replace(attack, limit_s=min(attack.limit_s, max(LIMIT_S, 3.0 / rate) * slower))


def played_plan(slower):
    """Return a plan in which every technique is played for some seconds, two a second begin, amid a calm home."""
    plan = with_offers(draw_plan(SEED, attacks=[], devices=12))
    scene = draw_scene(random.Random(SEED), plan)
    attacks, starts_s = [], 3.0
    for name in sorted(TECHNIQUES):
        attack = drawn(name, scene, slower)
        attacks.append(dataclasses.replace(attack, technique=name, drawn_as=name, starts_s=starts_s))
        starts_s += 0.6 * slower
    calm = {"names", "clock", "announce", "mqtt_tls", "coap_read", "mdns_browse", "ssdp_search"}
    activities = [
        each for each in habits.draw_activities(scene.rng, plan, calm) if each.host.startswith(("hub", "lap"))
    ]
    return dataclasses.replace(
        plan, attacks=tuple(attacks), activities=tuple(activities), duration_s=starts_s + 9.0 * slower
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return technique -> (its interval, packets of it) of one recording, and the recording."""
    for slower in SLOWER:
        found, done = recorded(tmp_path_factory.mktemp("lab"), slower)
        if all(packets >= LEAST for name, (_, packets) in found.items() if name != "arp_spoof"):
            break
    return found, done


def recorded(folder, slower):
    done = record(played_plan(slower), folder, snap_bytes=128, say=lambda _: None)
    own = [interval for interval in done.intervals if not interval.get("is_answer")]
    matchers = [(interval, Matcher(interval)) for interval in own]
    seen = dict.fromkeys((interval["tool"] for interval in own), 0)
    for frame in read_frames(done.capture):
        for interval, matcher in matchers:
            if matcher.start_s <= frame.time_s <= matcher.end_s and matcher.is_sent(frame):
                seen[interval["tool"]] += 1
    return {interval["tool"]: (interval, seen[interval["tool"]]) for interval in own}, done


@pytest.mark.parametrize("name", sorted(set(TECHNIQUES) - {"arp_spoof"}))
def test_packets_of_the_technique_stand_under_its_label(played, name):
    interval, packets = played[0][name]

    assert packets >= LEAST
    assert NAMES[class_of_label(interval["class"])] == TECHNIQUES[name].attack_class


def test_no_attacker_sends_outside_his_intervals(played):
    assert check(played[1].capture, played[1].truth) == []


def test_the_one_loader_reads_the_truth_of_all_techniques(played):
    truth = load(played[1].truth)[0]

    assert truth.attack == "mixed"
    assert len(truth.conditions) == len(played[1].intervals) >= len(TECHNIQUES)


def test_a_lie_by_arp_is_told_at_its_time_and_taken_back(played):
    interval, packets = played[0]["arp_spoof"]
    own = number_of(interval["attacker"][0])
    claims = list(read_claims(played[1].capture))
    lies = [claim.time_s for claim in claims if claim.mac == interval["mac"] and claim.address != own]

    assert packets == 0
    assert len(lies) >= 2
    assert interval["start"] <= min(lies) <= max(lies) <= interval["end"]
    assert NAMES[class_of_label(interval["class"])] == "protocol_abuse"
