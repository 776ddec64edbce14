"""Address sets asked with record bytes, against the standard library."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.networks import Networks
from flowfeatures import address_bytes

CIDRS = ("10.0.0.0/8", "192.168.1.0/24", "203.0.113.9", "fe80::/10", "2001:db8::1/128")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("9.255.255.255", False),
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("203.0.113.9", True),
        ("203.0.113.8", False),
        ("fe7f:ffff::", False),
        ("fe80::", True),
        ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
        ("fec0::", False),
    ],
)
def test_membership_changes_exactly_at_the_edges_of_a_network(address: str, expected: bool):
    assert (address_bytes(address) in Networks(CIDRS)) is expected


@given(st.ip_addresses(), st.ip_addresses(v=4), st.integers(0, 32))
def test_membership_is_what_the_standard_library_says(address, base, bits):
    network = ipaddress.ip_network((base, bits), strict=False)
    as_recorded = getattr(address, "ipv4_mapped", None) or address  # a record holds both as the same 16 bytes

    assert (address_bytes(str(address)) in Networks([str(network)])) is (as_recorded in network)


def test_host_bits_in_a_network_are_ignored():
    assert address_bytes("10.9.9.9") in Networks(["10.1.2.3/8"])


def test_a_text_that_is_no_network_is_refused():
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/33"):
        Networks(["10.0.0.0/33"])
