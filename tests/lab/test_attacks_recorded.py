"""Every technique, really played: its packets stand in a short recording under the truth's label. Needs root."""

from __future__ import annotations

import dataclasses
import os
import random

import pytest

from contracts.classes import NAMES, class_of_label
from contracts.ground_truth import load
from lab import habits, tools
from lab.attacks import TECHNIQUES
from lab.benign.offers import with_offers
from lab.frames import read_frames
from lab.record import record
from lab.scenario import draw_plan, draw_scene
from lab.truth import Matcher

SEED = 0  # its home has every service that a technique wants
NOT_PLAYED = ("arp_spoof",)  # no IP packet: see below
LIMIT_S = 7.0
TUNNEL_S = 14.0  # iodine tries some ways before its tunnel stands
LEAST_TOOLS = ("arpspoof", "iodine", "iodined", "rsync", "slowhttptest", "coap-client-notls", "coap-server-notls")


def lacking():
    path = os.environ.get("PATH", "") + ":" + tools.SYSTEM_PATH
    return [tool for tool in LEAST_TOOLS if tools.shutil.which(tool, path=path) is None] + list(tools.missing())


pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(lacking()), reason=f"not installed: {', '.join(lacking())} (see lab/apt.txt)"),
]


def played_plan():
    """Return a plan in which every technique is played for some seconds, two a second begin, amid a calm home."""
    plan = with_offers(draw_plan(SEED, attacks=[], devices=12))
    scene = draw_scene(random.Random(SEED), plan)
    attacks, starts_s = [], 3.0
    for name in sorted(set(TECHNIQUES) - set(NOT_PLAYED)):
        attack = TECHNIQUES[name](scene)
        limit_s = TUNNEL_S if name == "iodine_tunnel" else min(attack.limit_s, LIMIT_S)
        attacks.append(dataclasses.replace(attack, technique=name, starts_s=starts_s, limit_s=limit_s))
        starts_s += 0.6
    calm = {"names", "clock", "announce", "mqtt_tls", "coap_read", "mdns_browse", "ssdp_search"}
    activities = [
        each for each in habits.draw_activities(scene.rng, plan, calm) if each.host.startswith(("hub", "lap"))
    ]
    return dataclasses.replace(plan, attacks=tuple(attacks), activities=tuple(activities), duration_s=starts_s + 9.0)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return technique -> (its interval, packets of it) of one recording, and the path of its truth."""
    done = record(played_plan(), tmp_path_factory.mktemp("lab"), snap_bytes=128, say=lambda _: None)
    matchers = [(interval, Matcher(interval)) for interval in done.intervals]
    seen = dict.fromkeys((interval["tool"] for interval in done.intervals), 0)
    for frame in read_frames(done.capture):
        for interval, matcher in matchers:
            if matcher.start_s <= frame.time_s <= matcher.end_s and matcher.is_sent(frame):
                seen[interval["tool"]] += 1
    return {interval["tool"]: (interval, seen[interval["tool"]]) for interval in done.intervals}, done.truth


@pytest.mark.parametrize("name", sorted(set(TECHNIQUES) - set(NOT_PLAYED)))
def test_packets_of_the_technique_stand_under_its_label(played, name):
    interval, packets = played[0][name]

    assert packets >= 2
    assert NAMES[class_of_label(interval["class"])] == TECHNIQUES[name].attack_class


def test_the_one_loader_reads_the_truth_of_all_techniques(played):
    truth = load(played[1])[0]

    assert truth.attack == "mixed"
    assert len(truth.conditions) == len(played[0])
