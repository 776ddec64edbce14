"""From a real wire to a subscriber of a real broker, while the attack is going on."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.broker import Subscriber
from tests.bundles import sign, write_refusal_bundle
from tests.capture.wire import Wire, put
from tests.e2e.conftest import TIMEOUT_S, environment
from tests.e2e.scan import CAMERA, SCANNER, chat_frames, scan_frames
from tests.faults.running import LASTING_RING
from tests.flowfeatures.packets import TimedFrame

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_broker]


class Agent(NamedTuple):
    """`penstock run` at work, and its broker's port."""

    process: subprocess.Popen[str]
    port: int


def play(wire: Wire, frames: Sequence[TimedFrame], stop: threading.Event | None = None) -> float:
    """Send frames at their own pace until told to stop; return when the first one went out, by the monotonic clock."""
    began_s, first_us = time.monotonic(), frames[0][0]
    with wire.sender() as sock:
        for at_us, frame in frames:
            time.sleep(max(0.0, began_s + (at_us - first_us) / 1e6 - time.monotonic()))
            if stop is not None and stop.is_set():
                break
            put(sock, frame)
    return began_s


@pytest.fixture
def agent(wire: Wire, command: list[str], broker, tmp_path: Path) -> Iterator[Agent]:
    """Watch the near end of the wire, with a broker beside it."""
    port = broker().start().port
    bundle = sign(write_refusal_bundle(tmp_path / "bundle"), tmp_path / "trust.d")
    arguments = ["--interface", "eth0", "--bundle", str(bundle), "--home-net", "192.168.1.0/24", "--gateway", "cellar"]
    process = subprocess.Popen(
        [*command, "run", *arguments, "--mqtt", f"mqtt://127.0.0.1:{port}", "--eve", "eve.json"],
        cwd=tmp_path,
        env=environment() | {"PENSTOCK_SCORING__TRUST_DIR": str(tmp_path / "trust.d")} | LASTING_RING,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("watching eth0 (ether, ring)" in line for line in iter(process.stderr.readline, ""))
        yield Agent(process, port)
    finally:
        process.kill()


def test_an_attack_on_a_wire_is_told_while_it_goes_on(
    wire: Wire, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    play(wire, chat_frames(times=3, every_s=0.3))
    is_told = threading.Event()
    attack = threading.Thread(target=play, args=(wire, scan_frames(ports=4000, begin_s=0, every_s=0.03), is_told))

    with Subscriber(agent.port).listening() as subscriber:
        began_s = time.monotonic()
        attack.start()
        (first,) = subscriber.next_alerts(1)
        told_s, was_going_on = time.monotonic() - began_s, attack.is_alive()
        is_told.set()
        attack.join()
        agent.process.send_signal(signal.SIGTERM)
        _, said = agent.process.communicate(timeout=TIMEOUT_S)

    with capsys.disabled():
        print(f"\nseconds from the first attack packet to the subscriber: {told_s:.2f}")
    alert = json.loads(first.payload)
    assert (alert["src_ip"], alert["dest_ip"]) == (SCANNER, CAMERA)
    assert was_going_on
    assert agent.process.returncode == 0
    assert ", 0 dropped\n" in said
    last = json.loads((tmp_path / "eve.json").read_text().splitlines()[-1])
    assert last["alert"]["context"]["penstock"]["state"] == "closed"
