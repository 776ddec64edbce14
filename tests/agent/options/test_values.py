"""Values of command-line options."""

from __future__ import annotations

import argparse
import math

import pytest

from agent.options import values as options
from agent.options.mqtt import gateway


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (options.seconds, "0", 0.0),
        (options.seconds, "1.5", 1.5),
        (options.seconds_or_inf, "inf", math.inf),
        (options.speed, "max", None),
        (options.speed, "0.5", 0.5),
        (options.network, "192.168.1.7/24", "192.168.1.0/24"),
        (options.network, "192.168.1.7", "192.168.1.7/32"),
        (options.network, "fd00::/8", "fd00::/8"),
        (gateway, "cellar-2.lan_a", "cellar-2.lan_a"),
    ],
)
def test_is_read(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (options.seconds, "-1"),
        (options.seconds, "inf"),
        (options.seconds, "nan"),
        (options.seconds, "soon"),
        (options.seconds_or_inf, "-inf"),
        (options.speed, "0"),
        (options.speed, "-2"),
        (options.speed, "inf"),
        (options.speed, "nan"),
        (options.speed, "fast"),
        (options.network, "192.168.1.0/33"),
        (options.network, "home"),
        (gateway, ""),
        (gateway, "a/b"),
        (gateway, "#"),
        (gateway, "x" * 65),
    ],
)
def test_is_refused_naming_what_was_seen(read, text):
    with pytest.raises(argparse.ArgumentTypeError, match="wanted") as caught:
        read(text)

    assert repr(text) in str(caught.value)
