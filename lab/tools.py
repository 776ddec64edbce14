"""The programs the lab runs, and what the machine must offer before it may start.

Owns the list tool -> Debian package (the packages also stand in apt.txt, which a test compares). Starts nothing. The
trap: several of these live in /usr/sbin, which is not on every root's PATH.
"""

from __future__ import annotations

import os
import shutil

from contracts.errors import MissingTool, NeedsRoot

TOOL_PACKAGES = {
    "arpspoof": "dsniff",
    "busybox": "busybox-static",
    "coap-client-notls": "libcoap3-bin",
    "coap-server-notls": "libcoap3-bin",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "ethtool": "ethtool",
    "hping3": "hping3",
    "hydra": "hydra",
    "iodine": "iodine",
    "iodined": "iodine",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "mosquitto": "mosquitto",
    "mosquitto_passwd": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "nft": "nftables",
    "nginx": "nginx-light",
    "nmap": "nmap",
    "openssl": "openssl",
    "ping": "iputils-ping",
    "rsync": "rsync",
    "slowhttptest": "slowhttptest",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "tcpdump": "tcpdump",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def find(tool: str) -> str:
    """Return the full path of a tool; raise MissingTool with the apt line that brings it."""
    path = shutil.which(tool, path=os.environ.get("PATH", "") + ":" + SYSTEM_PATH)
    if path is None:
        raise MissingTool(f"{tool} not found: apt-get install {TOOL_PACKAGES[tool]}")
    return path


def missing() -> dict[str, str]:
    """Return the tools that are not installed, each with its package."""
    path = os.environ.get("PATH", "") + ":" + SYSTEM_PATH
    return {tool: package for tool, package in TOOL_PACKAGES.items() if shutil.which(tool, path=path) is None}


def require_all() -> None:
    """Raise NeedsRoot or MissingTool unless a lab can be built on this machine now."""
    if os.geteuid() != 0:
        raise NeedsRoot(f"a lab makes network namespaces, which needs root (running as uid {os.geteuid()})")
    lacking = missing()
    if lacking:
        packages = " ".join(sorted(set(lacking.values())))
        raise MissingTool(f"not installed: {', '.join(sorted(lacking))}: apt-get install {packages}")
