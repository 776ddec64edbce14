"""A DHCP server and clients that others wrote, on a wire: dnsmasq on the gateway, busybox udhcpc on the device."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.devices import DeviceListener, Devices, own_addresses
from flowfeatures import HomeNets
from lab.namespaces import entered
from tests.capture.wire import GUARD_S, Wire, ip
from tests.devices.said import at

pytestmark = pytest.mark.needs_root


@pytest.fixture
def served(wire: Wire, tmp_path: Path) -> Iterator[Wire]:
    """Give a wire with a DHCP server at its near end, which has exactly one address to give."""
    if missing := [tool for tool in ("dnsmasq", "busybox") if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (see lab/apt.txt)")
    ip("-n", wire.near, "addr", "add", "192.168.50.1/24", "dev", "eth0")
    server = subprocess.Popen(
        [
            "dnsmasq",
            *("--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces"),
            *("--dhcp-range=192.168.50.77,192.168.50.77,1h", "--no-ping", f"--dhcp-leasefile={tmp_path / 'leases'}"),
            *("--user=root", "--dhcp-authoritative"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield wire
    server.send_signal(signal.SIGTERM)
    server.wait(120)


def test_a_client_is_named_by_its_own_request_and_has_the_address_the_server_gave(served: Wire, tmp_path: Path):
    devices = Devices(home=HomeNets(), own=own_addresses("eth0"))
    listener = DeviceListener("eth0")
    script = tmp_path / "bound"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = bound ] && busybox ip addr add $ip/24 dev eth0 && touch {tmp_path}/done\n:\n'
    )
    script.chmod(0o755)

    with entered(served.far):
        client = subprocess.Popen(
            [
                *("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "20", "-T", "1"),
                *("-x", "hostname:lamp-7", "-s", str(script)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    until_s = time.monotonic() + GUARD_S
    while devices.named(at("192.168.50.77")) is None and time.monotonic() < until_s:
        listener.poll(devices.observe, devices.missed)
        time.sleep(0.01)
    client.wait(120)
    listener.close()

    found = devices.named(at("192.168.50.77"))
    (row,) = devices.list()
    assert found is not None
    assert found.name == "lamp-7"
    assert found.mac == row.mac == ip("netns", "exec", served.far, "cat", "/sys/class/net/eth0/address").strip()
    assert row.wishes.startswith("01")
    assert devices.counts().refused.get("own_address", 0) == 0
