"""The home networks behind an interface, by its addresses and routes; asked once, when the agent starts.

What is on the link is home, and private networks behind a router there. Of an uplink with a public address only the
gateway itself is: its neighbours there are strangers. The trap: an interface in a bridge has its addresses there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from agent.capture.interface import absent
from agent.devices.netlink import Address, Link, Route, addresses, links, routes
from contracts.terminal import complain
from flowfeatures import DEFAULT_HOME_NETS, address_bytes

CHILDREN: Final = ("vlan", "macvlan", "ipvlan")
LINK_LOCAL: Final = ("169.254.0.0/16", "fe80::/10")
_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


def home_nets_of(interface: str, *, say: Callable[[str], None] = complain) -> tuple[str, ...]:
    """Return the home networks of an interface, as CIDRs; the defaults, and says so, where it has no address.

    Raises DataMissing where there is no such interface.
    """
    try:
        nets = home_nets_among(interface, links=links(), addresses=addresses(), routes=routes())
        why = "has no address"
    except OSError as exc:
        nets, why = (), f"the kernel does not tell its addresses ({exc.strerror or exc})"
    if nets:
        return nets
    say(
        f"{interface}: {why}, so its home networks are not known: taking {', '.join(DEFAULT_HOME_NETS)}; "
        f"say home_nets if that is wrong"
    )
    return DEFAULT_HOME_NETS


def own_addresses(interface: str) -> frozenset[bytes]:
    """Return this gateway's addresses (16 octets) and the MACs (6) of the interface and what stands on it.

    Raises DataMissing where there is no such interface, OSError where the kernel does not tell.
    """
    known = links()
    macs = {link.mac for link in known if link.index in _family(interface, known) and any(link.mac)}
    texts = (str(ipaddress.ip_address(each.address)) for each in addresses())
    return frozenset([*macs, *map(address_bytes, texts)])


def joined(nets: Iterable[str]) -> tuple[str, ...]:
    """Return the networks without those inside others: of several interfaces, say.

    >>> joined(["192.168.1.0/24", "192.168.0.0/16", "fe80::/10"])
    ('192.168.0.0/16', 'fe80::/10')
    """
    found = [ipaddress.ip_network(each) for each in nets]
    v4 = ipaddress.collapse_addresses(each for each in found if isinstance(each, ipaddress.IPv4Network))
    v6 = ipaddress.collapse_addresses(each for each in found if isinstance(each, ipaddress.IPv6Network))
    return tuple(map(str, [*v4, *v6]))


def home_nets_among(
    interface: str, *, links: Sequence[Link], addresses: Sequence[Address], routes: Sequence[Route]
) -> tuple[str, ...]:
    """Return the home networks by what the kernel knows; none where the interface has no address of its own."""
    family = _family(interface, links)
    own = [each for each in addresses if each.index in family]
    if all(ipaddress.ip_address(each.address).is_link_local for each in own if len(each.address) == 16) and not any(
        len(each.address) == 4 for each in own
    ):
        return ()
    is_uplink = any(each.index in family and not each.target for each in routes) and any(
        len(each.address) == 4 and ipaddress.ip_address(each.address).is_global for each in own
    )
    if is_uplink:
        return joined(str(ipaddress.ip_address(each.address)) for each in own)
    found = [net for each in own for net in _nets_of(each)]
    found += [net for each in routes if each.index in family for net in _behind(each)]
    return joined([*map(str, found), *LINK_LOCAL])


def _family(interface: str, links: Sequence[Link]) -> set[int]:
    """Return the indices of the interface, of the bridge or bond it is in, and of the VLANs that stand on either."""
    first = next((link for link in links if link.name == interface), None)
    if first is None:
        raise absent(interface)
    family = {first.index}
    for _ in range(4):  # a VLAN on a bond of a bridge: deeper is not built
        masters = {link.master for link in links if link.index in family and link.master}
        children = {link.index for link in links if link.lower in family and link.kind in CHILDREN}
        family |= masters | children
    return family


def _nets_of(address: Address) -> list[_Network]:
    """Return an address's network; of a point-to-point link the two ends."""
    if address.peer != address.address:
        ends = (ipaddress.ip_network(address.address), ipaddress.ip_network(address.peer))
        return list(ends)
    return [ipaddress.ip_network((address.address, address.prefix_bits), strict=False)]


def _behind(route: Route) -> list[_Network]:
    """Return what a route leads to, where that is a private network: the rest of the world is not home."""
    if not route.target:
        return []
    net = ipaddress.ip_network((route.target, route.prefix_bits), strict=False)
    return [net] if net.is_private and not net.is_multicast else []
