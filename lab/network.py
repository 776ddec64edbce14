"""A home network of Linux namespaces: gateway with a bridge, LAN hosts, and an internet side.

Owns building and removing; knows nothing of what the hosts do. Names carry the process id and a random tag, so two labs
run side by side, and what a killed lab left is swept by the next one. Everything that runs in a namespace is ended with
it, however it was started. The trap: the gateway's checksums and sizes are those of packets on a wire, so every
interface has its offloads off, or captures would hold frames of 64 KiB that no cable carries.

    LAN host --cable-- br0 [gateway] wan0 --cable-- inet [internet] --cable-- internet host
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import ipaddress
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from contracts.errors import LabError
from lab.namespaces import NAMESPACE_PREFIX, NETNS_FOLDER, entered, ip, make_run_folder, remove_namespace, sweep
from lab.nat import ruleset, seen_from_outside
from lab.plan import GATEWAY, Host, Plan
from lab.tools import find

_libc = ctypes.CDLL(None)
OFFLOADS = ("tx", "rx", "tso", "gso", "gro")


class Network:
    """The namespaces of one plan, there from `with` to its end, also where that end is an error.

    >>> with Network(plan) as network:                                                  # doctest: +SKIP
    ...     network.start("camera", ["ping", "-c", "1", plan.address("gateway")]).wait()
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tag = f"{NAMESPACE_PREFIX}{os.getpid()}-{secrets.token_hex(3)}"
        self._made: list[str] = []
        self._lock = threading.Lock()

    def namespace(self, name: str) -> str:
        """Return the namespace a host lives in."""
        return f"{self.tag}-{name}"

    def __enter__(self) -> Network:
        sweep()
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """End every process in the network and delete its namespaces; a second call does nothing."""
        while self._made:
            remove_namespace(self._made[-1])
            self._made.pop()

    def seen_by(self, host: Host) -> Network:
        """Return this network with the addresses that a host knows the others under."""
        if host.is_inside or not self.plan.has_nat:
            return self
        view = copy.copy(self)
        view.plan = seen_from_outside(self.plan)
        return view

    def start(
        self,
        host: str,
        argv: Sequence[str],
        *,
        group: int | None = None,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        stdin: int = subprocess.DEVNULL,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program on a host, in a session of its own so that Ctrl-C reaches the lab first.

        It runs under a group id: the one given, or that of the calling thread.
        """
        group = group or _libc.setfsgid(-1)  # which changes nothing and tells
        with entered(self.namespace(host)):
            return subprocess.Popen(
                [find(argv[0]) if "/" not in argv[0] else argv[0], *argv[1:]],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                start_new_session=True,
                group=group or None,
            )

    def thread(self, host: str, target: Callable[[], None], *, name: str) -> threading.Thread:
        """Start a thread that lives on a host until `target` returns."""

        def live() -> None:
            with entered(self.namespace(host)):
                target()

        thread = threading.Thread(target=live, name=name, daemon=True)
        thread.start()
        return thread

    def _add(self, name: str) -> None:
        namespace = self.namespace(name)
        ip(["netns", "add", namespace])
        self._made.append(namespace)

    def _build(self) -> None:
        plan = self.plan
        for name in (GATEWAY, "internet", "cables", *(host.name for host in plan.hosts)):
            self._add(name)
        cables: list[dict[str, Any]] = []
        links: list[str] = []
        for number, host in enumerate(plan.hosts):
            self._link(number, host, links=links, cables=cables)
        gateway, internet = self.namespace(GATEWAY), self.namespace("internet")
        links.append(f"link add wan0 netns {gateway} type veth peer name gw0 netns {internet}")
        ip(["-batch", "-"], batch=links)
        self._configure_routers()
        for host in plan.hosts:
            self._configure(host.name, [*self._routes(host), *self._silence(host)], interfaces=["eth0"])
            self._settle(host)
        self._start_cables(cables)

    def _routes(self, host: Host) -> list[str]:
        """Return the commands that give a host its addresses and its way to the others."""
        plan = self.plan
        router = plan.gateway_address if host.is_inside else plan.internet_gateway
        near = plan.lan if host.is_inside else plan.internet
        stack = f"advmss {host.mss} window {host.receive_window_bytes}"
        up, default = ["link set lo up", "link set eth0 up"], f"route add default via {router} {stack}"
        aliases = [f"addr add {alias}/32 dev eth0" for alias in host.aliases]
        if ipaddress.IPv4Address(host.address) not in ipaddress.IPv4Network(near):
            way = f"route add {router}/32 dev eth0 src {host.address}"
            return [f"addr add {host.address}/32 dev eth0", *up, way, f"{default} src {host.address}", *aliases]
        through = not (host.is_inside or plan.has_nat)
        return [
            f"addr add {host.address}/{plan.prefix_length(host)} brd + dev eth0",
            *up,
            default,
            f"route change {near} dev eth0 src {host.address} {stack}",
            *([f"route add {plan.lan} via {plan.wan_address} {stack}"] if through else []),
            *aliases,
        ]

    def _link(self, number: int, host: Host, *, links: list[str], cables: list[dict[str, Any]]) -> None:
        side = self.namespace(GATEWAY if host.is_inside else "internet")
        own, between = self.namespace(host.name), self.namespace("cables")
        port, first = f"p{number}", f"link add eth0 address {host.mac} netns {own} type veth peer name"
        if host.delay_ms <= 0 and host.loss_percent <= 0:
            links.append(f"{first} {port} netns {side}")
            return
        links.append(f"{first} a{number} netns {between}")
        links.append(f"link add {port} netns {side} type veth peer name b{number} netns {between}")
        cables.append(
            {
                "end_a": f"a{number}",
                "end_b": f"b{number}",
                "delay_ms": host.delay_ms,
                "jitter_ms": host.jitter_ms,
                "rate_mbit_per_s": host.rate_mbit_per_s,
                "loss_percent": host.loss_percent,
            }
        )

    def _configure_routers(self) -> None:
        plan = self.plan
        ports = {True: [], False: []}  # type: dict[bool, list[str]]
        for number, host in enumerate(plan.hosts):
            ports[host.is_inside].append(f"p{number}")
        bridges = ((GATEWAY, "br0", plan.gateway_mac, ports[True]), ("internet", "inet", "", ["gw0", *ports[False]]))
        for name, bridge, mac, members in bridges:
            address = f"address {mac}" if mac else ""
            self._configure(
                name,
                [
                    "link set lo up",
                    f"link add {bridge} {address} type bridge forward_delay 0 mcast_snooping 0",
                    *(f"link set {port} master {bridge} up" for port in members),
                    f"link set {bridge} up",
                ],
                interfaces=[bridge, *members],
            )
        length = plan.internet_prefix_length
        self._configure(
            GATEWAY,
            [
                f"addr add {plan.gateway_address}/{plan.lan.split('/')[1]} brd + dev br0",
                f"addr add {plan.wan_address}/{length} dev wan0",
                "link set wan0 up",
                f"route add default via {plan.internet_gateway}",
                *(f"neigh add {address} lladdr {plan.devices[0].mac} dev br0" for address in plan.silent),
                *(f"addr add {public}/32 dev wan0" for _, public in plan.exposed),
            ],
            interfaces=["wan0"],
        )
        if plan.has_nat:
            with entered(self.namespace(GATEWAY)):
                told = subprocess.run(
                    [find("nft"), "-f", "-"], input=ruleset(plan), capture_output=True, text=True, check=False
                )
            if told.returncode:
                raise LabError(f"nft: {(told.stderr.strip() or 'failed').splitlines()[0]}")
        # What has no host on the internet side goes nowhere, silently, as most of a random address range does.
        self._configure(
            "internet",
            [
                f"addr add {plan.internet_gateway}/{length} dev inet",
                "route add blackhole default",
                *(f"route add {prefix} dev inet" for prefix in plan.beyond),
                *([] if plan.has_nat else [f"route add {plan.lan} via {plan.wan_address}"]),
            ],
            interfaces=[],
        )
        for name in (GATEWAY, "internet"):
            self.write_sysctl(
                name,
                {
                    "net/ipv4/ip_forward": 1,
                    "net/ipv4/conf/all/rp_filter": int(name == GATEWAY),
                    "net/ipv4/conf/all/send_redirects": 0,
                    "net/ipv4/conf/default/send_redirects": 0,
                },
            )

    def _configure(self, name: str, batch: Sequence[str], *, interfaces: Sequence[str]) -> None:
        ip(["-n", self.namespace(name), "-batch", "-"], batch=batch)
        for interface in interfaces:
            self._without_offloads(name, interface)

    def _without_offloads(self, name: str, interface: str) -> None:
        switches = [word for offload in OFFLOADS for word in (offload, "off")]
        self.start(name, ["ethtool", "-K", interface, *switches]).wait(timeout=10)

    def _silence(self, host: Host) -> list[str]:
        """Return the commands that make a host's closed ports drop, and the silent addresses known to it.

        No firewall is needed: a reset whose route is a blackhole is never sent. A silent address is that of a
        neighbour which does not have it and forwards nothing.
        """
        batch = []
        if host.is_inside:
            sink = next(other for other in self.plan.devices if other.name != host.name)
            batch += [f"neigh add {address} lladdr {sink.mac} dev eth0" for address in self.plan.silent]
        if host.drops_closed_ports:
            ports = sorted({service.port for service in host.services})
            batch += [f"rule add pref {10 + n} ipproto tcp sport {port} lookup main" for n, port in enumerate(ports)]
            batch.append("rule add pref 100 ipproto tcp sport 1-32767 blackhole")
            batch.append("rule add pref 101 ipproto icmp blackhole")
        return batch

    def _settle(self, host: Host) -> None:
        """Give a host's kernel the small differences that devices have."""
        self.write_sysctl(
            host.name,
            {
                "net/ipv4/tcp_synack_retries": host.synack_retries,
                "net/ipv4/tcp_syn_retries": 2,
                "net/ipv4/ip_default_ttl": host.ttl,
                "net/ipv4/tcp_timestamps": int(host.has_tcp_timestamps),
                "net/ipv4/icmp_ratelimit": host.icmp_ratelimit_ms,
                "net/ipv4/tcp_syncookies": int(host.has_syn_cookies),
                "net/ipv4/tcp_max_syn_backlog": host.syn_backlog,
                "net/ipv4/ping_group_range": "0 0",
            },
        )

    def write_sysctl(self, name: str, values: dict[str, int | str]) -> None:
        """Set kernel settings of a host's network (paths below /proc/sys)."""
        with entered(self.namespace(name)):
            for path, value in values.items():
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    Path("/proc/sys", path).write_text(str(value))

    def _start_cables(self, cables: list[dict[str, Any]]) -> None:
        if not cables:
            return
        for cable in cables:
            for end in (cable["end_a"], cable["end_b"]):
                self.write_sysctl("cables", {f"net/ipv6/conf/{end}/disable_ipv6": 1})
                ip(["-n", self.namespace("cables"), "link", "set", end, "up", "promisc", "on"])
                self._without_offloads("cables", end)
        with entered(self.namespace("cables")):
            process = subprocess.Popen(
                [sys.executable, "-m", "lab.wire"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                cwd=Path(__file__).parents[1],
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"seed": self.plan.seed, "cables": cables}).encode())
        process.stdin.close()
        if process.stdout.readline().strip() != b"ready":
            raise LabError("the cables between the hosts could not be laid")


__all__ = ["NAMESPACE_PREFIX", "NETNS_FOLDER", "Network", "entered", "make_run_folder", "sweep"]
