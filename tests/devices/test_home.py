"""Home networks by addresses and routes: in made-up kernels, and in real namespaces."""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from agent.devices import home_nets_of, joined, own_addresses
from agent.devices.home import home_nets_among
from agent.devices.netlink import Address, Link, Route
from contracts.errors import DataMissing
from flowfeatures import DEFAULT_HOME_NETS, address_bytes
from lab.namespaces import entered, remove_namespace
from tests.capture.wire import Wire, ip

LINK_LOCAL = {"169.254.0.0/16", "fe80::/10"}
BR0, ETH1, VLAN, VETH = 2, 3, 4, 5


def link(index: int, name: str, **others: object) -> Link:
    return Link(**{"index": index, "name": name, "mac": b"", "kind": "", "lower": 0, "master": 0, **others})


LINKS = [
    link(BR0, "br0", kind="bridge"),
    link(ETH1, "eth1", master=BR0),
    link(VLAN, "br0.7", kind="vlan", lower=BR0),
    link(VETH, "veth0", kind="veth", lower=BR0),
]


def address(index: int, text: str, *, peer: str | None = None) -> Address:
    parsed = ipaddress.ip_interface(text)
    other = parsed.ip if peer is None else ipaddress.ip_address(peer)
    return Address(index=index, address=parsed.ip.packed, peer=other.packed, prefix_bits=parsed.network.prefixlen)


def route(index: int, text: str | None, gateway: str = "") -> Route:
    net = ipaddress.ip_network(text) if text else None
    return Route(
        index=index,
        target=net.network_address.packed if net else b"",
        prefix_bits=net.prefixlen if net else 0,
        gateway=ipaddress.ip_address(gateway).packed if gateway else b"",
    )


def nets(interface: str, addresses: list[Address], routes: list[Route] = []) -> set[str]:  # noqa: B006
    return set(home_nets_among(interface, links=LINKS, addresses=addresses, routes=routes))


def test_what_is_on_the_link_is_home_in_both_families():
    found = nets("br0", [address(BR0, "192.168.1.1/24"), address(BR0, "2001:db8:1::1/64"), address(9, "10.0.0.1/8")])

    assert found == {"192.168.1.0/24", "2001:db8:1::/64", *LINK_LOCAL}


@pytest.mark.parametrize("interface", ["eth1", "br0", "br0.7"])
def test_a_port_of_a_bridge_has_the_bridges_networks_and_those_of_its_vlans(interface: str):
    addresses = [address(BR0, "192.168.1.1/24"), address(VLAN, "192.168.7.1/24"), address(VETH, "10.9.0.1/24")]

    found = nets(interface, addresses)

    assert ("192.168.1.0/24" in found) == (interface != "br0.7")
    assert "192.168.7.0/24" in found
    assert "10.9.0.0/24" not in found


def test_of_a_point_to_point_link_the_two_ends_are_home_and_what_is_routed_there():
    found = nets("br0", [address(BR0, "10.8.0.1/32", peer="10.8.0.2")], [route(BR0, "10.8.5.0/24")])

    assert found == {"10.8.0.1/32", "10.8.0.2/32", "10.8.5.0/24", *LINK_LOCAL}


def test_private_networks_behind_a_router_are_home_and_the_rest_of_the_world_is_not():
    routes = [
        route(BR0, "10.20.0.0/16", "192.168.1.2"),
        route(BR0, "8.8.8.0/24", "192.168.1.2"),
        route(9, "10.5.0.0/16"),
    ]

    found = nets("br0", [address(BR0, "192.168.1.5/24")], [*routes, route(BR0, None, "192.168.1.1")])

    assert found == {"192.168.1.0/24", "10.20.0.0/16", *LINK_LOCAL}


def test_on_an_uplink_only_the_gateway_itself_is_home():
    found = nets("br0", [address(BR0, "8.8.4.20/22"), address(BR0, "2a00::20/64")], [route(BR0, None, "8.8.4.1")])

    assert found == {"8.8.4.20/32", "2a00::20/128"}


def test_a_link_local_address_alone_says_nothing():
    assert nets("br0", [address(BR0, "fe80::1/64")]) == set()
    assert nets("br0", [address(BR0, "169.254.3.1/16")]) == LINK_LOCAL


def test_networks_inside_others_are_left_out():
    assert joined(["10.0.0.0/8", "10.1.0.0/16", "fd00::/64", "192.168.0.0/25", "192.168.0.128/25"]) == (
        "10.0.0.0/8",
        "192.168.0.0/24",
        "fd00::/64",
    )


def test_an_absent_interface_is_named():
    with pytest.raises(DataMissing, match="nowhere9"):
        home_nets_of("nowhere9")


def test_a_kernel_that_does_not_tell_leaves_the_defaults(monkeypatch: pytest.MonkeyPatch):
    def refused() -> list[Link]:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr("agent.devices.home.links", refused)
    said: list[str] = []

    found = home_nets_of("lo", say=said.append)

    assert found == DEFAULT_HOME_NETS
    assert "Address family not supported" in said[0]


# -- the kernel ---------------------------------------------------------------------------------------------------


@pytest.fixture
def space() -> Iterator[str]:
    """Give a namespace with br0, which has a port eth1; the test stands in it."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and ip(8)")
    name = Wire().near
    ip("netns", "add", name)
    try:
        for words in (
            "link add br0 type bridge",
            "link add eth1 type veth peer name eth9",
            "link set eth1 master br0",
            *(f"link set {each} up" for each in ("lo", "br0", "eth1", "eth9")),
        ):
            ip("-n", name, *words.split())
        with entered(name):
            yield name
    finally:
        remove_namespace(name)


@pytest.mark.needs_root
def test_a_bridge_of_this_kernel(space: str):
    for words in (
        "addr add 192.168.44.1/24 dev br0",
        "addr add fd44::1/64 dev br0",
        "route add 10.44.0.0/16 via 192.168.44.2",
        "route add default via 192.168.44.254",
    ):
        ip("-n", space, *words.split())

    found = home_nets_of("eth1")

    assert set(found) == {"192.168.44.0/24", "fd44::/64", "10.44.0.0/16", *LINK_LOCAL}
    assert address_bytes("192.168.44.1") in own_addresses("eth1")
    assert any(len(each) == 6 for each in own_addresses("eth1"))


@pytest.mark.needs_root
def test_a_vlan_of_this_kernel_belongs_to_what_it_stands_on(space: str):
    ip("-n", space, *["link", "add", "link", "br0", "name", "br0.7", "type", "vlan", "id", "7"])
    ip("-n", space, *["addr", "add", "192.168.47.1/24", "dev", "br0.7"])

    assert "192.168.47.0/24" in home_nets_of("br0")


@pytest.mark.needs_root
def test_a_tunnel_of_this_kernel(space: str):
    ip("-n", space, *["tuntap", "add", "tun0", "mode", "tun"])
    ip("-n", space, *["link", "set", "tun0", "up"])
    ip("-n", space, *["addr", "add", "10.8.0.1", "peer", "10.8.0.2", "dev", "tun0"])

    assert set(home_nets_of("tun0")) == {"10.8.0.1/32", "10.8.0.2/32", *LINK_LOCAL}


@pytest.mark.needs_root
@pytest.mark.usefixtures("space")
def test_an_interface_without_an_address_takes_the_defaults_and_says_so(capsys: pytest.CaptureFixture[str]):
    assert home_nets_of("eth1") == DEFAULT_HOME_NETS
    assert "eth1: has no address" in capsys.readouterr().err


@pytest.mark.needs_root
def test_a_thousand_addresses_are_all_read(space: str):
    lines = [f"addr add 10.{number >> 8}.{number & 255}.1/24 dev br0" for number in range(1_000)]
    subprocess.run(["ip", "-n", space, "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=120)

    assert len(own_addresses("br0")) > 1_000
    assert "10.0.0.0/15" in home_nets_of("br0")
