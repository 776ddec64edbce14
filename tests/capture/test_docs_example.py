"""The Python of the page on capturing runs as it stands, and tells of what crossed the wire."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from tests.capture.wire import GUARD_S, Wire, datagrams, ip

PAGE = Path(__file__).parents[2] / "docs" / "capture.md"


def send_when_heard(wire: Wire, frames: list[bytes]) -> None:
    """Send once somebody captures at the near end, which the interface's promiscuity shows."""
    until_s = time.monotonic() + GUARD_S
    while "promiscuity 1 " not in ip("-n", wire.near, "-d", "link", "show", "dev", "eth0"):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    wire.send(frames)


@pytest.mark.needs_root
def test_the_example_of_the_page_accounts_for_every_frame(wire: Wire, capsys: pytest.CaptureFixture[str]):
    [example] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    sender = threading.Thread(target=send_when_heard, args=(wire, datagrams(200, flows=20)))

    sender.start()
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    sender.join()

    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["20 flows left", "[]"]
    assert {"interface: eth0 (veth)", "read: 200", "dropped by the kernel: 0 (ring full 0 times)"} <= set(said)
