"""A home network of Linux namespaces: gateway with a bridge, LAN hosts, and an internet side.

Owns building, entering and removing; knows nothing of what the hosts do. Names carry the process id and a random tag,
so two labs run side by side, and what a killed lab left is swept by the next one. Everything that runs in a namespace
is ended with it, however it was started. The trap: setns() acts on one thread; a process or thread started from inside
`entered` stays in that namespace, everything else does not.

    LAN host --cable-- br0 [gateway] wan0 --cable-- inet [internet] --cable-- internet host
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from contracts.errors import LabError
from lab.plan import GATEWAY, Host, Plan
from lab.tools import find

NAMESPACE_PREFIX = "plab"
NETNS_FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
OFFLOADS = ("tx", "rx", "tso", "gso", "gro")
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise LabError(f"setns failed: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Let the calling thread, and what it starts, be in a namespace; come back at the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        target = os.open(NETNS_FOLDER / namespace, os.O_RDONLY)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _ip(arguments: Sequence[str], *, batch: Sequence[str] = ()) -> str:
    done = subprocess.run(
        [find("ip"), *arguments], input="\n".join(batch) + "\n", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise LabError(f"ip {' '.join(arguments)}: {reason[0] if reason else done.returncode}")
    return done.stdout


def _namespace_pids(namespace: str) -> list[int]:
    """Return the processes in a namespace; none where it is gone."""
    with contextlib.suppress(LabError):
        return [int(pid) for pid in _ip(["netns", "pids", namespace]).split() if int(pid) != os.getpid()]
    return []


def remove_namespace(namespace: str) -> None:
    """End every process in a namespace and delete it; nothing happens where it is gone."""
    for signal_number, patience_s in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 2.0)):
        for pid in _namespace_pids(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        deadline = time.monotonic() + patience_s
        while _namespace_pids(namespace) and time.monotonic() < deadline:
            time.sleep(0.05)
    with contextlib.suppress(LabError):
        _ip(["netns", "del", namespace])


def stale_names(names: Sequence[str], *, is_alive: Callable[[int], bool]) -> list[str]:
    """Return those of the names that a lab made whose process is no longer there.

    >>> stale_names(["plab7-ab-cam", "plab8-cd-cam", "other"], is_alive=lambda pid: pid == 8)
    ['plab7-ab-cam']
    """
    stale = []
    for name in names:
        owner = name.removeprefix(NAMESPACE_PREFIX).split("-")[0]
        if name.startswith(NAMESPACE_PREFIX) and owner.isdigit() and not is_alive(int(owner)):
            stale.append(name)
    return stale


def sweep() -> list[str]:
    """Remove what labs that were killed left behind, namespaces and run folders; return the names of both."""
    temporary = Path(tempfile.gettempdir())
    swept = []
    for folder, remove in ((NETNS_FOLDER, remove_namespace), (temporary, _remove_run_folder)):
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for name in stale_names(names, is_alive=lambda pid: Path(f"/proc/{pid}").exists()):
            remove(name)
            swept.append(name)
    return swept


def make_run_folder() -> Path:
    """Return a new temporary folder whose name tells `sweep` whose it is; hosts' servers may read in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"{NAMESPACE_PREFIX}{os.getpid()}-"))
    folder.chmod(0o755)
    return folder


def _remove_run_folder(name: str) -> None:
    shutil.rmtree(Path(tempfile.gettempdir(), name), ignore_errors=True)


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """End every process in the network and delete its namespaces; a second call does nothing."""
        while self._made:
            remove_namespace(self._made[-1])
            self._made.pop()

    def start(
        self,
        host: str,
        argv: Sequence[str],
        *,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        stdin: int = subprocess.DEVNULL,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program on a host, in a session of its own so that Ctrl-C reaches the lab first."""
        with entered(self.namespace(host)):
            return subprocess.Popen(
                [find(argv[0]) if "/" not in argv[0] else argv[0], *argv[1:]],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                start_new_session=True,
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
        _ip(["netns", "add", namespace])
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
        _ip(["-batch", "-"], batch=links)
        self._configure_routers()
        for host in plan.hosts:
            router = plan.gateway_address if host.is_inside else plan.internet_gateway
            near = plan.lan if host.is_inside else plan.internet
            stack = f"advmss {host.mss} window {host.receive_window_bytes}"
            self._configure(
                host.name,
                [
                    f"addr add {host.address}/{plan.prefix_length(host)} brd + dev eth0",
                    "link set lo up",
                    "link set eth0 up",
                    f"route add default via {router} {stack}",
                    f"route change {near} dev eth0 src {host.address} {stack}",
                    *([] if host.is_inside else [f"route add {plan.lan} via {plan.wan_address} {stack}"]),
                    *(f"addr add {alias}/32 dev eth0" for alias in host.aliases),
                    *self._silence(host),
                ],
                interfaces=["eth0"],
            )
            self._settle(host)
        self._start_cables(cables)

    def _link(self, number: int, host: Host, *, links: list[str], cables: list[dict[str, Any]]) -> None:
        side = self.namespace(GATEWAY if host.is_inside else "internet")
        own, between = self.namespace(host.name), self.namespace("cables")
        port, first = f"p{number}", f"link add eth0 address {host.mac} netns {own} type veth peer name"
        if host.delay_ms <= 0:
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
            ],
            interfaces=["wan0"],
        )
        # What has no host on the internet side goes nowhere, silently, as most of a random address range does.
        self._configure(
            "internet",
            [
                f"addr add {plan.internet_gateway}/{length} dev inet",
                "route add blackhole default",
                f"route add {plan.lan} via {plan.wan_address}",
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
        _ip(["-n", self.namespace(name), "-batch", "-"], batch=batch)
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
                _ip(["-n", self.namespace("cables"), "link", "set", end, "up", "promisc", "on"])
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
