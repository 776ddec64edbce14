"""Draws a plan from a plan file and a seed: a home behind NAT, its habits, and attacks in two lanes.

Techniques come in rounds: each that the file gives a weight once, in a drawn order, before any comes again. The trap:
addresses must not tell attacks from the rest, so attackers take turns among the devices of the home and the strangers
outside, all of whom lead a benign life too, and a victim is met by attacks about as often as by benign activities.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lab import habits, roles
from lab.apart import keep_apart
from lab.attacks import TECHNIQUES, NoVictim
from lab.benign.offers import with_offers
from lab.company import draw_company, draw_dealings
from lab.nat import HomeScene, activities_through, attack_through, draw_nat
from lab.plan import ANY_HOST, EVERY_HOME_HOST, GATEWAY, Activity, Attack, Host, Plan
from lab.plan_file import PlanFile
from lab.scenario import AFTER_S, BEFORE_S, INTERNET_PREFIXES, OUTSIDE, draw_hosts, draw_lan, draw_mac, in_doubt
from lab.truth import TAIL_S

LANES = 2  # so many attacks at once, at most
LEAST_GAP_S = 4.0
BEYOND = 6  # so many prefixes of the internet the outside hosts come from
TRIALS = 40
OUTWARD, CANDIDATES = 0.5, 12  # how often bots turn outward where they may, and of how many draws one is taken
GATEWAY_SHARE = 6  # so many devices the gateway counts for where a victim is drawn
OUTSIDE_VICTIMS = {"command": 1, "target": 1, "cloud": 4, "broker": 1, "clock": 1}  # the first is where bots call
NOT_PUBLIC = (0, 10, 100, 127, 169, 172, 192, 198, 203)  # first numbers with private or reserved parts


def draw(file: PlanFile, seed: int, *, minutes: float | None = None) -> Plan:
    """Return the plan of a seed. The same file, seed and minutes give the same plan on every machine."""
    rng = random.Random(f"{file.name}:{seed}")
    plan = _draw_home(rng, file, seed)
    plan = dataclasses.replace(plan, duration_s=60.0 * (minutes or file.minutes))
    activities = habits.draw_activities(rng, plan, [kind for kind, weight in file.benign.items() if weight > 0])
    activities += [company for company in draw_company(plan) if file.benign[company.kind] > 0]
    attacks = _draw_attacks(rng, file, plan, activities)
    activities += [dealing for dealing in draw_dealings(plan, attacks) if file.benign[dealing.kind] > 0]
    # Doubts are about the devices' own ports, which the gateway may offer outside under others.
    sure = keep_apart(plan, _paced(activities, file), attacks)
    sure = activities_through(plan, sure)
    lonely = {attack.attacker for attack in attacks} - {activity.host for activity in sure}
    sure += [look for name in sorted(lonely) for look in _look_in(plan, name, attacks)]
    return dataclasses.replace(plan, attacks=attacks, activities=tuple(sure))


def _draw_home(rng: random.Random, file: PlanFile, seed: int) -> Plan:
    lan, internet = draw_lan(rng), rng.choice(INTERNET_PREFIXES)
    inside_roles = roles.draw_weighted_roles(rng, rng.randint(*file.devices), weights=file.roles)
    outside = list(OUTSIDE)
    outside += [(f"stranger{number}", f"stranger{1 + number % 2}") for number in range(3, file.strangers + 1)]
    hosts, gateway, silent = draw_hosts(
        rng, lan=lan, internet=internet, inside_roles=inside_roles, outside=outside, vendors=file.mac_vendors
    )
    beyond = tuple(_draw_beyond(rng))
    network = ipaddress.IPv4Network(internet)
    plan = Plan(
        seed=seed,
        duration_s=0.0,
        lan=str(lan),
        gateway_address=gateway,
        gateway_mac=draw_mac(rng, file.mac_vendors),
        gateway_services=roles.draw_gateway_services(rng, broker=rng.random() < 0.4),
        internet=internet,
        internet_gateway=str(network.network_address + 1),
        wan_address=str(network.network_address + 254),
        hosts=_placed(rng, hosts, beyond, file),
        activities=(),
        attacks=(),
        silent=silent,
        name=file.name,
        beyond=beyond,
    )
    plan = with_offers(plan)
    return draw_nat(rng, plan) if file.nat else plan


def _draw_beyond(rng: random.Random) -> Iterator[str]:
    """Give prefixes far apart, all of them public."""
    firsts = rng.sample([number for number in range(1, 224) if number not in NOT_PUBLIC], BEYOND)
    for first in firsts:
        yield f"{first}.{rng.randrange(256)}.{16 * rng.randrange(16)}.0/20"


def _placed(rng: random.Random, hosts: Sequence[Host], beyond: Sequence[str], file: PlanFile) -> tuple[Host, ...]:
    """Give the outside hosts addresses in the prefixes beyond, the cloud many, and cables their losses."""
    networks = [ipaddress.IPv4Network(prefix) for prefix in beyond]
    taken: set[str] = set()

    def address() -> str:
        while True:
            network = rng.choice(networks)
            drawn = str(network[rng.randrange(2, network.num_addresses - 2)])
            if drawn not in taken and not drawn.endswith((".0", ".255")):
                taken.add(drawn)
                return drawn

    placed = []
    for host in hosts:
        lossy = rng.random() < 0.5
        loss = rng.uniform(*file.loss_percent) if lossy and host.delay_ms else 0.0
        if host.is_inside:
            placed.append(dataclasses.replace(host, loss_percent=loss))
            continue
        count = {"cloud": rng.randint(12, 40), "clock": rng.randint(0, 4)}.get(host.name, 0)
        aliases = tuple(address() for _ in range(count))
        placed.append(dataclasses.replace(host, address=address(), aliases=aliases, loss_percent=loss))
    return tuple(placed)


def _paced(activities: Sequence[Activity], file: PlanFile) -> list[Activity]:
    """Return the activities as often as the file wants them."""
    paced = []
    for activity in activities:
        settings = dict(activity.settings)
        if "every_s" in settings:
            settings["every_s"] = settings["every_s"] / file.benign[activity.kind]
        paced.append(dataclasses.replace(activity, settings=settings))
    return paced


def _rounds(rng: random.Random, weights: Mapping[str, float]) -> Iterator[str]:
    """Give techniques without end: in each round every one, the weightier rather early."""
    while True:
        keyed = sorted((-(rng.random() ** (1 / weight)), name) for name, weight in weights.items() if weight > 0)
        yield from (name for _, name in keyed)


def _draw_attacks(rng: random.Random, file: PlanFile, plan: Plan, activities: Sequence[Activity]) -> tuple[Attack, ...]:
    count = round(file.attacks_per_minute * plan.duration_s / 60)
    if not count:
        return ()
    room_s = plan.duration_s - BEFORE_S - AFTER_S
    used_s = [0.0] * LANES
    lanes: list[list[Attack]] = [[] for _ in range(LANES)]
    turns = _Turns(rng, plan, activities)
    for trial, name in zip(range(4 * count), _rounds(rng, file.attacks), strict=False):
        lane = used_s.index(min(used_s))
        attack = turns.draw(name)
        if attack is None or used_s[lane] + attack.limit_s + LEAST_GAP_S > room_s:
            continue
        used_s[lane] += attack.limit_s + LEAST_GAP_S
        lanes[lane].append(attack)
        if sum(map(len, lanes)) == count or trial == 4 * count - 1:
            break
    drawn: list[Attack] = []
    for lane in range(LANES):
        for attack in _spread(rng, lanes[lane], free_s=room_s - used_s[lane]):
            if not any(_clash(attack, other) for other in drawn):
                drawn.append(attack)
    return tuple(sorted(drawn, key=lambda attack: attack.starts_s))


def _spread(rng: random.Random, attacks: Sequence[Attack], *, free_s: float) -> Iterator[Attack]:
    """Give the attacks of a lane one after the other, with what time is left shared out among them by chance."""
    cuts = sorted(rng.uniform(0.0, max(0.0, free_s)) for _ in attacks)
    used_s = BEFORE_S
    for cut_s, attack in zip(cuts, attacks, strict=True):
        yield dataclasses.replace(attack, starts_s=round(used_s + cut_s, 1))
        used_s += attack.limit_s + LEAST_GAP_S


class _Turns:
    """Draws attacks whose attackers take turns, and whose victims are met as often as by benign activities."""

    def __init__(self, rng: random.Random, plan: Plan, activities: Sequence[Activity]) -> None:
        self._rng = rng
        self._plan = plan
        inside = [host for host in plan.devices if host.role != "hub"]
        outside = [host for host in plan.hosts if host.role.startswith("stranger")]
        self._inside = rng.sample(inside, len(inside))
        self._outside = rng.sample(outside, len(outside))
        # The gateway is a victim like any device, and a more frequent one, as it is of benign activities.
        gateway = Host(GATEWAY, GATEWAY, True, plan.gateway_address, plan.gateway_mac, services=plan.gateway_services)
        self._gateway = (gateway,) * GATEWAY_SHARE
        habits_met = [peer for activity in activities for peer in activity.peers[:1]]
        self._share = {name: count / len(habits_met) for name, count in Counter(habits_met).items()}
        self._met: Counter[str] = Counter()

    def draw(self, name: str) -> Attack | None:
        """Return an attack by one of those whose turn it is, or None where none of them can."""
        found: list[Attack] = []
        for _ in range(TRIALS):
            with contextlib.suppress(NoVictim):
                scene = self._scene(outward=self._rng.random() < OUTWARD)
                found.append(attack_through(self._plan, TECHNIQUES[name](scene)))
                if found[-1].proto == "arp" and not self._is_at_home(found[-1]):
                    found.pop()  # nobody lies about addresses beyond a router
            if len(found) == CANDIDATES:
                break
        if not found:
            return None
        attack = min(found, key=self._overmet)
        self._met[attack.victim] += 1
        for queue in (self._inside, self._outside):
            for host in [host for host in queue if host.name == attack.attacker]:
                queue.remove(host)
                queue.append(host)
        return dataclasses.replace(attack, drawn_as=name)

    def _overmet(self, attack: Attack) -> float:
        """Return how much more than by benign activities its victim would be met by attacks."""
        return (self._met[attack.victim] + 1) / (self._met.total() + 1) - self._share.get(attack.victim, 0.0)

    def _is_at_home(self, attack: Attack) -> bool:
        return attack.victim == GATEWAY or any(host.name == attack.victim for host in self._plan.devices)

    def _draw_outside(self) -> Iterator[Host]:
        """Give outside hosts that may be victims or masters, some at one of their further addresses."""
        for name, count in OUTSIDE_VICTIMS.items():
            for _ in range(count):
                yield dataclasses.replace(self._plan.host(name), address=self._rng.choice(self._plan.addresses(name)))

    def _scene(self, *, outward: bool) -> HomeScene:
        return HomeScene(
            rng=self._rng,
            lan=self._plan.lan,
            gateway_address=self._plan.gateway_address,
            devices=self._plan.devices + self._gateway,
            outside=tuple(self._draw_outside()),
            attackers_inside=tuple(self._inside[:2]),
            attackers_outside=tuple(self._outside[:2]),
            silent=self._plan.silent,
            plan=self._plan,
            outward=outward,
        )


def _clash(one: Attack, other: Attack) -> bool:
    """Could a packet of one attack be taken for the other's? Then they must not come near each other."""
    first, second = sorted((one, other), key=lambda attack: attack.starts_s)
    if second.starts_s > first.starts_s + first.limit_s + TAIL_S + LEAST_GAP_S:
        return False
    wide = {ANY_HOST, EVERY_HOME_HOST} & {one.victim, other.victim}
    same_source = one.attacker == other.attacker or (one.spoofed and other.spoofed)
    met = {one.attacker, one.victim} == {other.attacker, other.victim}
    return met or (same_source and (bool(wide) or one.victim == other.victim))


def _look_in(plan: Plan, name: str, attacks: Sequence[Attack]) -> Iterator[Activity]:
    """Give one harmless thing for a host that would otherwise only attack, if one can be told from its attacks."""
    candidates = [Activity("clock", name, ("clock",), {"every_s": 20.0, "port": 123}, 2.0)]
    for host in plan.hosts:
        for service in host.services if host.name != name else ():
            if service.kind in ("web", "small_web") and not service.settings.get("tls"):
                settings = {"every_s": 20.0, "port": service.port, "file": "index.html", "unsteadiness": 0.5}
                candidates.append(Activity("http_poll", name, (host.name,), settings, 2.0))
    inside = {host.name for host in plan.devices}
    candidates.sort(key=lambda each: plan.host(name).is_inside == (each.peers[0] in inside))  # what crosses the bridge
    yield from activities_through(plan, [each for each in candidates if not in_doubt(plan, each, attacks)])[:1]
