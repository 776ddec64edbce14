"""Community IDs against the specification's published values and an implementation of our own in plain Python."""

import numpy as np
import pytest

from flowfeatures import RECORD, address_bytes, community_id
from tests.oracle import community as oracle


def record(src: str, src_port: int, dst: str, dst_port: int, proto: int) -> np.void:
    """Return a record with these ends."""
    row = np.zeros(1, RECORD)[0]
    row["src"], row["dst"] = list(address_bytes(src)), list(address_bytes(dst))
    row["src_port"], row["dst_port"], row["proto"] = src_port, dst_port, proto
    row["ip_version"] = 6 if ":" in src else 4
    return row


# From the baseline files of corelight/community-id-spec.
PUBLISHED = [
    (("128.232.110.120", 34855, "66.35.250.204", 80, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (("192.168.1.52", 54585, "8.8.8.8", 53, 17), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
]


@pytest.mark.parametrize(("flow", "expected"), PUBLISHED)
def test_the_published_values_come_out(flow: tuple, expected: str):
    assert community_id(record(*flow)) == expected


@pytest.mark.parametrize(("flow", "expected"), PUBLISHED)
def test_both_directions_of_a_flow_have_one_id(flow: tuple, expected: str):
    src, src_port, dst, dst_port, proto = flow

    assert community_id(record(dst, dst_port, src, src_port, proto)) == expected


@pytest.mark.parametrize(
    "flow",
    [
        ("10.0.0.1", 5000, "10.0.0.1", 53, 17),
        ("2001:db8::1", 40000, "2001:db8::2", 443, 6),
        ("9.0.0.1", 0, "10.0.0.1", 0, 47),
        ("fe80::1", 0, "ff02::1", 0, 103),
    ],
)
def test_the_engine_agrees_with_the_oracle(flow: tuple):
    src, src_port, dst, dst_port, proto = flow

    expected = oracle.community_id(
        address_bytes(src), address_bytes(dst), src_port=src_port, dst_port=dst_port, proto=proto
    )

    assert community_id(record(*flow)) == expected
