"""Who sent what, told by the kernels of the hosts: the second witness beside the intervals of the ground truth.

Every activity and every attack runs under a group id of its own, and each host's kernel notes the flows that sockets of
such a group send. The trap: setfsgid acts on one thread and ends with exec, so `Network.start` hands the group of the
calling thread to the program it starts; what uses packet sockets (DHCP clients) and what a kernel answers by itself is
noted by nobody.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from contracts.errors import LabError
from lab.frames import PROTOCOL_NAMES, FlowKey, flow_key, number_of
from lab.namespaces import entered
from lab.nat import at_home
from lab.network import Network
from lab.plan import Plan
from lab.tools import find

FIRST_ACTIVITY, FIRST_ATTACK, LAST = 20_000, 40_000, 59_999  # group ids, which no account of a machine has
MOST_FLOWS = 65_536  # per host and protocol, for which a kernel sets a megabyte aside; what is beyond has no sender
TALK = "ip saddr . th sport . ip daddr . th dport . meta skgid"  # five at most: nft packs types into 32 bits
PING = "ip saddr . ip daddr . meta l4proto . meta skgid"
SETS = {"tcp": TALK, "udp": TALK, "other": PING}
RULES = "\n".join(
    [
        "table ip lab {",
        *(
            f"set sent_{name} {{\n typeof {what}\n flags dynamic\n size {MOST_FLOWS}\n }}"
            for name, what in SETS.items()
        ),
        "chain out {",
        "type filter hook output priority 0",
        f"meta skgid != {FIRST_ACTIVITY}-{LAST} return",
        f"meta l4proto tcp add @sent_tcp {{ {TALK} }}",
        f"meta l4proto udp add @sent_udp {{ {TALK} }}",
        f"meta l4proto != {{ tcp, udp }} add @sent_other {{ {PING} }}",
        "}",
        "}",
        "",
    ]
)
_libc = ctypes.CDLL(None, use_errno=True)


def take_group(group: int) -> None:
    """Let the calling thread, and the threads and programs it starts, send under a group id."""
    _libc.setfsgid(group)


def _nft(network: Network, host: str, *arguments: str, told: str = "") -> str:
    with entered(network.namespace(host)):
        done = subprocess.run([find("nft"), *arguments], input=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"nft on {host}: {(done.stderr.strip() or 'failed').splitlines()[0]}")
    return done.stdout


def watch(network: Network) -> None:
    """Let the kernel of each host note what groups send."""
    for host in network.plan.hosts:
        _nft(network, host.name, "-f", "-", told=RULES)


def collect(network: Network) -> dict[FlowKey, set[str]]:
    """Return, for each flow as the home's bridge shows it, the names of those who sent in it (see `name_of`)."""
    sent: dict[FlowKey, set[str]] = defaultdict(set)
    for host in network.plan.hosts:
        for name in SETS:
            listed = json.loads(_nft(network, host.name, "-j", "-n", "list", "set", "ip", "lab", f"sent_{name}"))
            for element in _elements(listed):
                key, group = _flow_of(network.plan, name, element, from_outside=not host.is_inside)
                sent[key].add(name_of(network.plan, group))
    return dict(sent)


def _elements(listed: dict[str, Any]) -> Iterable[list[Any]]:
    for part in listed["nftables"]:
        yield from (element["concat"] for element in part.get("set", {}).get("elem", ()))


def _flow_of(plan: Plan, name: str, element: list[Any], *, from_outside: bool) -> tuple[FlowKey, int]:
    if name in PROTOCOL_NAMES.values():
        source, source_port, target, target_port, group = element
        proto = name
    else:
        source, target, number, group = element
        source_port = target_port = 0
        proto = PROTOCOL_NAMES.get(int(number), str(number))
    if from_outside:
        target, target_port = at_home(plan, target, int(target_port))
    return flow_key(proto, (number_of(source), int(source_port)), (number_of(target), int(target_port))), int(group)


def name_of(plan: Plan, group: int) -> str:
    """Return `attack N TECHNIQUE` or the kind of a benign activity."""
    if group >= FIRST_ATTACK:
        attack = plan.attacks[group - FIRST_ATTACK]
        return f"attack {group - FIRST_ATTACK} {attack.drawn_as or attack.technique}"
    return plan.activities[group - FIRST_ACTIVITY].kind
