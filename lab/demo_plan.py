"""The plan of the demo capture: three attacks on three devices, each by somebody else, among devices left in peace.

Drawn like any other plan, from a seed that no training recording may use, and redrawn until it is fit to be shown:
small, no spoofed sources (the demo names attackers), one attacker inside, two outside.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

from lab.attacks import TECHNIQUES, Scene
from lab.plan import Activity, Attack, Plan
from lab.scenario import draw_plan, draw_scene

DEMO_SEED = 2026  # never in a training set
HEAVY = frozenset({"download", "speed_test", "datagram_stream", "watch", "http_push"})
RARER = frozenset({"http_burst", "names_burst", "datagram_talk"})  # kept, but seldom
RARE_S = 30.0
GAP_S = 12.0  # of peace after each attack


def _is_telnet_guessing(attack: Attack, plan: Plan) -> bool:
    return plan.host(attack.attacker).is_inside and "-c" not in attack.argv and len(attack.words) >= 40


def _is_named_flood(attack: Attack, plan: Plan) -> bool:
    count = int(attack.argv[attack.argv.index("-c") + 1])
    is_open = attack.ports[0] in {service.port for service in plan.host(attack.victim).services}
    return (
        is_open
        and not attack.spoofed
        and not plan.host(attack.attacker).is_inside
        and "-d" not in attack.argv
        and "-k" not in attack.argv
        and 1000 <= count <= 2500
        and attack.limit_s < 16
    )


def _is_named_scan(attack: Attack, plan: Plan) -> bool:
    return (
        attack.technique == "nmap-sS"
        and "-T4" in attack.argv
        and "--top-ports" in attack.argv
        and not plan.host(attack.attacker).is_inside
    )


WANTED: tuple[tuple[str, Callable[[Attack, Plan], bool]], ...] = (
    ("telnet_hydra", _is_telnet_guessing),
    ("syn_flood", _is_named_flood),
    ("port_scan", _is_named_scan),
)


def draw_demo_plan() -> Plan:
    """Return the plan of the demo, the same on every machine."""
    plan = draw_plan(DEMO_SEED, attacks=[], devices=9)
    scene = draw_scene(random.Random(DEMO_SEED), plan)
    attacks: list[Attack] = []
    starts_s = 15.0
    for name, is_wanted in WANTED:
        attack = _draw_until(
            scene,
            plan,
            name=name,
            is_wanted=is_wanted,
            taken={host for earlier in attacks for host in (earlier.attacker, earlier.victim)},
        )
        attacks.append(dataclasses.replace(attack, starts_s=starts_s, limit_s=min(attack.limit_s, 20.0)))
        starts_s += attacks[-1].limit_s + GAP_S
    return dataclasses.replace(
        plan, attacks=tuple(attacks), activities=_lighter(plan, attacks), duration_s=starts_s + 5.0
    )


def _lighter(plan: Plan, attacks: Sequence[Attack]) -> tuple[Activity, ...]:
    """Return the activities less what would make the file large or the ground truth doubtful."""
    kept = []
    for activity in plan.activities:
        if activity.kind in HEAVY and activity.host != "camera2":
            continue
        if any({attack.attacker, attack.victim} <= {activity.host, *activity.peers} for attack in attacks):
            continue
        if activity.kind in RARER:
            every_s = max(RARE_S, activity.settings["every_s"])
            kept.append(dataclasses.replace(activity, settings={**activity.settings, "every_s": every_s}))
        else:
            kept.append(activity)
    return tuple(kept)


def _draw_until(
    scene: Scene, plan: Plan, *, name: str, is_wanted: Callable[[Attack, Plan], bool], taken: set[str]
) -> Attack:
    while True:
        attack = TECHNIQUES[name](scene)
        if not taken & {attack.attacker, attack.victim} and is_wanted(attack, plan):
            return dataclasses.replace(attack, drawn_as=name)
