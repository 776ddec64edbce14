"""Every benign kind, really played: its packets stand in a short recording. Needs root."""

from __future__ import annotations

import dataclasses
import os
import random

import pytest

from lab import habits, tools
from lab.benign import ACTIVITIES
from lab.benign.offers import with_offers
from lab.frames import number_of, read_frames
from lab.record import record
from lab.scenario import draw_plan

SEED = 0  # its home has every service that a kind wants
ANSWERED = ("mqtt_tls", "https_push", "coap_read", "coap_write", "coap_observe", "firmware", "backup", "web_admin")
LEAST = 2  # packets of each kind
LASTING_S = (24.0, 48.0, 96.0)  # longer, where the machine did not let each kind come to its second packet
GROUPS = {"mdns_browse": ("224.0.0.251", 5353), "ssdp_search": ("239.255.255.250", 1900), "lease": ("*", 67)}

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(bool(tools.missing()), reason=f"not installed: {', '.join(tools.missing())} (see lab/apt.txt)"),
]


def one_of_each(duration_s):
    """Return a plan in which one host does each kind, in a hurry."""
    plan = with_offers(draw_plan(SEED, attacks=[], devices=12))
    drawn = {each.kind: each for each in habits.draw_activities(random.Random(SEED), plan, set(ACTIVITIES))}
    hurried = []
    for number, each in enumerate(drawn.values()):
        settings = {**each.settings, "every_s": 2.0, "hours": None, "chance": 1.0, "messages": 3}
        hurried.append(dataclasses.replace(each, settings=settings, starts_s=0.2 * number))
    return dataclasses.replace(plan, activities=tuple(hurried), duration_s=duration_s)


def ends_of(plan, activity):
    """Return the addresses and the ports that an activity's packets may go to; no port means any."""
    if activity.kind in GROUPS:
        group, port = GROUPS[activity.kind]
        return {group}, {port}
    addresses = {address for peer in activity.peers for address in plan.addresses(peer)}
    addresses |= {str(activity.settings[key]) for key in ("group", "address") if activity.settings.get(key)}
    ports = {*activity.settings.get("ports", ()), activity.settings.get("port")} - {None}
    return addresses, ports


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return kind -> (packets sent for it, packets that came back) of one recording."""
    for duration_s in LASTING_S:
        found = recorded(one_of_each(duration_s), tmp_path_factory.mktemp("lab"))
        if all(sent >= LEAST and (back >= LEAST or kind not in ANSWERED) for kind, (sent, back) in found.items()):
            break
    return found


def recorded(plan, folder):
    done = record(plan, folder, snap_bytes=128, say=lambda _: None)
    frames = list(read_frames(done.capture))
    counted = {}
    for activity in plan.activities:
        addresses, ports = ends_of(plan, activity)
        own = number_of(plan.address(activity.host))
        numbers = {number_of(address) for address in addresses if address != "*"}
        sent = [
            frame
            for frame in frames
            if (frame.source in (own, 0) if "*" in addresses else frame.source == own and frame.target in numbers)
            and (not ports or frame.target_port in ports)
        ]
        back = [
            frame for frame in frames if frame.target == own and frame.source in numbers and frame.source_port in ports
        ]
        counted[activity.kind] = len(sent), len(back)
    return counted


@pytest.mark.parametrize("kind", sorted(ACTIVITIES))
def test_packets_of_the_kind_are_there(played, kind):
    assert played[kind][0] >= LEAST


@pytest.mark.parametrize("kind", ANSWERED)
def test_the_server_of_the_kind_answers(played, kind):
    assert played[kind][1] >= LEAST
